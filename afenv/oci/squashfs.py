"""Reading squashfs 4.0: the files of a SIF or of a bare image, without mounting and without other tools.

The format is that of the Linux kernel (fs/squashfs/squashfs_fs.h, Documentation/filesystems/squashfs.rst):
little-endian; a super block of 96 bytes; data and fragment blocks; then tables of inodes, directories,
fragments, ids and extended attributes in metadata blocks of at most 8 KiB. Compressed with gzip, xz or
zstd. Every offset and size is checked before it is used, and no folder is entered twice, so a damaged
image ends in an error (E510) and in bounded memory.
"""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn

from afenv.errors import AfenvError
from afenv.oci.files import Entry, Keep, Kind
from afenv.oci.squashfs_content import InodeContent, content_of

MAGIC = b"hsqs"
BIG_ENDIAN = b"sqsh"
SUPER = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
METADATA = 8192
MOST_METADATA = 256 << 20  # bytes of one table, uncompressed
NONE = 0xFFFFFFFF
NO_TABLE = 0xFFFFFFFFFFFFFFFF
COMPRESSORS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}

_COMMON = struct.Struct("<HHHHII")
_DIRECTORY_HEADER = struct.Struct("<III")
_DIRECTORY_ENTRY = struct.Struct("<HhHH")
_KINDS: dict[int, Kind] = {1: "d", 2: "f", 3: "l", 4: "b", 5: "c", 6: "p"}
_SOCKET = 7
_EXTENDED = 7  # added to the type of an inode
_PREFIXES = ("user.", "trusted.", "security.")


class SuperBlock(NamedTuple):
    """The super block, as it stands in the image."""

    magic: bytes
    inodes: int
    time: int
    block_size: int
    fragments: int
    compressor: int
    block_log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    size: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int


class _Table(NamedTuple):
    """Metadata blocks, uncompressed, and where each of them began."""

    data: bytes
    starts: list[int]  # of the blocks, relative to the table
    places: list[int]  # of the same in ``data``

    def at(self, block: int, offset: int) -> int:
        found = bisect_right(self.starts, block) - 1
        if found < 0 or self.starts[found] != block or offset > METADATA:
            _refuse("it refers to a place where there is no block")
        return self.places[found] + offset

    def unpack(self, form: struct.Struct, at: int) -> tuple[int, ...]:
        if at < 0 or at + form.size > len(self.data):
            _refuse("a table ends too early")
        return form.unpack_from(self.data, at)

    def bytes(self, at: int, size: int) -> bytes:
        if at < 0 or size < 0 or at + size > len(self.data):
            _refuse("a table ends too early")
        return self.data[at : at + size]


class _Inode(NamedTuple):
    kind: int  # of the basic inode
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0  # of a file's content or a folder's listing
    block: int = 0  # of a folder's listing
    offset: int = 0
    target: bytes = b""
    device: int = 0
    content: InodeContent | None = None
    xattr: int = NONE


class Squashfs:
    """An open image; use it as a context manager."""

    def __init__(self, descriptor: int, path: Path, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._length = descriptor, offset, size
        self.path = path
        try:
            self.super = self._super()
            self._decompress = _decompressor(self.super.compressor)
            self._ids = self._id_table()
            self._inodes = self._metadata(self.super.inode_table, self.super.directory_table)
            self._directories = self._metadata(self.super.directory_table, self._after_directories())
            self._fragments = self._fragment_table()
            self._xattrs = self._xattr_tables()
        except _DamagedError as error:
            raise self._error(error) from None
        self._block = lru_cache(maxsize=8)(self._read_block)

    @classmethod
    def open(cls, path: Path, offset: int = 0, size: int | None = None) -> Squashfs:
        """Open the image that begins at ``offset`` of a file; E001 if it cannot be read, else E510."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
        try:
            end = os.fstat(descriptor).st_size
            return cls(descriptor, path, offset, max(0, min(end - offset, end if size is None else size)))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Squashfs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def root(self) -> Entry:
        """The root folder, with an empty path."""
        try:
            return self._entry("", self._inode(self.super.root), contents=False, keep=lambda _: False)
        except _DamagedError as error:
            raise self._error(error) from None

    def entries(self, *, contents: bool = False, keep: Keep = lambda _: False) -> Iterator[Entry]:
        """Everything but the root, a folder before what is in it; with ``contents`` files are hashed.

        Files whose path ``keep`` accepts come with their content. Sockets are left out, as an image's
        layers cannot hold them.
        """
        try:
            yield from self._walk(contents, keep)
        except _DamagedError as error:
            raise self._error(error) from None

    def _walk(self, contents: bool, keep: Keep) -> Iterator[Entry]:
        todo = [("", self.super.root)]
        entered: set[int] = set()
        listed = 0
        while todo:
            folder, reference = todo.pop()
            inode = self._inode(reference)
            if inode.kind != 1 or reference in entered:
                _refuse("a folder is in itself, or is no folder")
            entered.add(reference)
            listed += inode.size
            if listed > len(self._directories.data) + 3 * len(entered):
                _refuse("folders share what is in them")
            found = list(self._listing(inode))
            for name, below in found:
                path = f"{folder}/{name}" if folder else name
                one = self._inode(below)
                if one.kind == 1:
                    todo.append((path, below))
                if one.kind != _SOCKET:
                    yield self._entry(path, one, contents=contents, keep=keep)

    def _listing(self, inode: _Inode) -> Iterator[tuple[str, int]]:
        """Names in a folder, with the references of their inodes."""
        left = inode.size - 3  # the kernel counts . and ..
        if left <= 0:
            return
        table = self._directories
        at = table.at(inode.block, inode.offset)
        end = at + left
        while at < end:
            count, block, _ = table.unpack(_DIRECTORY_HEADER, at)
            at += _DIRECTORY_HEADER.size
            if count >= 256:
                _refuse("a folder's listing cannot be understood")
            for _ in range(count + 1):
                offset, _, _, size = table.unpack(_DIRECTORY_ENTRY, at)
                name = table.bytes(at + _DIRECTORY_ENTRY.size, size + 1)
                at += _DIRECTORY_ENTRY.size + size + 1
                if size > 255 or b"/" in name or b"\0" in name or name in (b".", b".."):
                    _refuse(f"a file's name is {name!r}")
                yield name.decode("utf-8", "surrogateescape"), block << 16 | offset

    def _entry(self, path: str, inode: _Inode, *, contents: bool, keep: Keep) -> Entry:
        kind = _KINDS[inode.kind]
        target, sha256, content = "", "", None
        if inode.kind == 2:
            assert inode.content is not None
            if contents or keep(path):
                sha256, content = content_of(
                    inode.content,
                    self.super.block_size,
                    self._block,
                    self._fragment,
                    hashing=contents,
                    keep=keep(path),
                )
        elif inode.kind == 3:
            target = inode.target.decode("utf-8", "surrogateescape")
        elif kind in "bc":
            number = inode.device
            target = f"{number >> 8 & 0xFFF}:{number & 0xFF | number >> 12 & 0xFFF00}"
        return Entry(
            path=path,
            kind=kind,
            mode=0o777 if kind == "l" else inode.mode & 0o7777,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size if kind == "f" else 0,
            mtime=inode.mtime,
            sha256=sha256,
            target=target,
            xattrs=self._xattrs_of(inode.xattr),
            content=content,
        )

    def _inode(self, reference: int) -> _Inode:
        table = self._inodes
        at = table.at(reference >> 16, reference & 0xFFFF)
        number, mode, uid, gid, mtime, _ = table.unpack(_COMMON, at)
        if max(uid, gid) >= len(self._ids):
            _refuse("a file has an owner that the image does not have")
        extended = number > _EXTENDED
        kind = number - _EXTENDED if extended else number
        if not 1 <= kind <= _SOCKET:
            _refuse(f"an inode is of type {number}")
        common = (kind, mode, self._ids[uid], self._ids[gid], mtime)
        at += _COMMON.size
        if kind == 1:
            if extended:
                _, size, block, _, _, offset, xattr = table.unpack(_EXT_DIRECTORY, at)
            else:
                block, _, size, offset, _ = table.unpack(_DIRECTORY, at)
                xattr = NONE
            return _Inode(*common, size=size, block=block, offset=offset, xattr=xattr)
        if kind == 2:
            return self._file_inode(common, extended, at)
        if kind == 3:
            _, length = table.unpack(_LINK, at)
            at += _LINK.size
            target = table.bytes(at, length)
            xattr = table.unpack(_NUMBER, at + length)[0] if extended else NONE
            return _Inode(*common, target=target, xattr=xattr)
        form = _LINK if kind in (4, 5) else _NUMBER
        values = table.unpack(form, at)
        xattr = table.unpack(_NUMBER, at + form.size)[0] if extended else NONE
        return _Inode(*common, device=values[-1] if kind in (4, 5) else 0, xattr=xattr)

    def _file_inode(self, common: tuple[int, int, int, int, int], extended: bool, at: int) -> _Inode:
        table, block_size = self._inodes, self.super.block_size
        if extended:
            start, size, _, _, fragment, offset, xattr = table.unpack(_EXT_FILE, at)
            at += _EXT_FILE.size
        else:
            start, fragment, offset, size = table.unpack(_FILE, at)
            at += _FILE.size
            xattr = NONE
        count = size // block_size if fragment != NONE else -(-size // block_size)
        sizes = struct.unpack(f"<{count}I", table.bytes(at, 4 * count)) if count <= MOST_METADATA else ()
        if len(sizes) != count:
            _refuse(f"a file has {size} bytes")
        content = InodeContent(start, size, sizes, None if fragment == NONE else fragment, offset)
        return _Inode(*common, size=size, content=content, xattr=xattr)

    def _read(self, at: int, size: int) -> bytes:
        if at < 0 or at + size > self._length:
            _refuse(f"it ends at {self._length}, and {size} bytes at {at} are needed")
        data = os.pread(self._descriptor, size, self._offset + at)
        if len(data) != size:
            _refuse("it became shorter while it was read")
        return data

    def _super(self) -> SuperBlock:
        start = self._read(0, min(4, self._length))
        if start == BIG_ENDIAN:
            _refuse("it is big-endian; only squashfs 4.0, which is little-endian, can be read")
        if start != MAGIC:
            _refuse("it does not have squashfs's magic number")
        found = SuperBlock(*SUPER.unpack(self._read(0, SUPER.size)))
        if (found.major, found.minor) != (4, 0):
            _refuse(f"it is of version {found.major}.{found.minor}; only 4.0 is known")
        if not 12 <= found.block_log <= 20 or found.block_size != 1 << found.block_log:
            _refuse(f"its blocks have {found.block_size} bytes")
        if found.size > self._length:
            _refuse(f"it is cut off: {found.size} bytes are expected, and {self._length} are there")
        return found

    def _metadata_block(self, at: int) -> tuple[bytes, int]:
        """A metadata block, and where the next one begins."""
        (head,) = struct.unpack("<H", self._read(at, 2))
        size = head & 0x7FFF
        if not 0 < size <= METADATA:
            _refuse("a metadata block has no content, or too much")
        data = self._read(at + 2, size)
        return (data if head & 0x8000 else self._decompress(data, METADATA)), at + 2 + size

    def _metadata(self, start: int, end: int) -> _Table:
        parts, starts, places, size, at = [], [], [], 0, start
        if not SUPER.size <= start <= end <= self._length:
            _refuse("its tables are not in order")
        while at < end:
            data, following = self._metadata_block(at)
            parts.append(data)
            starts.append(at - start)
            places.append(size)
            size += len(data)
            at = following
            if size > MOST_METADATA:
                _refuse(f"a table has more than {MOST_METADATA >> 20} MiB")
        return _Table(b"".join(parts), starts, places)

    def _pointed(self, at: int, count: int, item: int) -> bytes:
        """A table of ``count`` items, each of ``item`` bytes, found through a list of its blocks."""
        size = count * item
        if size > MOST_METADATA:
            _refuse(f"a table has {size} bytes")
        blocks = -(-size // METADATA)
        places = struct.unpack(f"<{blocks}Q", self._read(at, 8 * blocks))
        data = b"".join(self._metadata_block(place)[0] for place in places)
        if len(data) < size:
            _refuse("a table ends too early")
        return data[:size]

    def _id_table(self) -> tuple[int, ...]:
        data = self._pointed(self.super.id_table, self.super.ids, 4)
        return struct.unpack(f"<{self.super.ids}I", data)

    def _after_directories(self) -> int:
        """Where the directory table ends: at the first block of whatever follows it."""
        found = self.super
        tables = [found.export_table, found.id_table, found.xattr_table]
        if found.fragments:
            tables.append(found.fragment_table)
        return int(min(_PLACE.unpack(self._read(table, 8))[0] for table in tables if table != NO_TABLE))

    def _fragment_table(self) -> bytes:
        if not self.super.fragments:
            return b""
        return self._pointed(self.super.fragment_table, self.super.fragments, 16)

    def _fragment(self, number: int) -> bytes:
        if number >= self.super.fragments:
            _refuse("a file is in a fragment that is not there")
        start, size, _ = struct.unpack_from("<QII", self._fragments, 16 * number)
        return self._block(start, size)

    def _read_block(self, start: int, size: int) -> bytes:
        """A data or fragment block; bit 24 of its size says that it is not compressed."""
        length = size & 0xFFFFFF
        if length > self.super.block_size or size >> 25:
            _refuse("a block is larger than blocks are")
        data = self._read(start, length)
        return data if size & 1 << 24 else self._decompress(data, self.super.block_size)

    def _xattr_tables(self) -> tuple[bytes, _Table] | None:
        at = self.super.xattr_table
        if at == NO_TABLE:
            return None
        values, count, _ = struct.unpack("<QII", self._read(at, 16))
        ids = self._pointed(at + 16, count, 16)
        (end,) = struct.unpack("<Q", self._read(at + 16, 8)) if count else (values,)
        return ids, self._metadata(values, end)

    def _xattrs_of(self, number: int) -> tuple[tuple[str, str], ...]:
        if number == NONE or self._xattrs is None:
            return ()
        ids, table = self._xattrs
        if 16 * number + 16 > len(ids):
            _refuse("a file has extended attributes that are not there")
        reference, count, _ = struct.unpack_from("<QII", ids, 16 * number)
        at, found = table.at(reference >> 16, reference & 0xFFFF), []
        for _ in range(count):
            kind, size = table.unpack(_PAIR, at)
            at += _PAIR.size
            if kind & 0xFF >= len(_PREFIXES):
                _refuse("an extended attribute has a prefix that is not known")
            name = _PREFIXES[kind & 0xFF] + table.bytes(at, size).decode("utf-8", "surrogateescape")
            at += size
            (size,) = table.unpack(_NUMBER, at)
            value_at, at = at + _NUMBER.size, at + _NUMBER.size + size
            if kind & 0x100:  # the value stands elsewhere
                (elsewhere,) = struct.unpack("<Q", table.bytes(value_at, 8))
                value_at = table.at(elsewhere >> 16, elsewhere & 0xFFFF)
                (size,) = table.unpack(_NUMBER, value_at)
                value_at += _NUMBER.size
            found.append((name, table.bytes(value_at, size).decode("utf-8", "surrogateescape")))
        return tuple(sorted(found))

    def _error(self, error: _DamagedError) -> AfenvError:
        return AfenvError(
            "E510", f"this is not a squashfs image that can be read: {error}", place=str(self.path)
        )


_DIRECTORY = struct.Struct("<IIHHI")
_EXT_DIRECTORY = struct.Struct("<IIIIHHI")
_FILE = struct.Struct("<IIII")
_EXT_FILE = struct.Struct("<QQQIIII")
_LINK = struct.Struct("<II")
_NUMBER = struct.Struct("<I")
_PLACE = struct.Struct("<Q")
_PAIR = struct.Struct("<HH")


class _DamagedError(Exception):
    """What is wrong with the image."""


def _refuse(why: str) -> NoReturn:
    raise _DamagedError(why)


def _decompressor(number: int) -> Callable[[bytes, int], bytes]:
    """A function of the compressed bytes and the most that may come out."""
    name = COMPRESSORS.get(number, str(number))
    if name == "gzip":
        from isal import isal_zlib

        def gzip(data: bytes, most: int) -> bytes:
            stream = isal_zlib.decompressobj()
            return _checked(lambda: bytes(stream.decompress(data, most + 1)), most)

        return gzip
    if name == "zstd":
        import zstandard

        context = zstandard.ZstdDecompressor()

        def zstd(data: bytes, most: int) -> bytes:
            def run() -> bytes:
                if zstandard.frame_content_size(data) > most:
                    _refuse("a block holds more than it may")
                return context.decompress(data, max_output_size=most)

            return _checked(run, most)

        return zstd
    if name == "xz":

        def xz(data: bytes, most: int) -> bytes:
            return _checked(
                lambda: lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, most + 1), most
            )

        return xz
    _refuse(f"it is compressed with {name}; gzip, xz and zstd can be read")


def _checked(run: Callable[[], bytes], most: int) -> bytes:
    try:
        data = run()
    except _DamagedError:
        raise
    except (zlib.error, lzma.LZMAError, EOFError, ValueError, MemoryError) as error:
        _refuse(f"a block cannot be decompressed: {error}")
    except Exception as error:  # noqa: BLE001 - isal and zstandard have errors of their own
        _refuse(f"a block cannot be decompressed: {error}")
    if len(data) > most:
        _refuse("a block holds more than it may")
    return data
