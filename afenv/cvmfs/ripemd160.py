"""RIPEMD-160, for a Python whose OpenSSL does not have it.

From its authors' description (H. Dobbertin, A. Bosselaers, B. Preneel, "RIPEMD-160: A Strengthened Version of
RIPEMD", 1996). About a megabyte takes seconds: hashlib's own is used wherever it is there.
"""

from __future__ import annotations

import struct

_R1 = (
    *range(16),
    *(7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8),
    *(3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12),
    *(1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2),
    *(4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13),
)
_R2 = (
    *(5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12),
    *(6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2),
    *(15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13),
    *(8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14),
    *(12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11),
)
_S1 = (
    *(11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8),
    *(7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12),
    *(11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5),
    *(11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12),
    *(9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6),
)
_S2 = (
    *(8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6),
    *(9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11),
    *(9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5),
    *(15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8),
    *(8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11),
)
_K1 = (0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E)
_K2 = (0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0)
_MASK = 0xFFFFFFFF


def _mix(which: int, x: int, y: int, z: int) -> int:
    if which == 0:
        return x ^ y ^ z
    if which == 1:
        return (x & y) | (~x & z)
    if which == 2:
        return (x | ~y) ^ z
    if which == 3:
        return (x & z) | (y & ~z)
    return x ^ (y | ~z)


def _rotated(value: int, count: int) -> int:
    value &= _MASK
    return (value << count | value >> (32 - count)) & _MASK


def _line(
    state: tuple[int, ...],
    words: tuple[int, ...],
    order: tuple[int, ...],
    shifts: tuple[int, ...],
    keys: tuple[int, ...],
    backwards: bool,
) -> tuple[int, ...]:
    a, b, c, d, e = state
    for step in range(80):
        part = step // 16
        mixed = a + _mix(4 - part if backwards else part, b, c, d) + words[order[step]] + keys[part]
        a, b, c, d, e = e, _rotated(mixed, shifts[step]) + e & _MASK, b, _rotated(c, 10), d
    return a, b, c, d, e


class Ripemd160:
    """A hash with the methods of hashlib's that are used here."""

    def __init__(self) -> None:
        self._state: tuple[int, ...] = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
        self._rest = b""
        self._length = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append some bytes."""
        self._length += len(data)
        whole = self._rest + bytes(data)
        end = len(whole) - len(whole) % 64
        for start in range(0, end, 64):
            self._state = _block(self._state, whole[start : start + 64])
        self._rest = whole[end:]

    def hexdigest(self) -> str:
        """The digest of what was appended so far."""
        last = self._rest + b"\x80" + bytes((55 - self._length) % 64) + struct.pack("<Q", self._length * 8)
        state = self._state
        for start in range(0, len(last), 64):
            state = _block(state, last[start : start + 64])
        return struct.pack("<5I", *state).hex()


def _block(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    words = struct.unpack("<16I", block)
    one = _line(state, words, _R1, _S1, _K1, False)
    two = _line(state, words, _R2, _S2, _K2, True)
    return tuple((state[(i + 1) % 5] + one[(i + 2) % 5] + two[(i + 3) % 5]) & _MASK for i in range(5))
