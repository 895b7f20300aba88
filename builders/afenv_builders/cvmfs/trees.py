"""What is published of an image: the nodes of its flat tree, and of each of its layers.

An ordinary publisher must be able to write it and every user to read it as far as the image lets them, so

- files are readable and writable by their owner (``|0600``), folders usable (``|0700``);
- set-user-ID and set-group-ID bits of files are dropped: in a shared folder they would be the publisher's;
- devices, extended attributes, and names that CVMFS takes for its own are left out.

Everything else stays: content, links, other modes, times, and owners where the target keeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from afenv import canonical
from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER, HARD_LINK
from afenv.oci.merge import Index, NeedsIndexError, TarLayers, merged_members
from afenv.oci.model import ImageLayer
from afenv.oci.read import OpenedImage
from afenv.oci.sif_record import TREE_RECORD, SifRecord
from afenv.oci.tar_node import DEVICES, Node, file_node, folder_node, node_of
from afenv.oci.tar_stream import TarStream, chunks_of
from afenv_builders.apptainer import runtime_files
from afenv_builders.apptainer.builder import image_time
from afenv_builders.cvmfs.names import CATALOGUE, LONGEST, RESERVED

LAYERFS = b"layerfs"
NOTES = b".metadata"  # of a layer
LONGEST_PATH = 3900  # bytes; PATH_MAX without what stands before
_SET_ID = 0o6000

Indexes = Mapping[int, Index]
Note = Callable[[str], None]


def published(nodes: Iterable[Node], note: Note) -> Iterator[Node]:
    """The nodes as they are published; ``note`` is told what is left out. E537 for a long name."""
    gone: set[bytes] = set()
    for node in nodes:
        name = node.path.rpartition(b"/")[2]
        if len(name) > LONGEST or len(node.path) > LONGEST_PATH:
            raise AfenvError("E537", f"the path {_text(node.path[:80])}… has {len(node.path)} bytes")
        if node.kind in DEVICES:
            note(f"{_text(node.path)}: a device")
        elif name in RESERVED:
            note(f"{_text(node.path)}: CVMFS has another use for that name")
        elif node.kind == HARD_LINK and node.target in gone:
            note(f"{_text(node.path)}: a link to {_text(node.target)}, which is left out")
        else:
            if node.attributes:
                note(f"{_text(node.path)}: its extended attributes")
            if node.kind == FILE and node.mode & _SET_ID:
                note(f"{_text(node.path)}: its set-user-ID or set-group-ID bit")
            node.mode = published_mode(node.kind, node.mode)
            yield node
            continue
        gone.add(node.path)


def published_mode(kind: bytes, mode: int) -> int:
    """The mode with which a file or folder is published."""
    if kind == FOLDER:
        return mode | 0o700
    return (mode | 0o600) & ~_SET_ID


def flat_tree(
    opened: OpenedImage, indexes: Indexes, note: Note, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Node]:
    """The flat tree: the catalogue's mark, the merged layers with Apptainer's files, and last the record
    of what it is (:data:`~afenv.oci.sif_record.TREE_RECORD`), which says that the tree is complete."""
    image = replace(opened.image, name="", tag="")  # the tree is found by the image ID
    record = SifRecord(image=image, tool="afenv", compressor="none")
    time = image_time(image)
    yield file_node(CATALOGUE.encode(), b"", time)
    members = merged_members(
        TarLayers(opened, advance),
        first=runtime_files.first_members(image, record, time),
        last=lambda present: runtime_files.last_members(present, time),
        indexes=indexes,
    )
    last: Node | None = None
    for node in published(map(node_of, members), note):
        if node.path == TREE_RECORD.encode():
            last = file_node(node.path, b"".join(node.data()), time)
        else:
            yield node
    assert last is not None  # it is among the first members
    yield last


def layer_tree(
    opened: OpenedImage, position: int, indexes: Indexes, note: Note, origin: bytes
) -> Iterator[Node]:
    """The folder of one layer: its files below ``layerfs``, whiteouts as they are, and then its notes.

    ``origin`` is the text of ``origin.json``. E301 if the layer has another content than the image says,
    E304 for a path that leads upwards.
    """
    layer = opened.image.layers[position]
    yield folder_node(LAYERFS, 0)
    yield file_node(LAYERFS + b"/" + CATALOGUE.encode(), b"", 0)
    counted = _Counted()
    with opened.layer(position) as stream, closing(chunks_of(stream)) as chunks:
        members = _members(opened, position, counted.count(chunks), indexes.get(position))
        for node in published(members, note):
            node.path = LAYERFS + b"/" + node.path
            if node.kind == HARD_LINK:
                node.target = LAYERFS + b"/" + node.target
            yield node
    if f"sha256:{counted.hash.hexdigest()}" != layer.diff_id:
        raise AfenvError("E301", f"the layer {layer.digest} has another content than {layer.diff_id}")
    yield folder_node(NOTES, 0)
    yield file_node(NOTES + b"/origin.json", origin, 0)
    yield file_node(NOTES + b"/layers.json", canonical.indented([_layer_note(layer, counted.size)]), 0)


def _layer_note(layer: ImageLayer, size: int) -> dict[str, Any]:
    """The layer in the words of containers/storage; the time is fixed, as layers have none."""
    return {
        "id": layer.diff_id.removeprefix("sha256:"),
        "created": "1970-01-01T00:00:00Z",
        "compressed-diff-digest": layer.digest,
        "compressed-size": layer.size,
        "diff-digest": layer.diff_id,
        "diff-size": size,
        "tool": "afenv",
    }


class _Counted:
    """The size and hash of what passes by."""

    def __init__(self) -> None:
        self.size = 0
        self.hash = hashlib.sha256()

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.size += len(chunk)
            self.hash.update(chunk)
            yield chunk


def _members(
    opened: OpenedImage, position: int, chunks: Iterator[bytes], index: Index | None
) -> Iterator[Node]:
    """The nodes of a layer, each path once, and last the folders that it says nothing of; hard links into
    lower layers become files."""
    kinds: dict[bytes, bytes] = {}
    implied: set[bytes] = set()
    below: dict[bytes, list[bytes]] = {}
    for number, member in enumerate(TarStream(chunks, strict=True).members()):
        names: tuple[bytes, ...] = (member.path,)
        if index is not None:
            names = index.get(number, ())
        elif member.path in kinds:
            raise NeedsIndexError(position)
        if not names:
            continue
        node = node_of(member)
        kinds |= dict.fromkeys(names, node.kind)
        for name in names:
            parent = name.rpartition(b"/")[0]
            while parent and parent not in implied:
                implied.add(parent)
                parent = parent.rpartition(b"/")[0]
        if node.kind == HARD_LINK:
            target = kinds.get(node.target)
            if target is None:
                below.setdefault(node.target, []).extend(names)
                continue
            if target == FOLDER:
                raise AfenvError("E510", f"{_text(node.path)} is a hard link to a folder")
        node.path = names[0]
        yield node
        for name in names[1:]:
            yield Node(path=name, kind=HARD_LINK, mode=0o644, mtime=node.mtime, target=names[0])
    for lower in reversed(range(position)):
        if below:
            yield from _from_below(opened, lower, below)
    for target, links in below.items():
        raise AfenvError("E510", f"{_text(links[0])} is a hard link to {_text(target)}, which does not exist")
    for path in sorted(implied - kinds.keys()):
        yield folder_node(path, 0)


def _from_below(opened: OpenedImage, position: int, wanted: dict[bytes, list[bytes]]) -> Iterator[Node]:
    """The files of a lower layer that hard links lead to; they are taken out of ``wanted``."""
    with opened.layer(position) as stream, closing(chunks_of(stream)) as chunks:
        for member in TarStream(chunks).members():
            if member.path not in wanted or member.kind == HARD_LINK:
                continue
            first, *others = wanted.pop(member.path)
            node = node_of(member)
            node.path = first
            yield node
            for name in others:
                yield Node(path=name, kind=HARD_LINK, mode=0o644, mtime=node.mtime, target=first)


def _text(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
