"""A fast, streaming reader of tar archives: ustar, GNU long names and pax.

It reads what packages hold and nothing more: files, folders, symbolic links and hard links. Paths come
out normalised, relative and inside the root; whatever would lead outside is refused.

Sources of the format: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header Block"; the GNU tar
manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, NoReturn

from afenv.errors import AfenvError

BLOCK = 512
WHOLE = 1 << 20  # bytes; a larger file comes in several chunks
MAX_NAME = 1 << 16  # bytes of a GNU long name
MAX_PAX = 1 << 20  # bytes of a pax header

Kind = Literal["file", "directory", "symlink", "hardlink"]

_KINDS: dict[int, Kind] = {
    0: "file",
    ord("0"): "file",
    ord("7"): "file",
    ord("1"): "hardlink",
    ord("2"): "symlink",
    ord("5"): "directory",
}
_GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL = ord("L"), ord("K"), ord("x"), ord("g")
_NODES = {ord("3"): "a character device", ord("4"): "a block device", ord("6"): "a named pipe"}
_ZERO = bytes(BLOCK)


class TarMember(NamedTuple):
    """One member of a tar archive.

    ``path`` is relative, normalised, without a trailing slash, and empty for the root itself. Names that
    are not UTF-8 are decoded with ``surrogateescape``. ``mode`` has the permission bits, set-id and
    sticky bits included. ``size`` is in bytes and 0 for all but files. ``linkname`` is the target: of a
    symbolic link as written, of a hard link a normalised path. ``chunks`` is the content; it is to be
    read before the next member is asked for, and may be left unread.
    """

    path: str
    kind: Kind
    mode: int
    size: int
    linkname: str
    chunks: Iterable[bytes]


def _bad(place: str, message: str) -> NoReturn:
    raise AfenvError("E303", message, place=place)


def _unsafe(place: str, message: str) -> NoReturn:
    raise AfenvError("E304", message, place=place)


def inner_path(name: str, place: str) -> str:
    """``name`` of a member as a normalised path below the root; E304 if it leads outside."""
    if name.startswith("/"):
        _unsafe(place, f"the path {name!r} is absolute")
    if "\0" in name:
        _unsafe(place, f"the path {name!r} holds a NUL")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        _unsafe(place, f"the path {name!r} leads upwards")
    return "/".join(parts)


def check_link(path: str, target: str, place: str) -> None:
    """Refuse (E304) a relative symbolic link at ``path`` that climbs above the root.

    An absolute target is counted from the image's root, so it cannot leave it.
    """
    if "\0" in target:
        _unsafe(place, f"the target of the link {path!r} holds a NUL")
    if ".." not in target or target.startswith("/"):
        return
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                _unsafe(place, f"the link {path!r} leads outside, to {target!r}")
        elif part not in ("", "."):
            depth += 1


def _number(field: bytes, place: str) -> int:
    """A numeric field: octal digits, or GNU's base-256 form where the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            _bad(place, "a number in a tar header is negative or too large")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        _bad(place, f"a number in a tar header is not octal: {digits!r}")
    try:
        return int(digits, 8)
    except ValueError:
        _bad(place, f"a number in a tar header is not octal: {digits!r}")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_records(data: bytes, place: str) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE\\n`` of a pax header."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 10)
        digits = data[position:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : position + length]
        if not record.endswith(b"\n") or b"=" not in record or position + length > len(data):
            _bad(place, "a pax header is malformed")
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position += length
    return records


class _Buffer:
    """Bytes taken from an iterator of chunks."""

    def __init__(self, chunks: Iterable[bytes], place: str) -> None:
        self._next = iter(chunks).__next__
        self.place = place
        self.data = b""
        self.position = 0
        self.unread = 0  # bytes of the current member, padding included, that were not taken

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes; E303 at a premature end."""
        end = self.position + size
        if end <= len(self.data):
            piece = self.data[self.position : end]
            self.position = end
            return piece
        parts = [self.data[self.position :]]
        left = size - len(parts[0])
        while left:
            try:
                self.data = self._next()
            except StopIteration:
                _bad(self.place, "the tar archive ends in the middle")
            self.position = min(left, len(self.data))
            parts.append(self.data[: self.position])
            left -= self.position
        return b"".join(parts)

    def some(self, most: int) -> bytes:
        """Between 1 and ``most`` bytes; E303 at a premature end."""
        while self.position >= len(self.data):
            try:
                self.data = self._next()
            except StopIteration:
                _bad(self.place, "the tar archive ends in the middle")
            self.position = 0
        piece = self.data[self.position : self.position + most]
        self.position += len(piece)
        return piece

    def body(self, size: int) -> Iterator[bytes]:
        """The content of a large member, as it comes."""
        while size:
            piece = self.some(size)
            size -= len(piece)
            self.unread -= len(piece)
            yield piece

    def skip(self) -> None:
        """Go to the next header."""
        self.position += self.unread
        self.unread = 0
        while self.position > len(self.data):
            self.position -= len(self.data)
            try:
                self.data = self._next()
            except StopIteration:
                _bad(self.place, "the tar archive ends in the middle")

    def drain(self) -> None:
        """Read to the end of the source, so that its own checks are made."""
        self.data = b""
        self.position = 0
        while True:
            try:
                self._next()
            except StopIteration:
                return


def read_tar(chunks: Iterable[bytes], place: str) -> Iterator[TarMember]:
    """The members of the tar archive whose bytes come from ``chunks``; ``place`` names it in errors.

    Raises E303 where the archive is malformed or truncated, E304 where a member would be outside of the
    root or is a device.
    """
    buffer = _Buffer(chunks, place)
    long_name: str | None = None
    long_link: str | None = None
    pax: dict[str, str] = {}
    pax_global: dict[str, str] = {}
    while True:
        if buffer.unread:
            buffer.skip()
        header = buffer.take(BLOCK)
        if header[0] == 0 and header == _ZERO:
            if long_name is not None or long_link is not None or pax:
                _bad(place, "the tar archive ends after an extended header")
            buffer.drain()
            return
        # The checksum counts its own field as eight spaces (256 in all).
        total = sum(header.translate(None, b"\0")) - sum(header[148:156]) + 256
        if total != _number(header[148:156], place):
            _bad(place, "a tar header has a wrong checksum")
        size = _number(header[124:136], place)
        flag = header[156]
        kind = _KINDS.get(flag)
        if kind is None:
            if flag in (_GNU_NAME, _GNU_LINK):
                if size > MAX_NAME:
                    _bad(place, f"a file name of {size} bytes is too long")
                text = _text(buffer.take(size + -size % BLOCK)[:size])
                if flag == _GNU_NAME:
                    long_name = text
                else:
                    long_link = text
            elif flag in (_PAX, _PAX_GLOBAL):
                if size > MAX_PAX:
                    _bad(place, f"a pax header of {size} bytes is too long")
                records = _pax_records(buffer.take(size + -size % BLOCK)[:size], place)
                (pax if flag == _PAX else pax_global).update(records)
            elif flag in _NODES:
                _unsafe(place, f"{_text(header[:100])!r} is {_NODES[flag]}")
            else:
                _bad(place, f"{_text(header[:100])!r} is of the unknown type {chr(flag)!r}")
            continue

        name = _text(header[:100])
        if header[257:263] == b"ustar\0" and header[345]:
            name = f"{_text(header[345:500])}/{name}"
        link = _text(header[157:257]) if kind == "symlink" or kind == "hardlink" else ""
        if pax_global or pax:
            records = pax_global | pax
            pax = {}
            if any(key.startswith("GNU.sparse.") for key in records):
                _bad(place, f"{name!r} is a sparse file in a form that is not supported")
            name = records.get("path", name)
            link = records.get("linkpath", link)
            if "size" in records:
                digits = records["size"]
                if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
                    _bad(place, "the size in a pax header is not a number")
                size = int(digits)
        if long_name is not None:
            name, long_name = long_name, None
        if long_link is not None:
            link, long_link = long_link, None

        if flag == 0 and name.endswith("/"):
            kind = "directory"  # the form before POSIX
        if name.startswith("./"):
            name = name[2:]
        if name.endswith("/"):
            name = name[:-1]
        if not name or name[0] in "/." or "/." in name or "//" in name or "\0" in name or name[-1] == "/":
            name = inner_path(name, place)
        if not name and kind != "directory":
            _bad(place, f"a {kind} has no name")
        mode = _number(header[100:108], place) & 0o7777

        if kind == "file":
            padded = size + -size % BLOCK
            if size <= WHOLE:
                body: Iterable[bytes] = (buffer.take(size),) if size else ()
                buffer.unread = padded - size
            else:
                buffer.unread = padded
                body = buffer.body(size)
            yield TarMember(name, kind, mode, size, "", body)
            continue
        # Archives may give a size to links and folders; POSIX: no content follows a folder or a link
        # of the types 1 and 2 in the ustar form, and packages never have any.
        if size:
            _bad(place, f"the {kind} {name!r} has content")
        if kind == "symlink":
            if not link:
                _bad(place, f"the link {name!r} has no target")
            check_link(name, link, place)
        elif kind == "hardlink":
            link = inner_path(link, place)
            if not link:
                _bad(place, f"the link {name!r} has no target")
        yield TarMember(name, kind, mode, 0, link, ())
