"""What is attached to an image: small documents, each in an artifact manifest that names its subject.

The forms are those of OCI 1.1: the artifact manifest of image-spec (manifest.md, "Guidelines for artifact
usage") and the list of referrers of distribution-spec, an image index. Pure functions of their arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from afenv import canonical
from afenv.digest import PATTERN, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.config_form import check_manifest, parsed
from afenv.oci.model import Blobs, Descriptor
from afenv.record import field, record

EMPTY = b"{}"
EMPTY_DIGEST = sha256_bytes(EMPTY)
LARGEST = 64 << 20  # bytes; an attachment larger than this is refused
MANIFEST_LIMIT = 4 << 20  # bytes; registries take no larger manifests


@record
class Attachment:
    """A document that belongs to an image; ``title`` is the name of a file for it."""

    artifact_type: str
    media_type: str
    title: str
    content: bytes
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return sha256_bytes(self.content)


def artifact_manifest(subject: Descriptor, attachment: Attachment) -> bytes:
    """The manifest that ties an attachment to the image with that descriptor."""
    return canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_MANIFEST,
            "artifactType": attachment.artifact_type,
            "config": {"mediaType": media.EMPTY, "digest": EMPTY_DIGEST, "size": len(EMPTY)},
            "layers": [
                {
                    "mediaType": attachment.media_type,
                    "digest": attachment.digest,
                    "size": len(attachment.content),
                    "annotations": {media.TITLE: attachment.title},
                }
            ],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
            **({"annotations": dict(attachment.annotations)} if attachment.annotations else {}),
        }
    )


def listed(manifest: bytes) -> dict[str, Any]:
    """The descriptor by which a list of referrers names an artifact manifest."""
    value = json.loads(manifest)
    entry: dict[str, Any] = {
        "mediaType": value.get("mediaType", media.IMAGE_MANIFEST),
        "digest": sha256_bytes(manifest),
        "size": len(manifest),
        "artifactType": value.get("artifactType") or value["config"]["mediaType"],
    }
    if value.get("annotations"):
        entry["annotations"] = value["annotations"]
    return entry


def referrers_index(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """A list of referrers: an image index of these descriptors, each once, in their order."""
    unique = {entry["digest"]: dict(entry) for entry in entries}
    return canonical.compact(
        {"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": list(unique.values())}
    )


def read_index(data: bytes, place: str) -> list[dict[str, Any]]:
    """The descriptors in a list of referrers; E510 if it is not an image index.

    Some registries answer the tag of the list with the image itself, so its type is looked at.
    """
    try:
        value = json.loads(data)
        entries = value["manifests"]
        if value.get("mediaType", media.IMAGE_INDEX) != media.IMAGE_INDEX or "layers" in value:
            raise ValueError
        good = isinstance(entries, list) and all(
            isinstance(one, dict) and PATTERN.match(str(one.get("digest"))) for one in entries
        )
        if not good:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AfenvError("E510", "this is not a list of referrers", place=place) from None
    found: list[dict[str, Any]] = entries
    return found


def content_descriptor(manifest: bytes, subject: str, place: str) -> Descriptor:
    """The one blob of an artifact manifest about ``subject`` (a digest); E510 if it is none."""
    try:
        value = parsed(manifest)
        check_manifest(value)
        if value["subject"]["digest"] != subject:
            raise AfenvError("E510", f"this is attached to {value['subject']['digest']}", place=place)
        (layer,) = value["layers"]
        found = Descriptor(
            media_type=layer["mediaType"],
            digest=layer["digest"],
            size=layer["size"],
            annotations=dict(layer.get("annotations") or {}),
        )
        if not PATTERN.match(found.digest) or not 0 <= found.size <= LARGEST:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise AfenvError(
            "E510", "this artifact manifest does not have the form expected", place=place
        ) from None
    return found


def attachment_from(manifest: bytes, content: bytes, subject: str, place: str) -> Attachment:
    """The attachment of an artifact manifest, with its content checked; E301 if that is another."""
    descriptor = content_descriptor(manifest, subject, place)
    if sha256_bytes(content) != descriptor.digest:
        raise AfenvError("E301", f"{descriptor.digest} has another content", place=place)
    value = json.loads(manifest)
    return Attachment(
        artifact_type=str(value.get("artifactType") or value["config"].get("mediaType")),
        media_type=descriptor.media_type,
        title=str(descriptor.annotations.get(media.TITLE) or ""),
        content=content,
        annotations={str(key): str(text) for key, text in (value.get("annotations") or {}).items()},
    )


def attachment_blobs(subject: Descriptor, attachments: Sequence[Attachment]) -> tuple[str, dict[str, bytes]]:
    """What a layout holds for its attachments: the digest of the list, and all blobs by digest."""
    manifests = [artifact_manifest(subject, one) for one in attachments]
    index = referrers_index(map(listed, manifests))
    blobs = {EMPTY_DIGEST: EMPTY, sha256_bytes(index): index}
    blobs |= {sha256_bytes(one): one for one in manifests}
    blobs |= {one.digest: one.content for one in attachments}
    return sha256_bytes(index), blobs


def read_attachments(index: bytes, blobs: Blobs, subject: str, place: str) -> list[Attachment]:
    """The attachments of a layout, from the bytes of its ``index.json``; empty where there are none.

    E301 for a digest that does not match, E510 for what does not have the form expected.
    """
    notes = json.loads(index).get("annotations")
    name = notes.get(media.ATTACHMENTS) if isinstance(notes, dict) else None
    if not name:
        return []
    entries = read_index(_checked(blobs, str(name), MANIFEST_LIMIT, place), place)
    found = []
    for entry in entries:
        manifest = _checked(blobs, entry["digest"], MANIFEST_LIMIT, place)
        descriptor = content_descriptor(manifest, subject, place)
        content = _checked(blobs, descriptor.digest, LARGEST, place)
        found.append(attachment_from(manifest, content, subject, place))
    return found


def _checked(blobs: Blobs, digest: str, limit: int, place: str) -> bytes:
    if not PATTERN.match(digest):
        raise AfenvError("E510", f"{digest!r} is not a sha256 digest", place=place)
    with blobs.open(digest) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise AfenvError("E510", f"{digest} is larger than {limit >> 20} MiB", place=place)
    if sha256_bytes(data) != digest:
        raise AfenvError("E301", f"{digest} has another content", place=place)
    return data
