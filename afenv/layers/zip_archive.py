"""Zip archives as the writer of layers wants them: a directory, and compressed content as it lies there.

The format is PKWARE's APPNOTE 6.3.10: the central directory (4.3.12) decides, zip64 included (4.5.3),
and the local headers (4.3.7) must agree with it. Only stored and deflated entries are read; nothing is
inflated here.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from afenv.errors import AfenvError

STORED, DEFLATED = 0, 8
LARGEST_READ = 32 << 20  # bytes of a file that is read as a whole: metadata, and scripts to be changed

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x0001 | 0x0040
_UTF8 = 0x0800
_UNIX = 3
_ZIP64 = 1
_DATE = 0x0021  # 1980-01-01


class ZipEntry(NamedTuple):
    """One file of an archive, by its central directory."""

    name: str
    size: int
    crc32: int
    method: int
    mode: int  # Unix mode with file type; 0 where the archive does not tell
    start: int  # where the stored or deflated content lies
    end: int


class ZipArchive:
    """An archive in memory (mapped or not); ``place`` names it in errors. Folder entries are left out."""

    def __init__(self, data: memoryview, place: str) -> None:
        self.data = data
        self.place = place
        try:
            self.entries: dict[str, ZipEntry] = {entry.name: entry for entry in _entries(data, place)}
        except (struct.error, UnicodeDecodeError, OverflowError):
            raise AfenvError("E303", "the zip directory is damaged", place=place) from None

    def forget(self) -> None:
        """Let the memory go that holds parts of a mapped file; they are read again where needed."""
        if isinstance(self.data.obj, mmap.mmap):
            self.data.obj.madvise(mmap.MADV_DONTNEED)

    def content(self, entry: ZipEntry) -> memoryview:
        """The content as it lies in the archive: stored, or a raw deflate stream."""
        return self.data[entry.start : entry.end]

    def read(self, name: str) -> bytes | None:
        """The content of a small file, checked; None if there is none of that name."""
        from afenv.layers import gzip_members

        entry = self.entries.get(name)
        if entry is None:
            return None
        if entry.size > LARGEST_READ:
            raise AfenvError("E303", f"{name} has {entry.size} bytes, which is too much", place=self.place)
        content = self.content(entry)
        try:
            if entry.method == STORED:
                return gzip_members.check(bytes(content), entry.size, entry.crc32)
            return gzip_members.inflate_small(content, entry.size, entry.crc32)
        except gzip_members.BadStream as error:
            raise AfenvError("E303", f"{name} is damaged: {error}", place=self.place) from None


def map_zip(path: Path, *, sha256: str | None = None) -> ZipArchive:
    """The archive at ``path``, mapped into memory as long as anything of it is in use.

    Raises E301 unless it has that digest (64 hexadecimal digits), where given, and E303 if damaged.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise AfenvError("E303", "the archive is empty", place=path.name)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise AfenvError("E403", f"cannot read: {error.strerror}", place=str(path)) from error
    data = memoryview(mapped)
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            message = f"the archive has sha256 {found}, the lock names {sha256}"
            raise AfenvError("E301", message, place=path.name)
    return ZipArchive(data, path.name)


def _directory(data: memoryview, place: str) -> tuple[int, int, int]:
    """Where the central directory starts and ends, and how many entries it has."""
    tail_start = max(0, len(data) - _END.size - 0xFFFF)
    tail = bytes(data[tail_start:])
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise AfenvError("E303", "it is not a zip archive, or its end is missing", place=place)
    at += tail_start
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(data, at)
    limit = at
    locator = at - _END64_LOCATOR.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\6\7":
        _, _, limit, _ = _END64_LOCATOR.unpack_from(data, locator)
        signature, _, _, _, disk, first_disk, here, count, size, start = _END64.unpack_from(data, limit)
        if signature != b"PK\6\6":
            raise AfenvError("E303", "the zip directory is damaged", place=place)
    if disk or first_disk or here != count or start + size != limit:
        raise AfenvError("E303", "the zip directory is not where its end says", place=place)
    return start, limit, count


def _entries(data: memoryview, place: str) -> list[ZipEntry]:
    """The files of the central directory; overlapping or doubled ones are E303."""
    begin, limit, count = _directory(data, place)
    found: list[tuple[int, ZipEntry]] = []
    at = begin
    for _ in range(count):
        fields = _CENTRAL.unpack_from(data, at)
        signature, made_by, _, flags, method, _, _, crc32, packed, size = fields[:10]
        name_length, extra_length, comment_length, disk, _, attributes, offset = fields[10:]
        name_end = at + _CENTRAL.size + name_length
        following = name_end + extra_length + comment_length
        if signature != b"PK\1\2" or following > limit:
            raise AfenvError("E303", "the zip directory is damaged", place=place)
        raw = bytes(data[at + _CENTRAL.size : name_end])
        name = raw.decode("utf-8" if flags & _UTF8 or raw.isascii() else "cp437")
        if 0xFFFFFFFF in (size, packed, offset):
            size, packed, offset = _wide(bytes(data[name_end:following]), size, packed, offset)
        if flags & _ENCRYPTED:
            raise AfenvError("E303", f"{name} is encrypted", place=place)
        if disk or method not in (STORED, DEFLATED) or (method == STORED and size != packed):
            raise AfenvError("E303", f"{name} is packed in a way that is not allowed", place=place)
        start = _content_start(data, offset, raw, method, place)
        mode = attributes >> 16 if made_by >> 8 == _UNIX else 0
        found.append((offset, ZipEntry(name, size, crc32, method, mode, start, start + packed)))
        at = following
    found.sort()
    last = 0
    names: set[str] = set()
    for offset, entry in found:
        if offset < last or entry.name in names:
            raise AfenvError("E303", f"{entry.name} overlaps another entry", place=place)
        last = entry.end
        names.add(entry.name)
    if last > begin:
        raise AfenvError("E303", "the last entry runs into the zip directory", place=place)
    return [entry for _, entry in found if entry.size or not entry.name.endswith("/")]


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset with those replaced that the zip64 extra field holds."""
    values = [size, packed, offset]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _ZIP64:
            for index, value in enumerate(values):
                if value == 0xFFFFFFFF:
                    (values[index],) = struct.unpack_from("<Q", extra, at)
                    at += 8
            break
        at += length
    return values[0], values[1], values[2]


def _content_start(data: memoryview, offset: int, name: bytes, method: int, place: str) -> int:
    """Where the content starts, by the local header, which must agree with the directory."""
    fields = _LOCAL.unpack_from(data, offset)
    signature, local_method, name_length, extra_length = fields[0], fields[3], fields[9], fields[10]
    at = offset + _LOCAL.size
    if signature != b"PK\3\4" or local_method != method or data[at : at + name_length] != name:
        raise AfenvError("E303", f"the two headers of {name!r} disagree", place=place)
    return int(at + name_length + extra_length)


def write_zip(files: Iterable[tuple[str, int, int, int, bytes]]) -> Iterator[bytes]:
    """An archive, piece by piece, of ``(name, method, size, crc32, content as stored)``.

    Without times and modes; with zip64 where it needs to be. Names are unique.
    """
    at = 0
    count = 0
    directory = bytearray()
    for name, method, size, crc32, content in files:
        raw = name.encode()
        sizes = (crc32, len(content), size)
        yield _LOCAL.pack(b"PK\3\4", 20, _UTF8, method, 0, _DATE, *sizes, len(raw), 0) + raw
        yield content
        extra = b"" if at < 0xFFFFFFFF else struct.pack("<2HQ", _ZIP64, 8, at)
        directory += _CENTRAL.pack(
            *(b"PK\1\2", 20, 20, _UTF8, method, 0, _DATE, *sizes),
            *(len(raw), len(extra), 0, 0, 0, 0, min(at, 0xFFFFFFFF)),
        )
        directory += raw + extra
        at += _LOCAL.size + len(raw) + len(content)
        count += 1
    yield bytes(directory)
    if count >= 0xFFFF or at >= 0xFFFFFFFF:
        end = at + len(directory)
        yield _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, len(directory), at)
        yield _END64_LOCATOR.pack(b"PK\6\7", 0, end, 1)
    short = min(count, 0xFFFF)
    yield _END.pack(b"PK\5\6", 0, 0, short, short, len(directory), min(at, 0xFFFFFFFF), 0)
