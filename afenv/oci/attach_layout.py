"""Attachments of a layout on disk: read, and added."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment, attachment_blobs, read_attachments
from afenv.oci.blobs import FolderBlobs
from afenv.oci.model import Image
from afenv.store.content import write_error


def layout_attachments(folder: Path, manifest_digest: str) -> list[Attachment]:
    """What a layout folder carries for the image with that manifest; empty if it holds another image."""
    try:
        index = (folder / "index.json").read_bytes()
        value = json.loads(index)
        held = {one.get("digest") for one in value["manifests"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    if manifest_digest not in held:
        return []
    return read_attachments(index, FolderBlobs(folder), manifest_digest, str(folder))


def add_to_layout(folder: Path, image: Image, attachments: Sequence[Attachment]) -> int:
    """Add attachments to those of a layout; how many were new. E032 if it is no folder, E402, E403."""
    if not folder.is_dir():
        raise AfenvError("E032", "attachments can be added to a layout that is a folder", place=str(folder))
    before = layout_attachments(folder, image.manifest_digest)
    known = {(one.artifact_type, one.digest) for one in before}
    new = [one for one in attachments if (one.artifact_type, one.digest) not in known]
    if not new:
        return 0
    listed, blobs = attachment_blobs(image.manifest_descriptor(), [*before, *new])
    try:
        index = json.loads((folder / "index.json").read_bytes())
        index["annotations"] = (index.get("annotations") or {}) | {media.ATTACHMENTS: listed}
        _write(folder, blobs, canonical.compact(index))
    except OSError as error:
        raise write_error(error, folder) from error
    return len(new)


def _write(folder: Path, blobs: Mapping[str, bytes], index: bytes) -> None:
    for digest, data in blobs.items():
        _replace(folder / "blobs" / "sha256" / hex_of(digest), data)
    _replace(folder / "index.json", index)


def _replace(target: Path, data: bytes) -> None:
    beside = target.with_name(f".afenv-{os.urandom(8).hex()}")
    try:
        beside.write_bytes(data)
        beside.chmod(0o644)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
