"""The bytes around the files of a bag in one file: tar and zip, stored, each byte of them fixed.

Both are functions of the names, sizes and contents of the members alone, so that two archives of one
analysis are the same bytes, and a check can tell a flipped bit in a header from what belongs there.

tar is POSIX.1-2001 (ustar, with pax records where it has no room). zip is that of APPNOTE.TXT 6.3.9 without
compression: sizes and checksums follow the content (bit 3 of the flags), so it is written in one go; zip64
where a number needs it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from afenv.layers.tar_header import END, FILE, header, padding

MTIME = 315532800  # 1980-01-01, the earliest that zip can say
RECORD = 10240

_DOS_DATE = (0 << 9) | (1 << 5) | 1
_FLAGS = 0x0808  # sizes after the content; names in UTF-8
_LARGE = 0xFFFFFFFF
_UNIX_FILE = (0o100644 << 16) & 0xFFFFFFFF


class Framing(Protocol):
    """What stands around the members; to be asked for each member in order, then for the end."""

    checksum: bool  # whether ``after`` wants the CRC-32 of the content

    def before(self, name: str, size: int) -> bytes:
        """What stands in front of a member's content."""
        ...  # pragma: no cover

    def after(self, crc: int) -> bytes:
        """What follows the content of the member that was begun last."""
        ...  # pragma: no cover

    def end(self) -> bytes:
        """What ends the archive."""
        ...  # pragma: no cover


class TarFraming:
    """tar: a header before each content, padding after it."""

    checksum = False

    def __init__(self) -> None:
        self._size = 0
        self._at = 0

    def before(self, name: str, size: int) -> bytes:
        """The header."""
        self._size = size
        data = header(name.encode("utf-8"), 0o644, MTIME, FILE, size)
        self._at += len(data) + size
        return data

    def after(self, crc: int) -> bytes:
        """Zeros to the end of the block."""
        data = padding(self._size)
        self._at += len(data)
        return data

    def end(self) -> bytes:
        """Two blocks of zeros, and more to the end of the record."""
        return END + bytes(-(self._at + len(END)) % RECORD)


class ZipFraming:
    """zip: a header before each content, sizes and checksum after it, a directory at the end."""

    checksum = True

    def __init__(self) -> None:
        self._at = 0
        self._central: list[bytes] = []
        self._name, self._size, self._start = b"", 0, 0

    def before(self, name: str, size: int) -> bytes:
        """The local header."""
        self._name, self._size, self._start = name.encode("utf-8"), size, self._at
        large = size >= _LARGE
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if large else b""
        sizes = (_LARGE, _LARGE) if large else (0, 0)
        version = 45 if large else 20
        head = struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            version,
            _FLAGS,
            0,
            0,
            _DOS_DATE,
            0,
            *sizes,
            len(self._name),
            len(extra),
        )
        data = head + self._name + extra
        self._at += len(data) + size
        return data

    def after(self, crc: int) -> bytes:
        """The data descriptor; the member's entry in the directory is kept for the end."""
        large = self._size >= _LARGE
        data = struct.pack("<IIQQ" if large else "<IIII", 0x08074B50, crc, self._size, self._size)
        self._at += len(data)
        far = self._start >= _LARGE
        numbers = ([self._size, self._size] if large else []) + ([self._start] if far else [])
        extra = struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
        size = _LARGE if large else self._size
        start = _LARGE if far else self._start
        version = 45 if numbers else 20
        entry = struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            (3 << 8) | version,
            version,
            _FLAGS,
            0,
            0,
            _DOS_DATE,
            crc,
            size,
            size,
            len(self._name),
            len(extra),
            0,
            0,
            0,
            _UNIX_FILE,
            start,
        )
        self._central.append(entry + self._name + extra)
        return data

    def end(self) -> bytes:
        """The directory and its end, in the form of zip64 where a number needs it."""
        count, start = len(self._central), self._at
        directory = b"".join(self._central)
        size, tail = len(directory), b""
        if count >= 0xFFFF or start >= _LARGE or size >= _LARGE:
            version = (3 << 8) | 45
            tail = struct.pack(
                "<IQHHIIQQQQ", 0x06064B50, 44, version, 45, 0, 0, count, count, size, start
            ) + struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
        few = min(count, 0xFFFF)
        return (
            directory
            + tail
            + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, _LARGE), min(start, _LARGE), 0)
        )


FRAMINGS: Mapping[str, Callable[[], Framing]] = {"tar": TarFraming, "zip": ZipFraming}
