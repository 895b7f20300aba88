"""HTTP to a registry: kept connections, one per thread and host; attempts with pauses between them.

Made of ``http.client``, which starts in a few milliseconds and sends a file without holding it in memory.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from afenv import __version__
from afenv.errors import AfenvError

TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = 5
BLOCK = 1 << 20  # bytes that are sent at once
ANSWER = 4 << 20  # bytes; more than any answer that is needed here


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a registry is borne with; times in seconds.

    ``connect`` is for the connection, ``stall`` for one that is silent: a registry may take long to
    check a large blob. Pauses double from ``first_pause``.
    """

    connect: float = 15.0
    stall: float = 300.0
    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 20.0

    def pause(self, failures: int, asked: str | None) -> float:
        """The time to wait after so many failures; ``asked`` is a ``Retry-After`` header."""
        if asked and asked.strip().isdigit():
            return min(float(asked), self.longest_pause)
        longest = min(self.first_pause * 2.0 ** (failures - 1), self.longest_pause)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - not for secrets


class Attempt:
    """One of several attempts, for a loop."""

    def __init__(self, patience: Patience, number: int) -> None:
        self._patience, self._number = patience, number
        self.last = number >= patience.attempts

    def wait(self, asked: str | None = None) -> None:
        """Pause before the next attempt."""
        time.sleep(self._patience.pause(self._number, asked))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; ``url`` is where it came from."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def header(self, name: str) -> str | None:
        """A header, whatever the case of its name."""
        return self.headers.get(name.lower())

    def words(self) -> str:
        """What the server said of its failure, in a few words."""
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            errors = json.loads(self.body).get("errors") or []
            texts = [f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors]
            if any(texts):
                return f"status {self.status}: " + "; ".join(texts)
        reason = http.client.responses.get(self.status, "")
        return f"status {self.status} {reason}".strip()


class _Body:
    """A file on its way out; it tells how much went."""

    def __init__(self, file: BinaryIO, sent: Callable[[int], None]) -> None:
        self._file, self._sent = file, sent

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        if data:
            self._sent(len(data))
        return data


class Transport:
    """Sends requests. Every thread has its own connections; :meth:`close` closes those of all."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._local = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._guard = threading.Lock()
        self._closed = False

    def attempts(self) -> Iterator[Attempt]:
        """As many attempts as the patience allows; what calls ends the loop, the last time at the latest."""
        for number in range(1, self._patience.attempts + 1):
            yield Attempt(self._patience, number)

    def close(self) -> None:
        """Close all connections; requests that are under way, in any thread, fail."""
        with self._guard:
            self._closed = True
            for connection in self._all:
                if connection.sock is not None:
                    with contextlib.suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._all.clear()

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        known: dict[tuple[str, str], http.client.HTTPConnection] = self._local.__dict__.setdefault(
            "known", {}
        )
        connection = known.get((scheme, host))
        if connection is None:
            connection = known[scheme, host] = _open(scheme, host, self._patience.connect)
            with self._guard:
                self._all.append(connection)
        if connection.sock is None:
            connection.connect()
            if self._closed:  # meanwhile, by another thread
                connection.close()
                raise ConnectionAbortedError
            connected: socket.socket | None = connection.sock
            if connected is not None:
                connected.settimeout(self._patience.stall)
        return connection

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        file: tuple[BinaryIO, int, Callable[[int], None]] | None,
    ) -> Answer:
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.netloc)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": f"afenv/{__version__}", **headers}
        content: Any = body
        if file is not None:
            sent["Content-Length"] = str(file[1])
            content = _Body(file[0], file[2])
        elif body is None and method in ("POST", "PUT", "PATCH"):
            sent["Content-Length"] = "0"
        try:
            try:
                connection.request(method, target, body=content, headers=sent)
            except (BrokenPipeError, ConnectionResetError):
                # a server may answer, and close, before it has read everything
                if file is None or connection.sock is None:
                    raise
            response = connection.getresponse()
            data = response.read(ANSWER)
        except BaseException:
            connection.close()
            raise
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close or not response.isclosed():
            connection.close()
        return Answer(response.status, found, data, url)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        file: Callable[[], tuple[BinaryIO, int]] | None = None,
        sent: Callable[[int], None] = lambda _: None,
        authorization: Callable[[str], Mapping[str, str]] = lambda _: {},
        once: bool = False,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Attempts that fail on the way, or with a status that may pass, are repeated, unless ``once``.
        ``file`` opens the
        body anew for each attempt and gives its size in bytes; ``sent`` hears of the bytes that go out
        (negative: they have to go again). ``authorization`` gives the headers for an URL. Redirects of
        GET and HEAD are followed. E201 if the server was not reached.
        """
        for attempt in self.attempts():
            asked: str | None = None
            count = [0]

            def note(amount: int, count: list[int] = count) -> None:
                count[0] += amount
                sent(amount)

            final = once or attempt.last
            try:
                answer = self._follow(method, url, headers or {}, body, file, note, authorization)
            except (OSError, http.client.HTTPException) as error:
                if self._closed:
                    raise AfenvError("E901", "the transfer was broken off") from None
                if count[0]:
                    sent(-count[0])
                if final or _is_final(error):
                    raise AfenvError("E201", _explain(error), place=url.partition("?")[0]) from None
            else:
                if answer.status >= 400 and count[0]:
                    sent(-count[0])
                if answer.status not in TRY_AGAIN or final:
                    return answer
                asked = answer.header("retry-after")
            attempt.wait(asked)
        raise AssertionError("the last attempt returns or raises")

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        file: Callable[[], tuple[BinaryIO, int]] | None,
        sent: Callable[[int], None],
        authorization: Callable[[str], Mapping[str, str]],
    ) -> Answer:
        for _ in range(REDIRECTS):
            allowed = {**headers, **authorization(url)}
            if file is None:
                answer = self._once(method, url, allowed, body, None)
            else:
                opened, size = file()
                with opened:
                    answer = self._once(method, url, allowed, None, (opened, size, sent))
            location = answer.header("location")
            if (
                answer.status not in (301, 302, 303, 307, 308)
                or not location
                or method not in ("GET", "HEAD")
            ):
                return answer
            following = urljoin(url, location)
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
                return answer
            url = following
        return answer


def _open(scheme: str, host: str, timeout: float) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, timeout=timeout, blocksize=BLOCK)
    import ssl

    context = ssl.create_default_context()
    proxy = _proxy(host)
    if proxy is None:
        return http.client.HTTPSConnection(host, timeout=timeout, blocksize=BLOCK, context=context)
    login, _, address = proxy.rpartition("@")
    connection = http.client.HTTPSConnection(address, timeout=timeout, blocksize=BLOCK, context=context)
    encoded = base64.b64encode(unquote(login).encode()).decode("ascii")
    headers = {"Proxy-Authorization": f"Basic {encoded}"} if login else {}
    connection.set_tunnel(host if ":" in host else f"{host}:443", headers=headers)
    return connection


def _proxy(host: str) -> str | None:
    """``[USER:PASSWORD@]HOST:PORT`` of the proxy for a host, if there is one."""
    if not any(name in os.environ for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(host.rpartition(":")[0] or host):
        return None
    return urlsplit(proxy if "//" in proxy else f"http://{proxy}").netloc


def _is_final(error: BaseException) -> bool:
    """Whether trying again is useless: nobody listens, or the name or the certificate is not known."""
    if isinstance(error, ConnectionRefusedError):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return type(error).__name__ in ("SSLCertVerificationError", "SSLError")


def _explain(error: BaseException) -> str:
    if type(error).__name__ == "SSLCertVerificationError":
        return f"the server's certificate is not trusted: {getattr(error, 'verify_message', error)}"
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return f"the server could not be reached: {error.strerror}"
    return f"the server could not be reached: {error or type(error).__name__}"
