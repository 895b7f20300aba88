"""A gzip stream of many members (RFC 1952, section 2.2).

A deflate stream that exists already is not inflated and deflated again: gzip allows members to follow
one another, so it becomes a member of its own, between a header of ten bytes and a trailer of eight.
What has no stream yet is deflated at one fixed level, in members of one fixed size; both belong to the
assembly version.
"""

from __future__ import annotations

from collections.abc import Iterator

import deflate as libdeflate
from isal import isal_zlib
from isal.isal_zlib import crc32 as crc32

COMPRESSOR = "libdeflate"
LEVEL = 1
MEMBER = 1 << 18  # bytes of content in a member that is deflated here

# magic, deflate, no flags, no time, no extra flags, unknown operating system
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_INPUT = 1 << 17  # compressed bytes that are inflated at once
_OUTPUT = 1 << 20  # bytes that come out at once


class BadStream(Exception):
    """A deflate stream is damaged, or holds something else than was said of it."""


def trailer(crc32: int, size: int) -> bytes:
    """The end of a member: the CRC-32 of its content, and its size modulo 2³²."""
    return crc32.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def deflate(data: bytes | bytearray | memoryview) -> bytes:
    """A raw deflate stream of ``data``."""
    # not isal's, which is twice as fast: see docs/adr/0006-gzip-members-without-recompression.md
    return bytes(libdeflate.deflate_compress(data, LEVEL))


def member(data: bytes | bytearray | memoryview) -> bytes:
    """A whole member that holds ``data``."""
    return b"".join((HEADER, deflate(data), trailer(isal_zlib.crc32(data), len(data))))


def inflate_small(stream: memoryview, size: int, crc32: int) -> bytes:
    """The content of a short deflate stream; :class:`BadStream` unless size and CRC-32 are right."""
    decompressor = isal_zlib.decompressobj(-15)
    try:
        data: bytes = decompressor.decompress(stream, size + 1)
    except _IsalError as error:
        raise BadStream(str(error)) from None
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise BadStream(_size_message(size))
    return check(data, size, crc32)


def check(data: bytes, size: int, crc32: int) -> bytes:
    """``data`` itself; :class:`BadStream` unless size and CRC-32 are right."""
    if len(data) != size:
        raise BadStream(_size_message(size))
    if isal_zlib.crc32(data) != crc32:
        raise BadStream(_CRC_MESSAGE)
    return data


def peek(start: memoryview, count: int, *, stored: bool) -> bytes:
    """The first ``count`` bytes of the content that starts with ``start`` in its archive."""
    if stored:
        return bytes(start[:count])
    try:
        return isal_zlib.decompressobj(-15).decompress(start, count)
    except _IsalError as error:
        raise BadStream(str(error)) from None


def inflate(stream: memoryview, size: int, crc32: int) -> Iterator[bytes]:
    """The content of a deflate stream, in pieces of bounded size.

    Raises :class:`BadStream` as soon as more than ``size`` bytes come out, and at the end unless size
    and CRC-32 are right and nothing follows the stream.
    """
    decompressor = isal_zlib.decompressobj(-15)
    left = size
    seen = 0
    try:
        for start in range(0, len(stream), _INPUT):
            if decompressor.eof:
                raise BadStream("something follows its end")
            data: bytes | memoryview = stream[start : start + _INPUT]
            while True:
                piece: bytes = decompressor.decompress(data, min(_OUTPUT, left + 1))
                left -= len(piece)
                if left < 0:
                    raise BadStream(_size_message(size))
                seen = isal_zlib.crc32(piece, seen)
                if piece:
                    yield piece
                data = decompressor.unconsumed_tail
                if not data:
                    break
                if not piece:
                    raise BadStream("it cannot be inflated")
    except _IsalError as error:
        raise BadStream(str(error)) from None
    if left or not decompressor.eof or decompressor.unused_data:
        raise BadStream(_size_message(size))
    if seen != crc32:
        raise BadStream(_CRC_MESSAGE)


_CRC_MESSAGE = "its CRC-32 is not the one in the directory"


def _size_message(size: int) -> str:
    return f"it does not inflate to the {size} bytes that the directory says"
