"""Reading an uncompressed tar as a stream of members whose bytes can be passed on as they are.

What is needed to lay layers on one another is parsed: path, kind, target and size; everything else of a
member stays in its raw blocks. :mod:`tarfile` takes about fifty times as long per member. Formats: POSIX.1
ustar with pax records, GNU's long names and base-256 numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from queue import Queue
from threading import Event, Thread
from typing import BinaryIO

from afenv.errors import AfenvError
from afenv.layers.tar_header import BLOCK, padding
from afenv.oci.blobs import stream_errors

CHUNK = 1 << 20
AHEAD = 6  # chunks that may wait to be used
LARGEST_META = 1 << 20  # bytes of one pax or long-name record
LONGEST = 4096  # bytes of a path, as Linux has them
DEEPEST = 512  # folders that a path is in; what walks over trees goes no deeper
OWNERS = range(0xFFFFFFFF)  # users and groups of Linux; the number after them stands for none
LARGEST_TIME = 1 << 62  # seconds; more does not fit where the kernel is told

PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK, GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
SPARSE_NAME = b"GNU.sparse.name"
FILES = frozenset((b"0", b"\0", b"7", GNU_SPARSE))
_KINDS = FILES | frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_WITHOUT_CONTENT = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_ZERO = bytes(BLOCK)
_PAX_NUMBER = re.compile(rb"(-?\d{1,18})(?:\.\d*)?")

Piece = memoryview


class TarMember:
    """One member: normal path, type flag, target of a hard link, and its raw blocks.

    ``records`` are the pax records that count for it; GNU's long names are among them.
    ``size`` are the bytes of content and padding that are still to come. The content is read while the
    stream goes on: :meth:`pieces` or :meth:`content` at most once, before the next member.
    """

    __slots__ = ("_stream", "kind", "path", "raw", "records", "size", "target")

    def __init__(
        self,
        path: bytes,
        kind: bytes,
        target: bytes,
        raw: list[Piece],
        records: Mapping[bytes, bytes],
        size: int,
        stream: TarStream,
    ) -> None:
        self.path = path
        self.kind = kind
        self.target = target
        self.raw = raw
        self.records = records
        self.size = size
        self._stream = stream

    def pieces(self) -> Iterable[Piece]:
        """The raw blocks, then the content with its padding."""
        if len(self.raw) == 1 and (whole := self._stream.take_after(self.raw[0], self.size)) is not None:
            self.size = 0
            return (whole,)
        return itertools.chain(self.raw, self.content())

    def rename(self, path: bytes) -> None:
        """Give it another path, in its raw blocks as well."""
        self.path, self.raw = path, rewritten(self.raw, path)

    def content(self) -> Iterator[Piece]:
        """The content with its padding."""
        size, self.size = self.size, 0
        return self._stream.take(size)


class TarStream:
    """The members of an uncompressed tar, in order; E510 if it is damaged.

    Members whose path leads upwards are passed over; where they must not be (``strict``), E304.
    """

    def __init__(self, chunks: Iterator[bytes], *, strict: bool = False) -> None:
        self._chunks = chunks
        self._strict = strict
        self._chunk = memoryview(b"")
        self._at = 0

    def take(self, size: int) -> Iterator[Piece]:
        """The next ``size`` bytes, in pieces."""
        while size:
            left = len(self._chunk) - self._at
            if not left:
                self._chunk, self._at = memoryview(next(self._chunks, b"")), 0
                if not self._chunk:
                    raise _damaged("it ends too early")
                continue
            count = min(left, size)
            piece = self._chunk[self._at : self._at + count]
            self._at += count
            size -= count
            yield piece

    def take_after(self, block: Piece, size: int) -> Piece | None:
        """The block that came last with the next ``size`` bytes, in one piece, if all of it is at hand."""
        start, end = self._at - BLOCK, self._at + size
        if end > len(self._chunk) or block.obj is not self._chunk.obj:
            return None
        self._at = end
        return self._chunk[start:end]

    def _block(self) -> Piece | None:
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(next(self._chunks, b"")), 0
            if not self._chunk:
                return None
        block = self._chunk[self._at : self._at + BLOCK]
        if len(block) < BLOCK:
            raise _damaged("it ends inside a header")
        self._at += BLOCK
        return block

    def members(self) -> Iterator[TarMember]:
        """All members with a path; what a caller does not read of one is skipped."""
        raw: list[Piece] = []
        records: dict[bytes, bytes] = {}
        everywhere: dict[bytes, bytes] = {}
        while (block := self._block()) is not None:
            head = bytes(block)
            if not head[0] and head == _ZERO:
                for _ in self._chunks:
                    pass  # the end, with its padding; read, so that checksums of the file are checked
                return
            kind = head[156:157]
            if head[257:262] != b"ustar" and number(head[148:156]) != _sum(head):
                raise _damaged("there is something that is no header")
            size = number(head[124:136])
            if kind in (PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK):
                if size > LARGEST_META:
                    raise _damaged(f"a record has {size} bytes")
                body = b"".join(self.take(size + len(padding(size))))
                if kind == GNU_NAME:
                    records[b"path"] = body[:size].split(b"\0", 1)[0]
                elif kind == GNU_LINK:
                    records[b"linkpath"] = body[:size].split(b"\0", 1)[0]
                elif kind == PAX:
                    records |= pax_records(body[:size])
                else:
                    everywhere |= pax_records(body[:size])
                if size > DEEPEST:
                    _check_names(records if kind != PAX_GLOBAL else everywhere)
                raw += (block, memoryview(body))
                continue
            if kind not in _KINDS:
                raise _damaged(f"it has a member of unknown type {kind!r}")
            found = everywhere | records if everywhere else records
            name = (found and (found.get(SPARSE_NAME) or found.get(b"path"))) or _name(head)
            if kind in _WITHOUT_CONTENT:
                size = 0
            elif found:
                size = pax_number(found, b"size", size)
            if kind == GNU_SPARSE and head[482]:
                raise _damaged("it has a sparse file with many holes, in GNU's old format")
            raw.append(block)
            path = normal(name)
            if kind == b"0" and name[-1:] == b"/":
                kind = b"5"  # how tar wrote folders before POSIX
            target = normal(found.get(b"linkpath") or field_text(head[157:257])) if kind == b"1" else b""
            if kind == b"2" and b"linkpath" in found:
                raw = rewritten(raw, name)
            member = TarMember(path, kind, target, raw, found, size + -size % BLOCK, self)
            if path and (b".." not in path or b".." not in path.split(b"/")):
                yield member
            elif path and self._strict:
                raise AfenvError("E304", f"the path {path.decode(errors='replace')!r} leads upwards")
            if member.size:
                for _ in self.take(member.size):
                    pass
            raw, records = [], {}
        if raw:
            raise _damaged("it ends too early")


def chunks_read(stream: BinaryIO) -> Iterator[bytes]:
    """The stream in chunks; E510 if it cannot be inflated."""
    while data := _read(stream):
        yield data


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.read(CHUNK)
    except stream_errors() as error:
        raise AfenvError("E510", f"a layer cannot be read: {error}") from None


def chunks_of(stream: BinaryIO) -> Generator[bytes, None, None]:
    """As :func:`chunks_read`, but read ahead in a thread, so that inflating goes on while others work."""
    queue: Queue[bytes | BaseException] = Queue(AHEAD)
    stopped = Event()

    def read() -> None:
        try:
            while not stopped.is_set():
                data = _read(stream)
                queue.put(data)
                if not data:
                    return
        except BaseException as error:  # noqa: BLE001 - raised again where the chunks are used
            queue.put(error)

    thread = Thread(target=read, daemon=True)
    thread.start()
    try:
        while True:
            got = queue.get()
            if isinstance(got, BaseException):
                raise got
            if not got:
                return
            yield got
    finally:
        stopped.set()
        while thread.is_alive():
            while not queue.empty():
                queue.get_nowait()
            thread.join(0.01)


def normal(name: bytes) -> bytes:
    """A member's name as a path: relative, without ``.``, empty parts and a slash at the end."""
    if name[:1] in (b".", b"/") or name[-1:] == b"/" or b"//" in name or b"/." in name:
        return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))
    return name


def pax_records(body: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: ``LENGTH KEY=VALUE\\n``, one after the other."""
    found = {}
    at = 0
    while at < len(body):
        length, space, _ = body[at : at + 20].partition(b" ")
        if not space or not length.isdigit() or not at + len(length) < at + int(length) <= len(body):
            raise _damaged("it has a pax record that cannot be understood")
        key, equals, value = body[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if not equals:
            raise _damaged("it has a pax record that cannot be understood")
        found[key] = value
        at += int(length)
    return found


def _check_names(records: Mapping[bytes, bytes]) -> None:
    for name in (records.get(key, b"") for key in (b"path", b"linkpath", SPARSE_NAME)):
        if len(name) > LONGEST or name.count(b"/") > DEEPEST:
            raise _damaged(f"it has a path of {len(name)} bytes, {name.count(b'/')} folders deep")


def pax_number(records: Mapping[bytes, bytes], key: bytes, otherwise: int) -> int:
    """The number in a pax record, without a fraction; ``otherwise`` if there is no record or an empty one.

    E510 if it is no number, or a negative one that is no time.
    """
    if not (text := records.get(key)):
        return otherwise
    found = _PAX_NUMBER.fullmatch(text)
    if found is None or (text[:1] == b"-" and key != b"mtime"):
        shown = text[:40].decode(errors="replace")
        raise _damaged(f"the {key.decode()} in a pax record is {shown!r}")
    return int(found[1])


def owners(head: bytes, records: Mapping[bytes, bytes]) -> tuple[int, int]:
    """User and group of a member, from its header and its records; E510 if Linux has no such."""
    uid = pax_number(records, b"uid", number(head[108:116]))
    gid = pax_number(records, b"gid", number(head[116:124]))
    if uid not in OWNERS or gid not in OWNERS:
        raise _damaged(f"it has a member of the user {uid} and the group {gid}, which Linux does not have")
    return uid, gid


def rewritten(raw: list[Piece], path: bytes) -> list[Piece]:
    """The raw blocks of a member, without its content, under a path.

    Path and target of a link are written as GNU tar does: mksquashfs (4.5.1) strips what a pax record has
    of leading ``/``, ``./`` and ``../`` in the target of a symbolic link.
    """
    records: dict[bytes, bytes] = {}
    head = bytearray(raw[-1])
    target = field_text(bytes(head[157:257]))
    for before, body in zip(raw[:-1:2], raw[1::2], strict=True):
        content = bytes(body[: number(bytes(before[124:136]))])
        if before[156:157] in (PAX, PAX_GLOBAL):
            records |= pax_records(content)
        elif before[156:157] == GNU_LINK:
            records[b"linkpath"] = field_text(content)
    target = records.pop(b"linkpath", target)
    records.pop(b"path", None)
    if SPARSE_NAME in records:
        records[SPARSE_NAME] = path
    blocks: list[bytes] = []
    if records:
        text = b"".join(_record(key, value) for key, value in sorted(records.items()))
        blocks += _extra(PAX, text)
    if len(path) > 100:
        blocks += _extra(GNU_NAME, path + b"\0")
    if len(target) > 100:
        blocks += _extra(GNU_LINK, target + b"\0")
    head[:100] = path[:100].ljust(100, b"\0")
    head[157:257] = target[:100].ljust(100, b"\0")
    if head[257:263] == b"ustar\0":
        head[345:500] = bytes(155)
    return [memoryview(block) for block in (*blocks, _with_sum(head))]


def _extra(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    head = bytearray(_ZERO)
    head[:100] = b"././@LongLink".ljust(100, b"\0")
    head[100:148] = b"0000644\x000000000\x000000000\x00%011o\x0000000000000\0" % len(body)
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    return _with_sum(head), body + padding(len(body))


def _with_sum(head: bytearray) -> bytes:
    head[148:156] = b"%06o\0 " % _sum(head)
    return bytes(head)


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    while rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _name(head: bytes) -> bytes:
    name = field_text(head[:100])
    if head[345] and head[257:263] == b"ustar\0":
        return field_text(head[345:500]) + b"/" + name
    return name


def field_text(field: bytes) -> bytes:
    """The text of a header's field: what stands before the first NUL."""
    end = field.find(0)
    return field if end < 0 else field[:end]


def number(field: bytes) -> int:
    """The number in a header's field, octal or in GNU's binary form; E510 if it is none."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    text = field.strip(b"\0 ")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise _damaged("it has a header that cannot be understood") from None


def _sum(head: bytes | bytearray) -> int:
    return sum(head) - sum(head[148:156]) + 8 * ord(" ")


def _damaged(what: str) -> AfenvError:
    return AfenvError("E510", f"a layer is no tar archive: {what}")
