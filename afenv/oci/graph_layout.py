"""Layouts with more than one image: those of several platforms, as a registry's index has them."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.graph import Graph, check_descriptor, checked_member, walk
from afenv.oci.layout import OCI_LAYOUT, TEMPORARY
from afenv.oci.model import Blobs
from afenv.oci.read import INDEXES, SMALL, open_index
from afenv.oci.registries import RemoteManifest
from afenv.store.content import ContentStore, write_error


@contextlib.contextmanager
def open_graph(path: Path) -> Iterator[tuple[Graph, Blobs] | None]:
    """The images for several platforms in a layout or ``oci-archive``; None if there are not several.

    A layout that holds one index holds that; one whose ``index.json`` names images for different platforms
    itself is taken for an index of these. E301, E302, E510, E602.
    """
    with open_index(path) as (content, blobs):
        root = _root(content, blobs, path)
        if root is None:
            yield None
            return
        yield walk(root, lambda descriptor: _member(blobs, descriptor)), blobs


def _member(blobs: Blobs, descriptor: Mapping[str, Any]) -> RemoteManifest:
    with blobs.open(descriptor["digest"]) as file:
        return checked_member(file.read(SMALL), descriptor)


def _root(content: bytes, blobs: Blobs, path: Path) -> RemoteManifest | None:
    try:
        entries = json.loads(content)["manifests"]
        for one in entries:
            check_descriptor(one, str(path))
    except (ValueError, KeyError, TypeError):
        raise AfenvError("E510", "its index.json is not an image index", place=str(path)) from None
    if len(entries) == 1:
        return _member(blobs, entries[0]) if entries[0].get("mediaType") in INDEXES else None
    platforms = [canonical.compact(one.get("platform") or {}) for one in entries]
    if len(entries) < 2 or len(set(platforms)) < len(platforms) or b"{}" in platforms:
        return None
    named = ("mediaType", "digest", "size", "platform")
    index = {
        "schemaVersion": 2,
        "mediaType": media.IMAGE_INDEX,
        "manifests": [{key: one[key] for key in named if key in one} for one in entries],
    }
    return RemoteManifest(content=canonical.compact(index), media_type=media.IMAGE_INDEX)


def write_graph(graph: Graph, store: ContentStore, folder: Path, name: str) -> None:
    """Make ``folder``, which must not exist or be empty, a layout of the graph, under ``name``.

    Blobs are hard links into the store where the file system allows it. E032, E305, E402, E403.
    """
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise AfenvError("E032", "this exists already", place=str(folder))
    descriptor = {
        "mediaType": graph.root.media_type,
        "digest": graph.root.digest,
        "size": len(graph.root.content),
        "annotations": {media.REF_NAME: name},
    }
    index = {"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": [descriptor]}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}{TEMPORARY}"))
        try:
            blobs = beside / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            for digest in (*graph.blobs, *graph.manifests()):
                store.link_or_copy(digest, blobs / hex_of(digest))
            (beside / "oci-layout").write_bytes(OCI_LAYOUT)
            (beside / "index.json").write_bytes(canonical.compact(index))
            beside.chmod(0o755)
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise write_error(error, folder) from error
