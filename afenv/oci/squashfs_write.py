"""Writing squashfs 4.0: what is said of files goes in, an image comes out, the same each time.

The format is the one that :mod:`afenv.oci.squashfs` reads (Linux, fs/squashfs/squashfs_fs.h). Content is
compressed in threads, block by block, and written in the order in which it came; the tables follow. Files
that are smaller than a block share fragments, as with mksquashfs. There are no extended attributes and no
export table.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from typing import BinaryIO

from afenv.errors import AfenvError
from afenv.oci.squashfs_blocks import Block, Compressor
from afenv.oci.squashfs_inodes import FOLDER, Metadata, Node, inode_tables
from afenv.oci.squashfs_tables import MAGIC, NO_TABLE, SUPER

BLOCK = 128 << 10
BLOCK_LOG = 17
ZSTD = 6
NO_XATTRS = 0x0200
NOT_COMPRESSED = 1 << 24  # in the size of a block
_ZERO = bytes(BLOCK)
_PIECE = 1 << 20  # bytes that are compared at once
_FRAGMENT = struct.Struct("<QII")
_PLACE = struct.Struct("<Q")


class SquashfsWriter:
    """An image that begins at the present position of ``file``, which is read as well; nothing follows it.

    :meth:`finish` writes its tables.
    ``time`` is that of the file system and of the root folder, in seconds since 1970. The root folder and
    every folder that something is in have to be added; in which order does not matter.
    """

    def __init__(self, file: BinaryIO, *, level: int, threads: int, time: int) -> None:
        self._file = file
        self._begin = file.tell()
        self._level, self._time = level, time
        self.root = Node(FOLDER, 0o755, 0, 0, time)
        self._nodes: dict[bytes, Node] = {b"": self.root}
        self._at = SUPER.size
        self._compressor = Compressor(level, threads)
        self._waiting: deque[tuple[Node | None, int]] = deque()  # whose block it is, and its size
        self._first = 0  # of the fragments that have not been written
        self._fragment = bytearray()
        self._fragments: list[tuple[int, int]] = []
        self._small: dict[bytes, Node] = {}  # digest to the file that has the content
        self._large: dict[tuple[int, ...], Node] = {}  # its size and those of its blocks
        file.write(bytes(SUPER.size))

    def close(self) -> None:
        """End the threads, whatever has become of the image."""
        self._compressor.close()

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

    def add_file(self, path: bytes, node: Node, size: int, content: Iterable[memoryview]) -> None:
        """A file of ``size`` bytes, and its content in pieces, which may be followed by padding.

        Of files with the same content one has it and the others refer to it.
        """
        self.add(path, node)
        node.size = size
        if size >= BLOCK:
            left = self._add_blocks(node, content)
        else:
            pieces = list(content)
            data = (pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces)))[:size]
            left = size - len(data)
            if data and not left:
                self._add_small(node, data)
        if left:
            raise AfenvError("E510", f"{path.decode(errors='replace')!r} ends too early")

    def _add_blocks(self, node: Node, content: Iterable[memoryview]) -> int:
        """Have the blocks of a file compressed; how many bytes of its content are missing."""
        node.sizes = []
        rest = bytearray()
        left = node.size
        for piece in content:
            part = piece[:left]
            left -= len(part)
            at = 0
            if rest:
                at = min(BLOCK - len(rest), len(part))
                rest += part[:at]
                if len(rest) == BLOCK:
                    self._give(node, rest)
                    rest = bytearray()
            while len(part) - at >= BLOCK:
                self._give(node, part[at : at + BLOCK])
                at += BLOCK
            rest += part[at:]
        if rest:
            self._give(node, rest)
        return left

    def _add_small(self, node: Node, data: memoryview) -> None:
        first = self._small.setdefault(sha256(data).digest(), node)
        if first is not node:
            node.same = first
            return
        if len(self._fragment) + len(data) > BLOCK:
            self._end_fragment()
        node.fragment, node.offset = len(self._fragments), len(self._fragment)
        self._fragment += data

    def _end_fragment(self) -> None:
        if self._fragment:
            self._fragments.append((0, 0))
            self._give(None, self._fragment)
            self._fragment = bytearray()

    def _give(self, node: Node | None, block: Block) -> None:
        if node is not None and not block[0] and bytes(block) == _ZERO[: len(block)]:
            self._waiting.append((node, -len(block)))
        else:
            self._compressor.give(block)
            self._waiting.append((node, len(block)))
        while self._compressor.full:
            self._write_next()

    def _write_next(self) -> None:
        """Write the first block that waits."""
        node, size = self._waiting.popleft()
        at, length = self._at, 0
        if size > 0:
            data = self._compressor.take()
            self._write(data)
            length = len(data) | (NOT_COMPRESSED if len(data) == size else 0)
        if node is None:
            self._fragments[self._first] = (at, length)
            self._first += 1
            return
        if not length:  # a hole
            node.sparse -= size
        node.start = node.start or at
        node.sizes.append(length)
        if len(node.sizes) * BLOCK >= node.size:
            self._end_file(node)

    def _end_file(self, node: Node) -> None:
        """Take a file back of which all blocks are written, if one that came before has its content."""
        first = self._large.setdefault((node.size, *node.sizes), node)
        if first is node:
            return
        if self._alike(first.start, node.start, self._at - node.start):
            node.same = first
            self._at = node.start
        self._file.seek(self._begin + self._at)

    def _alike(self, one: int, other: int, length: int) -> bool:
        """Whether the image has the same bytes at two places."""
        for at in range(0, length, _PIECE):
            found = []
            for start in (one, other):
                self._file.seek(self._begin + start + at)
                found.append(self._file.read(min(_PIECE, length - at)))
            if found[0] != found[1]:
                return False
        return True

    def _folder(self, path: bytes) -> Node:
        node = Node(FOLDER, 0o755, 0, 0, self._time)
        self.add(path, node)
        return node

    def finish(self) -> int:
        """Write what waits, the tables and the super block; the size of the image in bytes."""
        self._end_fragment()
        while self._waiting:
            self._write_next()
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
        self._file.seek(self._begin + self._at)
        self._file.truncate()  # a file that was taken back may have been longer than the tables
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
