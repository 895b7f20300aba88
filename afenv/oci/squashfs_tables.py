"""The tables of a squashfs image, read with every offset and size checked before it is used."""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, NoReturn

MAGIC = b"hsqs"
BIG_ENDIAN = b"sqsh"
SUPER = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
METADATA = 8192
MOST_METADATA = 256 << 20  # bytes of one table, uncompressed
NONE = 0xFFFFFFFF
NO_TABLE = 0xFFFFFFFFFFFFFFFF
COMPRESSORS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
NUMBER = struct.Struct("<I")

_PLACE = struct.Struct("<Q")
_PAIR = struct.Struct("<HH")
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


class Table(NamedTuple):
    """Metadata blocks, uncompressed, and where each of them began."""

    data: bytes
    starts: list[int]  # of the blocks, relative to the table
    places: list[int]  # of the same in ``data``

    def at(self, block: int, offset: int) -> int:
        found = bisect_right(self.starts, block) - 1
        if found < 0 or self.starts[found] != block or offset > METADATA:
            refuse("it refers to a place where there is no block")
        return self.places[found] + offset

    def unpack(self, form: struct.Struct, at: int) -> tuple[int, ...]:
        if at < 0 or at + form.size > len(self.data):
            refuse("a table ends too early")
        return form.unpack_from(self.data, at)

    def bytes(self, at: int, size: int) -> bytes:
        if at < 0 or size < 0 or at + size > len(self.data):
            refuse("a table ends too early")
        return self.data[at : at + size]


class Tables:
    """The tables of an image that begins at ``offset`` of an open file and has ``length`` bytes."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._descriptor, self._offset, self._length = descriptor, offset, length
        self.super = self._read_super()
        self._decompress = decompressor(self.super.compressor)
        self.ids = self._id_table()
        self.inodes = self._metadata(self.super.inode_table, self.super.directory_table)
        self.directories = self._metadata(self.super.directory_table, self._after_directories())
        self._fragments = self._fragment_table()
        self._xattrs = self._xattr_tables()
        self.block = lru_cache(maxsize=8)(self._read_block)

    def _read(self, at: int, size: int) -> bytes:
        if at < 0 or at + size > self._length:
            refuse(f"it ends at {self._length}, and {size} bytes at {at} are needed")
        data = os.pread(self._descriptor, size, self._offset + at)
        if len(data) != size:
            refuse("it became shorter while it was read")
        return data

    def _read_super(self) -> SuperBlock:
        start = self._read(0, min(4, self._length))
        if start == BIG_ENDIAN:
            refuse("it is big-endian; only squashfs 4.0, which is little-endian, can be read")
        if start != MAGIC:
            refuse("it does not have squashfs's magic number")
        found = SuperBlock(*SUPER.unpack(self._read(0, SUPER.size)))
        if (found.major, found.minor) != (4, 0):
            refuse(f"it is of version {found.major}.{found.minor}; only 4.0 is known")
        if not 12 <= found.block_log <= 20 or found.block_size != 1 << found.block_log:
            refuse(f"its blocks have {found.block_size} bytes")
        if found.size > self._length:
            refuse(f"it is cut off: {found.size} bytes are expected, and {self._length} are there")
        return found

    def _metadata_block(self, at: int) -> tuple[bytes, int]:
        """A metadata block, and where the next one begins."""
        (head,) = struct.unpack("<H", self._read(at, 2))
        size = head & 0x7FFF
        if not 0 < size <= METADATA:
            refuse("a metadata block has no content, or too much")
        data = self._read(at + 2, size)
        return (data if head & 0x8000 else self._decompress(data, METADATA)), at + 2 + size

    def _metadata(self, start: int, end: int) -> Table:
        parts, starts, places, size, at = [], [], [], 0, start
        if not SUPER.size <= start <= end <= self._length:
            refuse("its tables are not in order")
        while at < end:
            data, following = self._metadata_block(at)
            parts.append(data)
            starts.append(at - start)
            places.append(size)
            size += len(data)
            at = following
            if size > MOST_METADATA:
                refuse(f"a table has more than {MOST_METADATA >> 20} MiB")
        return Table(b"".join(parts), starts, places)

    def _pointed(self, at: int, count: int, item: int) -> bytes:
        """A table of ``count`` items, each of ``item`` bytes, found through a list of its blocks."""
        size = count * item
        if size > MOST_METADATA:
            refuse(f"a table has {size} bytes")
        blocks = -(-size // METADATA)
        places = struct.unpack(f"<{blocks}Q", self._read(at, 8 * blocks))
        data = b"".join(self._metadata_block(place)[0] for place in places)
        if len(data) < size:
            refuse("a table ends too early")
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

    def fragment(self, number: int) -> bytes:
        if number >= self.super.fragments:
            refuse("a file is in a fragment that is not there")
        start, size, _ = struct.unpack_from("<QII", self._fragments, 16 * number)
        return self.block(start, size)

    def _read_block(self, start: int, size: int) -> bytes:
        """A data or fragment block; bit 24 of its size says that it is not compressed."""
        length = size & 0xFFFFFF
        if length > self.super.block_size or size >> 25:
            refuse("a block is larger than blocks are")
        data = self._read(start, length)
        return data if size & 1 << 24 else self._decompress(data, self.super.block_size)

    def _xattr_tables(self) -> tuple[bytes, Table] | None:
        at = self.super.xattr_table
        if at == NO_TABLE:
            return None
        values, count, _ = struct.unpack("<QII", self._read(at, 16))
        ids = self._pointed(at + 16, count, 16)
        (end,) = struct.unpack("<Q", self._read(at + 16, 8)) if count else (values,)
        return ids, self._metadata(values, end)

    def xattrs_of(self, number: int) -> tuple[tuple[str, str], ...]:
        if number == NONE or self._xattrs is None:
            return ()
        ids, table = self._xattrs
        if 16 * number + 16 > len(ids):
            refuse("a file has extended attributes that are not there")
        reference, count, _ = struct.unpack_from("<QII", ids, 16 * number)
        at, found = table.at(reference >> 16, reference & 0xFFFF), []
        for _ in range(count):
            kind, size = table.unpack(_PAIR, at)
            at += _PAIR.size
            if kind & 0xFF >= len(_PREFIXES):
                refuse("an extended attribute has a prefix that is not known")
            name = _PREFIXES[kind & 0xFF] + table.bytes(at, size).decode("utf-8", "surrogateescape")
            at += size
            (size,) = table.unpack(NUMBER, at)
            value_at, at = at + NUMBER.size, at + NUMBER.size + size
            if kind & 0x100:  # the value stands elsewhere
                (elsewhere,) = struct.unpack("<Q", table.bytes(value_at, 8))
                value_at = table.at(elsewhere >> 16, elsewhere & 0xFFFF)
                (size,) = table.unpack(NUMBER, value_at)
                value_at += NUMBER.size
            found.append((name, table.bytes(value_at, size).decode("utf-8", "surrogateescape")))
        return tuple(sorted(found))


class DamagedError(Exception):
    """What is wrong with the image."""


def refuse(why: str) -> NoReturn:
    raise DamagedError(why)


def decompressor(number: int) -> Callable[[bytes, int], bytes]:
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
                    refuse("a block holds more than it may")
                return context.decompress(data, max_output_size=most)

            return _checked(run, most)

        return zstd
    if name == "xz":

        def xz(data: bytes, most: int) -> bytes:
            return _checked(
                lambda: lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, most + 1), most
            )

        return xz
    refuse(f"it is compressed with {name}; gzip, xz and zstd can be read")


def _checked(run: Callable[[], bytes], most: int) -> bytes:
    try:
        data = run()
    except DamagedError:
        raise
    except (zlib.error, lzma.LZMAError, EOFError, ValueError, MemoryError) as error:
        refuse(f"a block cannot be decompressed: {error}")
    except Exception as error:  # noqa: BLE001 - isal and zstandard have errors of their own
        refuse(f"a block cannot be decompressed: {error}")
    if len(data) > most:
        refuse("a block holds more than it may")
    return data
