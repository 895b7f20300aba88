"""What belongs to an image that was built: lock, manifest, bill of materials and provenance.

They are made from the lock and the image alone, so a build that is repeated makes the same bytes. Licences
that only the archives of wheels state are remembered in the store when they are first read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import afenv
from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import Lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.model import Image
from afenv.workflow.project import Project

TITLES = {
    media.LOCK: "afenv.lock",
    media.ANALYSIS_MANIFEST: "afenv.yaml",
    media.SPDX: "sbom.spdx.json",
    media.IN_TOTO: "provenance.json",
}
KIND = "attachments"


def _attachment(kind: str, content: bytes) -> Attachment:
    return Attachment(artifact_type=kind, media_type=kind, title=TITLES[kind], content=content)


def attachments_of(
    project: Project,
    lock: Lock,
    name: str,
    image: Image,
    *,
    target: str = "oci",
    licenses: Mapping[str, str] | None = None,
) -> list[Attachment]:
    """The documents to attach to the image of an environment, from the project's files.

    ``licenses`` gives the licences of wheels (by sha256) whose archives are not in the store.
    """
    from afenv.attest.provenance import builder_identity

    lock_bytes, manifest_bytes = project.lock_path.read_bytes(), project.manifest_path.read_bytes()
    builder = builder_identity(os.environ)
    inputs = [
        afenv.__version__,
        sha256_bytes(lock_bytes),
        sha256_bytes(manifest_bytes),
        name,
        image.manifest_digest,
        image.image_id,
        builder,
        target,
    ]
    key = sha256_bytes(canonical.compact(inputs))
    known = project.store.load_key(KIND, key)
    documents = [_attachment(media.LOCK, lock_bytes), _attachment(media.ANALYSIS_MANIFEST, manifest_bytes)]
    if isinstance(known, list) and all(project.store.trusted(digest) for digest in known):
        kinds = (media.SPDX, media.IN_TOTO)
        made = [project.store.read(digest) for digest in known]
        return documents + [_attachment(kind, data) for kind, data in zip(kinds, made, strict=True)]
    sbom, provenance = _make(project, lock, name, image, documents, builder, target, licenses)
    project.store.save_key(KIND, key, [project.store.put(sbom), project.store.put(provenance)])
    return [*documents, _attachment(media.SPDX, sbom), _attachment(media.IN_TOTO, provenance)]


def with_signatures(path: Path, image: Image, attachments: Sequence[Attachment]) -> list[Attachment]:
    """These attachments, and the signatures that the layout at ``path`` has for the same image already."""
    from afenv.oci.attach_layout import layout_attachments

    try:
        known = layout_attachments(path, image.manifest_digest)
    except AfenvError:  # a damaged layout is written anew
        known = []
    kept = [one for one in known if one.artifact_type == media.SIGSTORE_BUNDLE]
    return [*attachments, *kept]


def _make(
    project: Project,
    lock: Lock,
    name: str,
    image: Image,
    documents: list[Attachment],
    builder: str,
    target: str,
    licenses: Mapping[str, str] | None,
) -> tuple[bytes, bytes]:
    from afenv.attest.licenses import wheel_licenses
    from afenv.attest.provenance import provenance
    from afenv.attest.spdx import sbom

    created = str(image.configuration()["created"])
    stated = wheel_licenses(lock.environments[name], project.store, licenses)
    materials = sbom(lock, name, image.image_id, created, stated)
    statement = provenance(
        lock,
        name,
        manifest_digest=image.manifest_digest,
        image_id=image.image_id,
        created=created,
        documents={one.title: one.digest for one in documents},
        byproducts={TITLES[media.SPDX]: sha256_bytes(materials)},
        builder=builder,
        target=target,
    )
    return materials, statement
