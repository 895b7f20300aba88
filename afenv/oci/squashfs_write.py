"""Writing squashfs 4.0: what is said of files goes in, an image comes out, the same each time.

The format is the one that :mod:`afenv.oci.squashfs` reads (Linux, fs/squashfs/squashfs_fs.h). Contents were
compressed before, by a :class:`~afenv.oci.squashfs_contents.ContentPacker`; what the image needs of them is
copied into it, source by source, and the tables follow. There are no extended attributes and no export table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from operator import itemgetter
from typing import BinaryIO, Protocol

from afenv.errors import AfenvError
from afenv.oci.squashfs_blocks import Block
from afenv.oci.squashfs_contents import BLOCK, Content, ContentPacker, stored
from afenv.oci.squashfs_inodes import FOLDER, Metadata, Node, inode_tables
from afenv.oci.squashfs_tables import MAGIC, NO_TABLE, SUPER

BLOCK_LOG = 17
ZSTD = 6
NO_XATTRS = 0x0200
_PIECE = 256 << 10  # bytes that are copied or compared at once; larger ones leave the processor's cache
_FRAGMENT = struct.Struct("<QII")
_PLACE = struct.Struct("<Q")


class Source(Protocol):
    """Packed contents, and where they lie."""

    @property
    def fragments(self) -> list[tuple[int, int]]:
        """Where each fragment begins, and its size as squashfs has it."""
        ...  # pragma: no cover

    def open(self) -> AbstractContextManager[BinaryIO]:
        """What the places of contents and fragments are counted in."""
        ...  # pragma: no cover


class _Loose:
    """Contents that are given to the writer itself: few and small ones, in memory."""

    def __init__(self, level: int) -> None:
        self._file = BytesIO()
        self.packer = ContentPacker(self._file.write, level=level, threads=0)

    @property
    def fragments(self) -> list[tuple[int, int]]:
        return self.packer.fragments

    def open(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(self._file)


class SquashfsWriter:
    """An image that begins at the present position of ``file``, which is read as well; nothing follows it.

    :meth:`finish` writes all of it. ``level`` is that of zstd for the tables, ``time`` that of the file
    system and of the root folder, in seconds since 1970. The root folder and every folder that something is
    in have to be added; in which order does not matter.
    """

    def __init__(self, file: BinaryIO, *, level: int, time: int) -> None:
        self._file = file
        self._begin = file.tell()
        self._level, self._time = level, time
        self.root = Node(FOLDER, 0o755, 0, 0, time)
        self._nodes: dict[bytes, Node] = {b"": self.root}
        self._at = SUPER.size
        self._loose = _Loose(level)
        self._used: dict[Source, list[tuple[Content, Node]]] = {}
        self._fragments: list[tuple[int, int]] = []
        self._small: dict[bytes, Node] = {}  # digest to the file that has the content
        self._large: dict[tuple[int, ...], Node] = {}  # its size and those of its blocks
        self._piece, self._other = (memoryview(bytearray(_PIECE)) for _ in range(2))

    def add(self, path: bytes, node: Node) -> None:
        """A thing without content; a folder may have been there, without metadata of its own."""
        known = self._nodes.get(path)
        if known is not None and node.kind == FOLDER == known.kind:
            known.mode, known.uid, known.gid, known.mtime = node.mode, node.uid, node.gid, node.mtime
            return
        folder, _, name = path.rpartition(b"/")
        above = self._nodes.get(folder) or self._folder(folder)
        if known is not None or above.kind != FOLDER or not 0 < len(name) <= 256:
            raise AfenvError("E510", f"{path.decode(errors='replace')!r} cannot be in an image")
        self._nodes[path] = above.below[name] = node
        if node.kind == FOLDER:
            node.parent = above

    def add_link(self, path: bytes, target: bytes) -> None:
        """One more path of a thing."""
        node = self._nodes[target]
        self.add(path, node)
        node.links += 1

    def add_file(self, path: bytes, node: Node, size: int, pieces: Iterable[memoryview]) -> None:
        """A file and its content in pieces, which is kept in memory; see :meth:`ContentPacker.add`."""
        self.add_content(path, node, self._loose.packer.add(path, size, pieces), self._loose)

    def add_content(self, path: bytes, node: Node, content: Content, source: Source) -> None:
        """A file whose content is in a source.

        Of files with the same content one has it and the others refer to it.
        """
        self.add(path, node)
        node.size, node.sizes, node.sparse = content.size, content.sizes, content.sparse
        if not content.size:
            return
        if content.digest:
            first = self._small.setdefault(content.digest, node)
            if first is not node:
                node.same = first
                return
            node.offset = content.offset
        self._used.setdefault(source, []).append((content, node))

    def _folder(self, path: bytes) -> Node:
        node = Node(FOLDER, 0o755, 0, 0, self._time)
        self.add(path, node)
        return node

    def _place(self, source: Source, used: list[tuple[Content, Node]]) -> None:
        """Copy what is used of a source, in the order in which it lies there, and say where it is now."""
        shared: dict[int, list[Node]] = {}  # by the number of the fragment
        parts: list[tuple[int, int, int, Node | None]] = []
        for content, node in used:
            if content.digest:
                shared.setdefault(content.fragment, []).append(node)
            else:
                parts.append((content.start, content.length, 0, node))
        for number in shared:
            start, size = source.fragments[number]
            parts.append((start, stored(size), number, None))
        parts.sort(key=itemgetter(0))
        with source.open() as file:
            for start, length, number, large in parts:
                if large is None:
                    for node in shared[number]:
                        node.fragment = len(self._fragments)
                    self._fragments.append((self._at, source.fragments[number][1]))
                else:
                    first = self._large.setdefault((large.size, *large.sizes), large)
                    if first is not large and self._alike(first.start, file, start, length):
                        large.same = first
                        continue
                    large.start = self._at
                self._copy(file, start, length)

    def _copy(self, source: BinaryIO, start: int, length: int) -> None:
        source.seek(start)
        while length:
            part = self._read(source, self._piece, length)
            self._write(part)
            length -= len(part)

    def _alike(self, place: int, source: BinaryIO, start: int, length: int) -> bool:
        """Whether the image has at a place the bytes that a source has."""
        self._file.seek(self._begin + place)
        source.seek(start)
        alike = True
        while length and alike:
            part = self._read(source, self._piece, length)
            alike = self._read(self._file, self._other, len(part)) == part
            length -= len(part)
        self._file.seek(self._begin + self._at)
        return alike

    @staticmethod
    def _read(file: BinaryIO, into: memoryview, most: int) -> memoryview:
        count = file.readinto(into[:most])  # type: ignore[attr-defined]
        if not count:
            raise AfenvError("E305", "a packed layer in the cache ends too early")
        return into[:count]

    def finish(self) -> int:
        """Write contents, tables and the super block; the size of the image in bytes."""
        self._file.write(bytes(SUPER.size))
        self._loose.packer.end()
        for source, used in self._used.items():
            self._place(source, used)
        owners = sorted({one for node in self._nodes.values() for one in (node.uid, node.gid)})
        numbers = {owner: at for at, owner in enumerate(owners)}
        inodes, folders, count = inode_tables(self.root, numbers, self._level)
        inode_table = self._at
        folder_table = inode_table + len(inodes)
        self._write(inodes)
        self._write(folders)
        fragments = b"".join(_FRAGMENT.pack(at, length, 0) for at, length in self._fragments)
        fragment_table = self._indexed(fragments) if fragments else NO_TABLE
        id_table = self._indexed(struct.pack(f"<{len(owners)}I", *owners))
        size = self._at
        self._write(bytes(-size % 4096))
        self._file.seek(self._begin)
        self._file.write(
            SUPER.pack(
                *(MAGIC, count, self._time, BLOCK, len(self._fragments), ZSTD, BLOCK_LOG, NO_XATTRS),
                *(len(owners), 4, 0, self.root.place, size, id_table, NO_TABLE),
                *(inode_table, folder_table, fragment_table, NO_TABLE),
            )
        )
        return self._at

    def _write(self, data: Block) -> None:
        self._file.write(data)
        self._at += len(data)

    def _indexed(self, data: bytes) -> int:
        """Write a table and the list of its blocks; where the list is."""
        table = Metadata(self._level)
        table.add(data)
        begin = self._at
        self._write(table.end())
        place = self._at
        self._write(b"".join(_PLACE.pack(begin + start) for start in table.starts))
        return place
