"""Requests to registries: kept connections, redirects, and attempts with pauses between them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from afenv import __version__
from afenv.errors import AfenvError
from afenv.record import record
from afenv_registry.answers import Answer, Headers, Response
from afenv_registry.urls import bare, join
from afenv_registry.wire import Body, Broken, Stalled, Wire

TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
MOVED = (301, 302, 303, 307, 308)
REDIRECTS = 5
ANSWER = 4 << 20  # bytes; more than any answer that is needed whole, manifests apart
LONG = 5.0  # seconds; of a longer pause the user is told


@record
class Patience:
    """How long a registry is borne with; times in seconds.

    ``connect`` is for the connection; ``stall`` for one on which nothing, or next to nothing, moves;
    ``answer`` for the answer to an upload, as a registry may take long to check a large blob; ``document``
    for a whole answer that is not a blob. Pauses double from ``first_pause``; a ``Retry-After`` goes before,
    and one above ``longest_wait`` is not waited for.
    """

    connect: float = 15.0
    stall: float = 30.0
    answer: float = 300.0
    document: float = 120.0
    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 20.0
    longest_wait: float = 120.0

    def pause(self, failures: int) -> float:
        """The time to wait after so many failures in a row, if the registry does not say."""
        longest = min(self.first_pause * 2.0 ** (failures - 1), self.longest_pause)
        import random

        return longest * (0.5 + random.random() / 2)  # noqa: S311 - not for secrets


class Transport:
    """Sends requests over kept connections; safe to use from many threads.

    ``tell`` hears a sentence when a pause is long. :meth:`close` breaks off what is under way.
    """

    def __init__(self, patience: Patience, tell: Callable[[str], None] = lambda _: None) -> None:
        self.patience = patience
        self._tell = tell
        self._idle: dict[tuple[str, str], list[Wire]] = {}
        self._busy: set[Wire] = set()
        self._guard = threading.Lock()
        self._closing = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing.is_set()

    def close(self) -> None:
        """Close all connections; requests that are under way, in any thread, fail."""
        with self._guard:
            self._closing.set()
            for wire in self._busy:
                wire.abort()
            for wires in self._idle.values():
                for wire in wires:
                    wire.close()
            self._idle.clear()

    def wait(self, failures: int, asked: str | None = None, place: str = "") -> None:
        """Pause before the next attempt; ``asked`` is a ``Retry-After`` header.

        E602 if that is longer than the patience; E901 if the transfer is broken off meanwhile.
        """
        seconds = _retry_after(asked)
        if not seconds:  # a registry that says 0 is not hurried
            seconds = self.patience.pause(failures)
        elif seconds > self.patience.longest_wait:
            raise AfenvError("E602", f"it is busy and asks to come back in {seconds:.0f} s", place=place)
        if seconds >= LONG:
            self._tell(f"{place or 'the registry'} is busy: waiting {seconds:.0f} s")
        if self._closing.wait(seconds):
            raise AfenvError("E901", "the transfer was broken off")

    # one attempt

    def _take(self, scheme: str, netloc: str, fresh: bool) -> Wire:
        with self._guard:
            if self._closing.is_set():
                raise ConnectionAbortedError
            waiting = self._idle.get((scheme, netloc), [])
            while waiting and not fresh:
                wire = waiting.pop()
                if wire.is_idle():
                    self._busy.add(wire)
                    return wire
                wire.close()
        from afenv_registry.connecting import connect

        wire = connect(scheme, netloc, self.patience.connect, self.patience.stall)
        with self._guard:
            if self._closing.is_set():
                wire.close()
                raise ConnectionAbortedError
            self._busy.add(wire)
        return wire

    def _give_back(self, key: tuple[str, str], wire: Wire) -> None:
        with self._guard:
            self._busy.discard(wire)
            if not wire.keep or self._closing.is_set():
                wire.close()
            else:
                self._idle.setdefault(key, []).append(wire)

    def _once(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | Body | None,
        sent: Callable[[int], None],
        fresh: bool = False,
    ) -> Response:
        parts = urlsplit(url)
        wire = self._take(parts.scheme, parts.netloc, fresh)
        known = wire.used
        count = [0]

        def note(amount: int) -> None:
            count[0] += amount
            sent(amount)

        try:
            wire.send(_request(method, url, headers, body), body, note)
            head = wire.head(method, self._longest(method, body))
        except BaseException as error:
            wire.keep = False
            self._give_back((parts.scheme, parts.netloc), wire)
            if count[0]:
                sent(-count[0])
            early = isinstance(error, (Broken, BrokenPipeError, ConnectionResetError))
            if known and not fresh and early and not isinstance(body, Body):
                # a kept connection that the server had closed meanwhile
                return self._once(method, url, headers, body, sent, fresh=True)
            raise
        if count[0] and head.status >= 300:
            sent(-count[0])
        key = (parts.scheme, parts.netloc)
        return Response(wire, head, url, lambda: self._give_back(key, wire))

    def _longest(self, method: str, body: bytes | Body | None) -> float:
        """How long the head of an answer may take."""
        if isinstance(body, Body):
            return self.patience.answer
        return self.patience.stall if method in ("GET", "HEAD") else self.patience.document

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Headers | None = None,
        body: bytes | Body | None = None,
        sent: Callable[[int], None] = lambda _: None,
        authorization: Callable[[str], Headers] = lambda _: {},
    ) -> Response:
        """One attempt at a request; redirects are followed. Raises OSError, and E602 for bad redirects.

        ``authorization`` gives the headers for a URL; it is asked again for each. ``sent`` hears of the
        bytes that go out (negative: they have to go again).
        """
        for _ in range(REDIRECTS + 1):
            response = self._once(method, url, {**(headers or {}), **authorization(url)}, body, sent)
            location = response.headers.get("location")
            asks = method in ("GET", "HEAD")
            if response.status not in (MOVED if asks else (307, 308)) or not location:
                return response
            response.close()
            following = join(url, location)
            scheme = urlsplit(following).scheme
            if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:")):
                raise AfenvError("E602", f"a redirect leads from https to {scheme}", place=bare(url))
            url = following
        raise AfenvError("E602", "redirects without end", place=bare(url))

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Headers | None = None,
        body: bytes | Body | None = None,
        sent: Callable[[int], None] = lambda _: None,
        authorization: Callable[[str], Headers] = lambda _: {},
        once: bool = False,
        limit: int = ANSWER,
    ) -> Answer:
        """Send a request and return the whole answer, whatever its status.

        Attempts that fail on the way, or with a status that may pass, are repeated, unless ``once``. E201
        if the server was not reached, E602 if the answer is larger than ``limit`` bytes.
        """
        failures = 0
        while True:
            failures += 1
            final = once or failures >= self.patience.attempts
            asked: str | None = None
            try:
                with self.open(
                    method, url, headers=headers, body=body, sent=sent, authorization=authorization
                ) as response:
                    data = response.read(limit, self.patience.document)
                    if data is None:
                        raise AfenvError(
                            "E602", f"its answer is larger than {limit >> 20} MiB", place=bare(url)
                        )
                    answer = Answer(response.status, response.headers, data, response.url)
            except OSError as error:
                if final or self.closed or is_final(error):
                    raise self.failed(error, url) from None
            else:
                if answer.status not in TRY_AGAIN or final:
                    return answer
                asked = answer.header("retry-after")
            self.wait(failures, asked, urlsplit(url).netloc)

    def failed(self, error: OSError, url: str) -> AfenvError:
        """What the user is told of a connection's failure."""
        if self.closed:
            return AfenvError("E901", "the transfer was broken off")
        return AfenvError("E201", _explain(error), place=bare(url))


def _request(method: str, url: str, headers: Headers, body: bytes | Body | None) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
    lines += [f"User-Agent: afenv/{__version__}", "Accept-Encoding: identity"]
    if isinstance(body, Body):
        lines.append(f"Content-Length: {body.size}")
    elif body is not None or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body or b'')}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if any(sign in text.replace("\r\n", "") for sign in "\r\n\0"):
        raise AfenvError("E602", "a URL or a header holds a line's end", place=bare(url))
    try:
        return (text + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        raise AfenvError("E602", "a URL holds letters that must be quoted", place=bare(url)) from None


def _retry_after(text: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header (RFC 9110, 10.2.3) asks for; None if it says nothing."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    import email.utils

    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return None


def is_final(error: BaseException) -> bool:
    """Whether trying again is useless: nobody listens, or the name or the certificate is not known."""
    if isinstance(error, ConnectionRefusedError):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return type(error).__name__ in ("SSLCertVerificationError", "SSLError")


def _explain(error: BaseException) -> str:
    if type(error).__name__ == "SSLCertVerificationError":
        return f"the server's certificate is not trusted: {getattr(error, 'verify_message', error)}"
    if isinstance(error, (Broken, Stalled)):
        return f"the server failed: {error}"
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return f"the server could not be reached: {error.strerror}"
    return f"the server could not be reached: {error or type(error).__name__}"
