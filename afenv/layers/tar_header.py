"""Headers of a tar archive (POSIX.1-2001 ustar, with pax records only where ustar cannot say it).

Built from bytes, because making tens of thousands of them through :mod:`tarfile` costs more than
compressing what they describe. Owner and group are 0:0 without names.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)

FILE, HARD_LINK, SYMBOLIC_LINK, FOLDER = b"0", b"1", b"2", b"5"

_PAX = b"x"
_LARGEST = 8**11 - 1  # eleven octal digits
_NUMBERS = b"0000000\0" * 2  # user and group
_MAGIC = b"ustar\x0000"
_EMPTY_LINK = bytes(100)
_AFTER_MAGIC = bytes(32 + 32 + 8 + 8)  # names of user and group, device numbers
_PAX_NAME = b"././@PaxHeader"

_FIXED_SUM = sum(_NUMBERS) + sum(_MAGIC) + 8 * ord(" ")


def padding(size: int) -> bytes:
    """The zero bytes that follow a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def header(name: bytes, mode: int, mtime: int, kind: bytes, size: int = 0, target: bytes = b"") -> bytes:
    """The header of one member: 512 bytes, preceded by a pax member where ustar has no room.

    ``name`` has no leading slash; that of a folder ends in one. ``target`` is that of a link.
    """
    if len(name) <= 100 and not target and size <= _LARGEST and name.isascii():
        return _ustar(name, b"", mode, mtime, kind, size, _EMPTY_LINK)
    records: list[tuple[bytes, bytes]] = []
    prefix = b""
    if not name.isascii():
        records.append((b"path", name))
        name = name[:100]
    elif len(name) > 100:
        prefix, short = _split(name)
        if not short:
            records.append((b"path", name))
            short = name[:100]
        name = short
    if len(target) > 100 or not target.isascii():
        records.append((b"linkpath", target))
    if size > _LARGEST:
        records.append((b"size", b"%d" % size))
    member = _ustar(name, prefix, mode, mtime, kind, min(size, _LARGEST), target[:100].ljust(100, b"\0"))
    if not records:
        return member
    body = b"".join(_record(key, value) for key, value in sorted(records))
    before = _ustar(_PAX_NAME, b"", 0o644, mtime, _PAX, len(body), _EMPTY_LINK)
    return before + body + padding(len(body)) + member


def folder_header(name: bytes, mode: int, mtime: int, uid: int, gid: int) -> bytes:
    """The header of a folder that belongs to someone else than root."""
    whole = header(name, mode, mtime, FOLDER)
    member = bytearray(whole[-BLOCK:])
    member[108:124] = _number(uid) + _number(gid)
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member)
    return whole[:-BLOCK] + bytes(member)


def _number(value: int) -> bytes:
    """Seven octal digits, or where they do not suffice the binary form of GNU tar."""
    return b"%07o\0" % value if value < 8**7 else b"\x80" + value.to_bytes(7)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """``name`` as prefix (at most 155 bytes) and name (at most 100); two empty ones if that cannot be."""
    if len(name) > 256:
        return b"", b""
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= 155 else (b"", b"")


def _ustar(name: bytes, prefix: bytes, mode: int, mtime: int, kind: bytes, size: int, link: bytes) -> bytes:
    numbers = b"%011o\0%011o\0" % (size, mtime)
    permissions = b"%07o\0" % mode
    total = _FIXED_SUM + sum(name) + sum(prefix) + sum(numbers) + sum(permissions) + sum(link) + kind[0]
    return b"".join(
        (
            name.ljust(100, b"\0"),
            permissions,
            _NUMBERS,
            numbers,
            b"%06o\0 " % total,
            kind,
            link,
            _MAGIC,
            _AFTER_MAGIC,
            prefix.ljust(167, b"\0"),
        )
    )


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record: its own length in decimal, a space, ``key=value``, a newline."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    while rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
