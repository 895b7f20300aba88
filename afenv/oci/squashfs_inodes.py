"""The inodes of a squashfs image that is written, and the tables of them and of folders."""

from __future__ import annotations

import struct

from afenv.oci.squashfs_blocks import zstd
from afenv.oci.squashfs_tables import METADATA, NONE

FOLDER, FILE, LINK, BLOCK_DEVICE, DEVICE, PIPE = 1, 2, 3, 4, 5, 6
_MOST_RUN = 256  # entries of a folder under one header
_COMMON = struct.Struct("<HHHHII")
_FOLDER = struct.Struct("<IIHHI")
_LARGE_FOLDER = struct.Struct("<IIIIHHI")
_FILE = struct.Struct("<IIII")
_LARGE_FILE = struct.Struct("<QQQIIII")
_LINK = struct.Struct("<II")
_PIPE = struct.Struct("<I")
_RUN = struct.Struct("<III")
_ENTRY = struct.Struct("<HhHH")

_NOTHING: list[int] = []  # what a node has that has none, as nothing is ever added to it
_EMPTY: dict[bytes, Node] = {}


class Node:
    """A file, folder or whatever has an inode; ``links`` are the paths that lead to it."""

    __slots__ = (
        *("below", "fragment", "gid", "kind", "links", "mode", "mtime", "number", "offset", "parent"),
        *("place", "rdev", "same", "size", "sizes", "sparse", "start", "target", "uid"),
    )

    def __init__(self, kind: int, mode: int, uid: int, gid: int, mtime: int) -> None:
        self.kind, self.mode, self.uid, self.gid, self.mtime = kind, mode, uid, gid, mtime
        self.links = 1
        self.number = self.place = self.rdev = self.size = self.sparse = self.start = 0
        self.fragment, self.offset = NONE, 0
        self.sizes: list[int] = _NOTHING
        self.target = b""
        self.below: dict[bytes, Node] = {} if kind == FOLDER else _EMPTY
        self.parent: Node | None = None
        self.same: Node | None = None  # a file that has the content of this one


class Metadata:
    """A table that is written in blocks of 8 KiB, and where in it the next byte will be."""

    def __init__(self, level: int) -> None:
        self.stored = bytearray()
        self.starts: list[int] = []
        self._compress = zstd(level)
        self._open = bytearray()

    def place(self) -> tuple[int, int]:
        """Where the block began, and the offset in it."""
        return len(self.stored), len(self._open)

    def add(self, data: bytes) -> None:
        """Append."""
        self._open += data
        while len(self._open) >= METADATA:
            self._put(bytes(self._open[:METADATA]))
            del self._open[:METADATA]

    def end(self) -> bytearray:
        """The whole table."""
        if self._open:
            self._put(bytes(self._open))
            self._open.clear()
        return self.stored

    def _put(self, data: bytes) -> None:
        self.starts.append(len(self.stored))
        packed = self._compress(data)
        if len(packed) < len(data):
            self.stored += struct.pack("<H", len(packed)) + packed
        else:
            self.stored += struct.pack("<H", len(data) | 0x8000) + data


def inode_tables(root: Node, owners: dict[int, int], level: int) -> tuple[bytearray, bytearray, int]:
    """The tables of inodes and folders, and how many inodes there are.

    What is in a folder comes before it, in the order of the names. ``owners`` are the numbers of users and
    groups in the image's own table.
    """
    inodes, folders = Metadata(level), Metadata(level)
    numbered = _numbered(root)
    for node in numbered:
        block, offset = inodes.place()
        kind, rest = _folder_body(node, folders, len(numbered)) if node.kind == FOLDER else _body(node)
        node.place = block << 16 | offset
        inodes.add(
            _COMMON.pack(kind, node.mode, owners[node.uid], owners[node.gid], node.mtime, node.number) + rest
        )
    return inodes.end(), folders.end(), len(numbered)


def _numbered(root: Node) -> list[Node]:
    """All nodes in the order of their numbers, which they get."""
    order: list[list[Node]] = []
    todo = [root]
    while todo:  # a folder, then what is in it from the last to the first; backwards that is the order
        folder = todo.pop()
        folder.below = dict(sorted(folder.below.items()))
        order.append([*folder.below.values(), folder])
        todo.extend(child for child in folder.below.values() if child.kind == FOLDER)
    numbered: list[Node] = []
    for nodes in reversed(order):
        for node in nodes:
            if not node.number and (node.kind != FOLDER or node is nodes[-1]):
                numbered.append(node)
                node.number = len(numbered)
    return numbered


def _folder_body(node: Node, folders: Metadata, count: int) -> tuple[int, bytes]:
    start, offset = folders.place()
    listing = _listing(node)
    folders.add(listing)
    size = len(listing) + 3  # the kernel counts . and ..
    links = 2 + sum(child.kind == FOLDER for child in node.below.values())
    parent = node.parent.number if node.parent else count + 1
    if size <= 0xFFFF:
        return FOLDER, _FOLDER.pack(start, links, size, offset, parent)
    return FOLDER + 7, _LARGE_FOLDER.pack(links, size, start, parent, 0, offset, NONE)


def _body(node: Node) -> tuple[int, bytes]:
    """The type of an inode that is no folder, and what comes after what all have in common."""
    if node.kind == LINK:
        return LINK, _LINK.pack(node.links, len(node.target)) + node.target
    if node.kind == FILE:
        has = node.same or node
        sizes = struct.pack(f"<{len(has.sizes)}I", *has.sizes)
        place = (has.fragment, has.offset)
        if node.links == 1 and not has.sparse and max(has.start, node.size) <= 0xFFFFFFFF:
            return FILE, _FILE.pack(has.start, *place, node.size) + sizes
        return FILE + 7, _LARGE_FILE.pack(has.start, node.size, has.sparse, node.links, *place, NONE) + sizes
    if node.kind == PIPE:
        return PIPE, _PIPE.pack(node.links)
    return node.kind, _LINK.pack(node.links, node.rdev)


def _listing(folder: Node) -> bytes:
    """A folder's names, which are sorted, in runs: one block of inodes, near numbers, at most 256."""
    parts: list[bytes] = []
    run: list[bytes] = []
    block = first = 0
    for name, node in folder.below.items():
        place, offset = node.place >> 16, node.place & 0xFFFF
        delta = node.number - first
        if not run or place != block or not -0x8000 <= delta < 0x8000 or len(run) == _MOST_RUN:
            if run:
                parts += [_RUN.pack(len(run) - 1, block, first), *run]
            run, block, first, delta = [], place, node.number, 0
        run.append(_ENTRY.pack(offset, delta, node.kind, len(name) - 1) + name)
    if run:
        parts += [_RUN.pack(len(run) - 1, block, first), *run]
    return b"".join(parts)
