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
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

from afenv.errors import AfenvError
from afenv.oci.squashfs_tables import MAGIC, METADATA, NO_TABLE, NONE, SUPER

BLOCK = 128 << 10
BLOCK_LOG = 17
ZSTD = 6
NO_XATTRS = 0x0200
NOT_COMPRESSED = 1 << 24  # in the size of a block
_BUSY = 48  # blocks that may wait to be written
_ZERO = bytes(BLOCK)
COMPARED = 1 << 20  # bytes of the largest file that is looked for among those that came before
_MOST_RUN = 256  # entries of a folder under one header

FOLDER, FILE, LINK, BLOCK_DEVICE, DEVICE, PIPE = 1, 2, 3, 4, 5, 6
_COMMON = struct.Struct("<HHHHII")
_FOLDER = struct.Struct("<IIHHI")
_LARGE_FOLDER = struct.Struct("<IIIIHHI")
_FILE = struct.Struct("<IIII")
_LARGE_FILE = struct.Struct("<QQQIIII")
_LINK = struct.Struct("<II")
_PIPE = struct.Struct("<I")
_RUN = struct.Struct("<III")
_ENTRY = struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<QII")
_PLACE = struct.Struct("<Q")


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
        self.sizes: list[int] = []
        self.target = b""
        self.below: dict[bytes, Node] = {}
        self.parent: Node | None = None
        self.same: Node | None = None  # a file that has the content of this one


class Compressor:
    """Threads that compress blocks with zstd; what comes back keeps the order of :meth:`give`."""

    def __init__(self, level: int, threads: int) -> None:
        self._level = level
        self._jobs: SimpleQueue[tuple[int, bytes | memoryview] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, bytes | BaseException]] = SimpleQueue()
        self._early: dict[int, bytes] = {}
        self._given = self._taken = 0
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> int:
        """How many blocks have been given and not taken."""
        return self._given - self._taken

    def give(self, block: bytes | memoryview) -> None:
        """Have a block compressed."""
        self._jobs.put((self._given, block))
        self._given += 1

    def take(self) -> bytes:
        """The next block, compressed."""
        while self._taken not in self._early:
            number, data = self._done.get()
            if isinstance(data, BaseException):
                raise data
            self._early[number] = data
        self._taken += 1
        return self._early.pop(self._taken - 1)

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        compress = zstd(self._level)
        while (job := self._jobs.get()) is not None:
            number, block = job
            try:
                packed = compress(block)
                self._done.put((number, packed if len(packed) < len(block) else bytes(block)))
            except BaseException as error:  # noqa: BLE001 - raised again by take
                self._done.put((number, error))


def zstd(level: int):  # type: ignore[no-untyped-def]  # its own type is a method of C
    """What compresses one block, for one thread."""
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress


class _Metadata:
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


class SquashfsWriter:
    """An image that begins at the present position of ``file``; :meth:`finish` writes its tables.

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
        self._contents: dict[bytes, Node] = {}  # digest to the file that has the content
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

        Of files up to 1 MiB with the same content one has it and the others refer to it.
        """
        self.add(path, node)
        node.size = size
        if size <= COMPARED:
            pieces = list(content)
            data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
            data = data[:size]
            if len(data) < size:
                raise _cut(path)
            first = self._contents.setdefault(sha256(data).digest(), node)
            if first is not node:
                node.same = first
            elif 0 < size < BLOCK:
                self._add_small(node, data)
            else:
                for at in range(0, size, BLOCK):
                    self._give(node, data[at : at + BLOCK])
            return
        rest = bytearray()
        left = size
        for piece in content:
            part = piece[:left]
            left -= len(part)
            at = 0
            if rest:
                at = min(BLOCK - len(rest), len(part))
                rest += part[:at]
                if len(rest) == BLOCK:
                    self._give(node, bytes(rest))
                    rest.clear()
            while len(part) - at >= BLOCK:
                self._give(node, part[at : at + BLOCK])
                at += BLOCK
            rest += part[at:]
        if rest:
            self._give(node, bytes(rest))
        if left:
            raise _cut(path)

    def _add_small(self, node: Node, data: memoryview) -> None:
        if len(self._fragment) + len(data) > BLOCK:
            self._end_fragment()
        node.fragment, node.offset = len(self._fragments), len(self._fragment)
        self._fragment += data

    def _end_fragment(self) -> None:
        if self._fragment:
            self._fragments.append((0, 0))
            self._give(None, bytes(self._fragment))
            self._fragment.clear()

    def _give(self, node: Node | None, block: bytes | memoryview) -> None:
        if node is not None and not block[0] and bytes(block) == _ZERO[: len(block)]:
            self._waiting.append((node, -len(block)))
        else:
            self._compressor.give(block)
            self._waiting.append((node, len(block)))
        while self._compressor.busy > _BUSY:
            self._write_next()

    def _write_next(self) -> None:
        """Write the first block that waits."""
        node, size = self._waiting.popleft()
        if size < 0:  # a hole
            assert node is not None
            node.sizes.append(0)
            node.sparse -= size
            node.start = node.start or self._at
            return
        data = self._compressor.take()
        length = len(data) | (NOT_COMPRESSED if len(data) == size else 0)
        if node is None:
            self._fragments[self._first] = (self._at, length)
            self._first += 1
        else:
            node.start = node.start or self._at
            node.sizes.append(length)
        self._file.write(data)
        self._at += len(data)

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
        inodes, folders, count = self._tables({owner: at for at, owner in enumerate(owners)})
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
        return self._at

    def _write(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._at += len(data)

    def _indexed(self, data: bytes) -> int:
        """Write a table and the list of its blocks; where the list is."""
        table = _Metadata(self._level)
        table.add(data)
        begin = self._at
        self._write(table.end())
        place = self._at
        self._write(b"".join(_PLACE.pack(begin + start) for start in table.starts))
        return place

    def _tables(self, owners: dict[int, int]) -> tuple[bytearray, bytearray, int]:
        """The tables of inodes and folders, and how many inodes there are.

        What is in a folder comes before it, in the order of the names.
        """
        inodes, folders = _Metadata(self._level), _Metadata(self._level)
        order: list[Node] = []
        todo = [self.root]
        while todo:  # a folder, then what is in it from the last to the first; backwards that is the order
            node = todo.pop()
            order.append(node)
            todo.extend(child for _, child in sorted(node.below.items()) if child.kind == FOLDER)
        numbered: list[Node] = []
        for folder in reversed(order):
            for _, child in sorted(folder.below.items()):
                if child.kind != FOLDER and not child.number:
                    numbered.append(child)
                    child.number = len(numbered)
            numbered.append(folder)
            folder.number = len(numbered)
        for node in numbered:
            block, offset = inodes.place()
            body = self._folder_body(node, folders, len(numbered)) if node.kind == FOLDER else _body(node)
            kind, rest = body
            node.place = block << 16 | offset
            inodes.add(
                _COMMON.pack(kind, node.mode, owners[node.uid], owners[node.gid], node.mtime, node.number)
                + rest
            )
        return inodes.end(), folders.end(), len(numbered)

    def _folder_body(self, node: Node, folders: _Metadata, count: int) -> tuple[int, bytes]:
        start, offset = folders.place()
        listing = _listing(node)
        folders.add(listing)
        size = len(listing) + 3  # the kernel counts . and ..
        links = 2 + sum(child.kind == FOLDER for child in node.below.values())
        parent = node.parent.number if node.parent else count + 1
        if size <= 0xFFFF:
            return FOLDER, _FOLDER.pack(start, links, size, offset, parent)
        return FOLDER + 7, _LARGE_FOLDER.pack(links, size, start, parent, 0, offset, NONE)


def _cut(path: bytes) -> AfenvError:
    return AfenvError("E510", f"{path.decode(errors='replace')!r} ends too early")


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
    """A folder's names, in runs: one block of inodes, numbers that are near, at most 256."""
    parts: list[bytes] = []
    run: list[bytes] = []
    block = first = 0
    for name, node in sorted(folder.below.items()):
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
