"""The record of an image in a registry: what its manifest, its config and its attachments say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.catalogue.record import Form, ImageRecord, Metadata, Origin
from afenv.catalogue.record_tree import check_record, record_tree
from afenv.catalogue.shape import Misshapen
from afenv.errors import AfenvError
from afenv.facility.binaries import with_binaries
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.record import record, replace, values_of
from afenv.workflow.check import declared_before, declared_of, needs_of_config, with_layers

if TYPE_CHECKING:
    from afenv.facility.binaries import Declared
    from afenv.oci.model import Image
    from afenv.oci.registries import Registry, RemoteImage
    from afenv.store.content import ContentStore

KINDS = {
    media.LOCK: "lock",
    media.ANALYSIS_MANIFEST: "manifest",
    media.SPDX: "sbom",
    media.IN_TOTO: "provenance",
    media.SIGSTORE_BUNDLE: "signature",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@record
class Beside:
    """Other forms of the image: the reference of a SIF, the path on CVMFS."""

    sif: str | None = None
    cvmfs: str | None = None


def record_of_image(
    registry: Registry,
    reference: str,
    store: ContentStore,
    *,
    time: str,
    platform: str | None = None,
    content: bool = False,
    beside: Beside | None = None,
    quiet: bool = False,
) -> ImageRecord:
    """The record of the image that a reference names now.

    With ``content`` the image is pulled and its programs are read; without, what this machine read of these
    layers before is used. E510 for what is no image; E601 to E604 and E201 from the registry.
    """
    from afenv.oci.referrers import fetch_attachments
    from afenv.workflow.remote import remote_image

    remote = registry.resolve(reference, platform=platform, quiet=quiet)
    image = remote_image(remote)
    with registry.repository(remote.reference, actions="pull", quiet=quiet) as repository:
        attachments = fetch_attachments(repository, image.manifest_digest)
    declared = declared_before(image, store)
    if declared is None and content:
        declared = _pulled(registry, remote, store, quiet)
    return make_record(remote, image, attachments, declared, _other_forms(registry, beside, quiet), time=time)


def _pulled(registry: Registry, remote: RemoteImage, store: ContentStore, quiet: bool) -> Declared:
    from afenv.oci.read import OpenedImage

    image = registry.pull(remote.reference, store, quiet=quiet)
    return declared_of(OpenedImage(image=image, blobs=store, path=Path(remote.reference)), store, quiet)


def _other_forms(registry: Registry, beside: Beside | None, quiet: bool) -> list[Form]:
    found = []
    if beside is not None and beside.sif is not None:
        remote = registry.resolve(beside.sif, quiet=quiet)
        layers = remote.document().get("layers") or [{}]
        if layers[0].get("mediaType") != media.SIF_LAYER:
            raise AfenvError("E510", "this is no SIF", place=beside.sif)
        found.append(
            Form(form="sif", reference=_tagged(remote), digest=remote.digest, size=layers[0].get("size"))
        )
    if beside is not None and beside.cvmfs is not None:
        found.append(Form(form="cvmfs", path=beside.cvmfs.rstrip("/")))
    return found


def _tagged(remote: RemoteImage) -> str:
    return remote.reference.partition("@")[0]


def make_record(
    remote: RemoteImage,
    image: Image,
    attachments: Sequence[Attachment],
    declared: Declared | None,
    others: Sequence[Form],
    *,
    time: str,
) -> ImageRecord:
    """The record of an image of which everything was read; E622 if no record can be made of what it says."""
    config = image.configuration()
    labels = {key: str(text) for key, text in ((config.get("config") or {}).get("Labels") or {}).items()}
    reference = _tagged(remote)
    locks = [one for one in attachments if one.artifact_type == media.LOCK]
    lock = _lock_of(locks, labels, reference)
    name = _line(labels.get(media.ANALYSIS)) or reference.rpartition("/")[2].partition(":")[0]
    environment = _line(labels.get(media.ENVIRONMENT)) or "default"
    needs = with_layers(needs_of_config(config, lock, name), image)
    if declared is not None:
        needs = with_binaries(needs, declared)
    oci = Form(form="oci", reference=reference, digest=image.manifest_digest, size=needs.size)
    forms = (oci, *others)
    names = image.platform()
    found = ImageRecord(
        name=name,
        environment=environment,
        version=_line(labels.get(f"{media.OCI_PREFIX}version")),
        reference=reference,
        digest=image.manifest_digest,
        image_id=image.image_id,
        platform="/".join(names[key] for key in ("os", "architecture", "variant") if key in names) or None,
        added=time,
        forms=forms,
        needs=replace(
            needs,
            name=name if environment == "default" else f"{name}:{environment}",
            forms=tuple(dict.fromkeys("oci" if one.form == "cvmfs" else one.form for one in forms)),
            registry=reference.partition("/")[0],
            unpacked_at=next((one.path for one in forms if one.path), None),
        ),
        attached={KINDS[one.artifact_type]: one.digest for one in attachments if one.artifact_type in KINDS},
        metadata=_metadata(lock.metadata if lock is not None else {}, labels),
        origin=_origin(attachments, labels, config),
    )
    try:
        check_record(record_tree(found))
    except Misshapen as error:
        message = f"no record can be made of it: {error.message}"
        raise AfenvError("E622", message, place=reference, path=error.path or None) from None
    return found


def _lock_of(locks: Sequence[Attachment], labels: Mapping[str, str], reference: str) -> Any:
    """The lock that the image was built from: of several, the one that its labels say."""
    from afenv.documents.lockfile import parse_lock
    from afenv.oci.image import inputs_digest

    fallback = None
    for one in locks:
        lock = parse_lock(one.content, f"{reference}, attached lock")
        environment = lock.environments.get(labels.get(media.ENVIRONMENT, ""))
        if environment is None:
            continue
        if inputs_digest(lock, environment) == labels.get(media.INPUTS):
            return lock
        fallback = fallback or lock
    return fallback


def _line(text: Any) -> str | None:
    """A text on one line, as far as it goes; None if nothing is left."""
    return _CONTROL.sub(" ", str(text or "")).strip()[:1000] or None


def _metadata(known: Mapping[str, Any], labels: Mapping[str, str]) -> Metadata:
    def said(key: str, label: str) -> str | None:
        return _line(known.get(key) or labels.get(media.OCI_PREFIX + label))

    url = said("url", "url")
    authors = [one.get("name") if isinstance(one, Mapping) else one for one in known.get("authors") or ()]
    return Metadata(
        title=said("title", "title"),
        description=said("description", "description"),
        license=said("license", "licenses"),
        url=url if url and re.fullmatch(r"https?://[^\s\"<>\\^`{|}]+", url) else None,
        authors=tuple(filter(None, map(_line, authors))),
        keywords=tuple(filter(None, map(_line, known.get("keywords") or ()))),
    )


def _origin(
    attachments: Sequence[Attachment], labels: Mapping[str, str], config: Mapping[str, Any]
) -> Origin:
    """What the provenance says; else what the labels say of the code."""
    facts = Origin(
        created=_time(config.get("created")),
        source=_line(labels.get(f"{media.OCI_PREFIX}source")),
        commit=_commit(labels.get(f"{media.OCI_PREFIX}revision")),
    )
    for one in attachments:
        if one.artifact_type != media.IN_TOTO:
            continue
        from afenv.attest.facts import Facts

        try:
            said = Facts(provenance=json.loads(one.content).get("predicate") or {})
            code = next((entry for entry in said.code if entry["commit"]), None) or {}
            facts = replace(
                facts,
                builder=_line(said.builder),
                source=_line(code.get("uri")) or facts.source,
                commit=_commit(code.get("commit")) or facts.commit,
                dirty=bool(code.get("dirty")),
            )
        except (ValueError, AttributeError, TypeError, RecursionError):
            continue  # damaged: nothing is concluded from it
    return facts


def _time(text: Any) -> str | None:
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z\Z", str(text or ""))
    return f"{match[1]}Z" if match else None


def _commit(text: Any) -> str | None:
    return str(text) if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", str(text or "")) else None


def same_image(one: ImageRecord, other: ImageRecord) -> bool:
    """Whether two records say the same but for when."""
    ignored = ("added", "checked")
    return all(
        values_of(one)[name] == values_of(other)[name] for name in values_of(one) if name not in ignored
    )
