"""OCI image layout folders, written from the content store.

A layout is ``oci-layout``, ``index.json`` and ``blobs/sha256/…`` (OCI image specification 1.1,
image-layout.md). ``index.json`` is written last and replaced in one step, so a reader sees the old image
or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from afenv import canonical
from afenv.digest import hex_of, sha256_bytes, sha256_file
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.model import Image, ImageLayer
from afenv.store.content import ContentStore, write_error

if TYPE_CHECKING:
    from afenv.oci.attached import Attachment

OCI_LAYOUT = canonical.compact({"imageLayoutVersion": "1.0.0"})
LAYOUT_VERSION = "1"
TEMPORARY = ".afenv-"  # a file or folder being written; what a killed process leaves is removed later
OUR_NAMES = frozenset({"oci-layout", "index.json", "blobs"})


def index_bytes(image: Image, reference: str | None = None, attachments: str | None = None) -> bytes:
    """``index.json`` of a layout that holds this image alone, under ``reference`` (default: its own).

    ``attachments`` is the digest of the list of what is attached to the image.
    """
    name = image.reference if reference is None else reference
    descriptor = image.manifest_descriptor().as_json() | {"platform": image.platform()}
    if name:
        descriptor["annotations"] = {media.REF_NAME: name}
    return canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_INDEX,
            "manifests": [descriptor],
            "annotations": {media.LAYOUT: LAYOUT_VERSION}
            | ({media.ATTACHMENTS: attachments} if attachments else {}),
        }
    )


def small_blobs(
    image: Image, reference: str | None, attachments: Sequence[Attachment]
) -> tuple[bytes, dict[str, bytes]]:
    """``index.json``, and every blob but the layers by its digest."""
    small = {image.image_id: image.config, image.manifest_digest: image.manifest}
    if not attachments:
        return index_bytes(image, reference), small
    from afenv.oci.attached import attachment_blobs

    listed, attached = attachment_blobs(image.manifest_descriptor(), attachments)
    return index_bytes(image, reference, listed), small | attached


def _is_ours(folder: Path) -> bool:
    """Whether the folder is empty or a layout that afenv wrote, with nothing else in it."""
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return True
    if any(name not in OUR_NAMES and not name.startswith(TEMPORARY) for name in names):
        return False
    try:
        index = json.loads((folder / "index.json").read_bytes())
        return media.LAYOUT in index["annotations"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def is_current(
    image: Image,
    store: ContentStore,
    folder: Path,
    *,
    reference: str | None = None,
    attachments: Sequence[Attachment] = (),
) -> bool:
    """Whether the folder already holds exactly this image, with these attachments.

    A blob is believed if it is the store's own file, or has its size on another file system; another
    file on the store's file system is hashed.
    """
    return _is_current(image, store, folder, *small_blobs(image, reference, attachments))


def _is_current(
    image: Image, store: ContentStore, folder: Path, index: bytes, small: Mapping[str, bytes]
) -> bool:
    try:
        if (folder / "index.json").read_bytes() != index:
            return False
        if (folder / "oci-layout").read_bytes() != OCI_LAYOUT:
            return False
        with os.scandir(folder / "blobs" / "sha256") as entries:
            found = {"sha256:" + entry.name: entry for entry in entries}
        if found.keys() != {*small, *(layer.digest for layer in image.layers)}:
            return False
        if any(Path(found[digest]).read_bytes() != data for digest, data in small.items()):
            return False
        return all(_is_whole(found[layer.digest], layer, store) for layer in image.layers)
    except OSError:
        return False


def _is_whole(entry: os.DirEntry[str], layer: ImageLayer, store: ContentStore) -> bool:
    status = entry.stat()
    if status.st_size != layer.size:
        return False
    try:
        own = store.path(layer.digest).stat()
    except OSError:
        return False
    if (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino) or own.st_dev != status.st_dev:
        return True
    return sha256_file(Path(entry)) == layer.digest


def _write_blobs(image: Image, store: ContentStore, folder: Path, small: Mapping[str, bytes]) -> None:
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    with os.scandir(blobs) as entries:
        found = {"sha256:" + entry.name: entry for entry in entries}
    for layer in image.layers:
        entry = found.get(layer.digest)
        if entry is not None and _is_whole(entry, layer, store):
            continue
        if not store.has(layer.digest, layer.size):
            raise AfenvError("E305", f"the content store lacks {layer.digest}", place=str(store.folder))
        store.link_or_copy(layer.digest, blobs / hex_of(layer.digest))
    for digest, data in small.items():
        _replace(blobs / hex_of(digest), data)


def _replace(target: Path, data: bytes) -> None:
    beside = target.parent / f"{TEMPORARY}{os.urandom(8).hex()}"
    try:
        with beside.open("xb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _update(
    image: Image, store: ContentStore, folder: Path, index: bytes, small: Mapping[str, bytes]
) -> None:
    _write_blobs(image, store, folder, small)
    _replace(folder / "oci-layout", OCI_LAYOUT)
    _replace(folder / "index.json", index)
    wanted = {hex_of(layer.digest) for layer in image.layers} | {hex_of(one) for one in small}
    left_over = [entry for entry in (folder / "blobs" / "sha256").iterdir() if entry.name not in wanted]
    for entry in (*left_over, *folder.glob(f"{TEMPORARY}*")):
        entry.unlink()


def _create(
    image: Image, store: ContentStore, folder: Path, index: bytes, small: Mapping[str, bytes]
) -> None:
    """Write the layout beside ``folder``, which does not exist or is empty, and rename it."""
    import glob
    import shutil
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}{TEMPORARY}"
    for left_over in folder.parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
    try:
        _update(image, store, beside, index, small)
        beside.chmod(0o755)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def write_layout(
    image: Image,
    store: ContentStore,
    folder: Path,
    *,
    reference: str | None = None,
    attachments: Sequence[Attachment] = (),
) -> bool:
    """Make ``folder`` a layout that holds exactly this image; tell whether anything was written.

    ``attachments`` go with it: their list is a blob that ``index.json`` names in an annotation, so that
    tools that look for images find one.

    Blobs are hard links into the store where the file system allows it. A layout that afenv wrote
    earlier is updated; E032 if the folder holds anything else, E305 if the store lacks a layer, E402 or
    E403 if it cannot be written.
    """
    index, small = small_blobs(image, reference, attachments)
    if _is_current(image, store, folder, index, small):
        return False
    folder = folder.absolute()
    try:
        with store.lock("layout-" + hex_of(sha256_bytes(os.fsencode(folder)))[:16]):
            if folder.is_symlink() or folder.exists():
                if not folder.is_dir() or not _is_ours(folder):
                    raise AfenvError(
                        "E032", "this is not an image layout that afenv wrote", place=str(folder)
                    )
                if (folder / "index.json").exists():
                    _update(image, store, folder, index, small)
                    return True
            _create(image, store, folder, index, small)
    except OSError as error:
        raise write_error(error, folder) from error
    return True
