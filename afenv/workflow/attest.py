"""What belongs to an image that was built: lock, manifest, bill of materials and provenance.

They are made from the lock and the image alone, so a build that is repeated makes the same bytes. Licences
that only wheels state are remembered in the store when their archives, or else their layers, are first read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv.attest.licenses import learn_from_layers, wheel_licenses
from afenv.attest.provenance import builder_identity, provenance
from afenv.attest.spdx import sbom
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
    lock_bytes, manifest_bytes = project.lock_path.read_bytes(), project.manifest_path.read_bytes()
    documents = [_attachment(media.LOCK, lock_bytes), _attachment(media.ANALYSIS_MANIFEST, manifest_bytes)]
    created = str(image.configuration()["created"])
    environment = lock.environments[name]
    stated = wheel_licenses(environment, project.store, licenses)
    if len(stated) < len(environment.wheels):  # their archives were removed from the store
        stated |= learn_from_layers(environment, image, project.store, stated)
    materials = sbom(lock, name, image.image_id, created, stated)
    statement = provenance(
        lock,
        name,
        manifest_digest=image.manifest_digest,
        image_id=image.image_id,
        created=created,
        documents={one.title: one.digest for one in documents},
        byproducts={TITLES[media.SPDX]: sha256_bytes(materials)},
        builder=builder_identity(os.environ),
        target=target,
    )
    return [*documents, _attachment(media.SPDX, materials), _attachment(media.IN_TOTO, statement)]


def with_signatures(path: Path, image: Image, attachments: Sequence[Attachment]) -> list[Attachment]:
    """These attachments, and the signatures that the layout at ``path`` has for the same image already."""
    try:
        if image.manifest_digest.encode() not in (path / "index.json").read_bytes():
            return list(attachments)
    except OSError:
        return list(attachments)
    from afenv.oci.attach_layout import layout_attachments

    try:
        known = layout_attachments(path, image.manifest_digest)
    except AfenvError:  # a damaged layout is written anew
        known = []
    kept = [one for one in known if one.artifact_type == media.SIGSTORE_BUNDLE]
    return [*attachments, *kept]
