"""HTTP/1.1 on one connection (RFC 9110, RFC 9112), with no step that cannot be bounded in time.

It is small on purpose: what registries need, fast to import, able to send a file without copying it and to
receive into a buffer of the caller. Every wait has a limit, and so has a peer that trickles.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

from afenv.record import record

HEAD_LIMIT = 64 << 10  # bytes of an answer's head
LINE_LIMIT = 4 << 10  # bytes of a line between chunks
BLOCK = 1 << 20  # bytes that are sent at once
SLOWEST = 1 << 10  # bytes per second; what is slower counts as stalled
WITHOUT_BODY = (204, 304)


class Broken(ConnectionError):
    """The other side ended too early, or does not speak HTTP."""


class Stalled(TimeoutError):
    """The other side sends or takes nothing, or next to nothing."""


class Head(NamedTuple):
    """Status and headers of an answer; names in lower case, repeated ones joined by commas."""

    status: int
    headers: Mapping[str, str]
    version: str = "HTTP/1.1"


@record
class Body:
    """What a request sends: ``size`` bytes from ``start`` of what ``open`` gives, anew for each attempt."""

    open: Callable[[], BinaryIO]
    size: int
    start: int = 0


class _Pace:
    """Notices a transfer that trickles: fewer than ``SLOWEST`` bytes per second for ``stall`` seconds."""

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._since = time.monotonic()
        self._count = 0

    def note(self, count: int) -> None:
        self._count += count
        now = time.monotonic()
        if now - self._since >= self._stall:
            if self._count < SLOWEST * (now - self._since):
                raise Stalled(f"only {self._count} bytes in {now - self._since:.0f} s")
            self._since, self._count = now, 0


class Wire:
    """One connection. A request is :meth:`send`, :meth:`head`, and :meth:`readinto` until it gives 0."""

    def __init__(self, connected: socket.socket, stall: float) -> None:
        self._socket = connected
        self._stall = stall
        self._rest = memoryview(b"")  # received, and not yet taken
        self._left: int | None = 0  # bytes of the body, or of the chunk; None: until the end
        self._chunked = False
        self._pace = _Pace(stall)
        self.used = False  # whether an answer came on this connection before
        self.keep = True  # whether it may be used again

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def abort(self) -> None:
        """Let the transfer fail that another thread has under way here."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def is_idle(self) -> bool:
        """Whether nothing has come that was not asked for; the end of the connection counts too."""
        watcher = select.poll()
        watcher.register(self._socket, select.POLLIN)
        return not watcher.poll(0)

    # sending

    def send(self, head: bytes, body: bytes | Body | None, sent: Callable[[int], None]) -> None:
        """Send a request; ``sent`` hears of the body's bytes. An answer that comes early ends it."""
        self._socket.settimeout(self._stall)
        if not isinstance(body, Body):
            self._all(head + (body or b""))
            return
        self._all(head)
        self._pace = _Pace(self._stall)
        with body.open() as file:
            try:
                self._body(file, body, sent)
            except (BrokenPipeError, ConnectionResetError):
                # a server may answer, and close, before it has read everything
                self.keep = False
                if not self._has_answer():
                    raise

    def _all(self, data: bytes | memoryview) -> None:
        self._socket.sendall(data)

    def _has_answer(self) -> bool:
        if type(self._socket) is not socket.socket:
            return True  # TLS cannot look ahead; reading the head will tell
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _body(self, file: BinaryIO, body: Body, sent: Callable[[int], None]) -> None:
        plain = type(self._socket) is socket.socket
        descriptor = _descriptor(file) if plain else None
        if descriptor is None:
            file.seek(body.start)
        left, at = body.size, body.start
        pending = memoryview(b"")
        watcher = select.poll()
        watcher.register(self._socket, select.POLLIN | select.POLLOUT)
        while left:
            if plain:
                events = watcher.poll(self._stall * 1000)
                if not events:
                    raise Stalled(f"it took no byte for {self._stall:g} s")
                if events[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    self.keep = False  # it answers before it has everything
                    return
            if descriptor is not None:
                count = os.sendfile(self._socket.fileno(), descriptor, at, min(left, BLOCK))
                if count == 0:
                    raise OSError(f"the file is {left} bytes too short")
            else:
                if not pending:
                    pending = memoryview(file.read(min(left, BLOCK)))
                    if not pending:
                        raise OSError(f"the file is {left} bytes too short")
                count = self._socket.send(pending)
                pending = pending[count:]
            at += count
            left -= count
            sent(count)
            self._pace.note(count)

    # receiving

    def head(self, method: str, limit: float) -> Head:
        """The head of the answer, which must have come within ``limit`` seconds."""
        until = time.monotonic() + limit
        while True:
            data = self._head_bytes(until)
            head = _parse(data)
            if head.status >= 200:
                break
        self.used = True
        self._pace = _Pace(self._stall)
        self._socket.settimeout(self._stall)
        self._frame(method, head)
        return head

    def _head_bytes(self, until: float) -> bytes:
        data = bytearray(self._rest)
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_LIMIT or not b"HTTP".startswith(data[:4]):
                raise Broken("the answer is not HTTP")
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise Stalled("no answer came in time")
            self._socket.settimeout(remaining)
            try:
                more = self._socket.recv(HEAD_LIMIT)
            except TimeoutError:
                raise Stalled("no answer came in time") from None
            if not more:
                raise Broken("the connection ended before an answer" if not data else "the answer was cut")
            data += more
        self._rest = memoryview(bytes(data[end + 4 :]))
        return bytes(data[:end])

    def _frame(self, method: str, head: Head) -> None:
        """How long the body is (RFC 9112, 6.3)."""
        headers = head.headers
        connection = headers.get("connection", "").lower()
        if "close" in connection or (head.version == "HTTP/1.0" and "keep-alive" not in connection):
            self.keep = False
        self._chunked = False
        length = headers.get("content-length")
        if method == "HEAD" or head.status in WITHOUT_BODY:
            self._left = 0
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunked = True
            self._left = 0
            self._next_chunk()
        elif length is None:
            self._left, self.keep = None, False
        else:
            values = {value.strip() for value in length.split(",")}
            text = values.pop()
            if values or not text.isascii() or not text.isdecimal() or len(text) > 18:
                raise Broken(f"{length!r} is not a length")
            self._left = int(text)

    def _line(self) -> bytes:
        data = bytearray()
        while (end := data.find(b"\n")) < 0:
            if len(data) > LINE_LIMIT:
                raise Broken("a chunk has no end")
            if not self._rest:
                more = self._socket.recv(HEAD_LIMIT)
                if not more:
                    raise Broken("the answer was cut")
                self._rest = memoryview(more)
                self._pace.note(0)
            data += self._rest
            self._rest = memoryview(b"")
        self._rest = memoryview(bytes(data[end + 1 :]))
        return bytes(data[:end]).rstrip(b"\r")

    def _next_chunk(self) -> None:
        text = self._line().partition(b";")[0].strip()
        if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
            raise Broken("a chunk has no length")
        self._left = int(text, 16)
        if self._left == 0:
            self._chunked = False
            while self._line():  # trailers
                pass

    @property
    def ended(self) -> bool:
        """Whether the body was read to its end."""
        return self._left == 0 and not self._chunked

    def readinto(self, view: memoryview) -> int:
        """Some bytes of the body, at most as many as fit; 0 at its end. :class:`Broken` if it was cut."""
        if self._left == 0:
            return 0
        if self._left is not None:
            view = view[: self._left]
        if self._rest:
            count = min(len(view), len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        else:
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                raise Stalled(f"no byte came for {self._stall:g} s") from None
            if count == 0:
                if self._left is None:
                    self._left = 0
                    return 0
                raise Broken(f"the answer was cut {self._left} bytes before its end")
        self._pace.note(count)
        if self._left is not None:
            self._left -= count
            if self._left == 0 and self._chunked:
                if self._line():
                    raise Broken("a chunk is longer than it says")
                self._next_chunk()
        return count


def _descriptor(file: BinaryIO) -> int | None:
    """The descriptor of a file that ``sendfile`` can send from."""
    try:
        return file.fileno()
    except (OSError, AttributeError):
        return None


def _parse(data: bytes) -> Head:
    lines = data.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal() or len(status) != 3:
        raise Broken("the answer is not HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Broken("the answer's head is damaged")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "chunked" in headers.get("transfer-encoding", "").lower():
        headers.pop("content-length", None)  # which does not count then (RFC 9112, 6.3)
    return Head(int(status), headers, version)
