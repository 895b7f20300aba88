"""One request to one source, and what its failure means; which failures are worth another attempt.

HTTP and HTTPS go through one ``requests`` session: proxies, CA bundles and ``~/.netrc`` are those of the
environment, and credentials are dropped when a redirect leads to another host. ``file:`` URLs are read
directly, never by way of a redirect.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from afenv import __version__
from afenv.record import record

if TYPE_CHECKING:
    import requests

CONNECTIONS = 8
CHUNK = 1 << 18  # bytes asked of a connection at once
GONE = (404, 410)
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)

TLS_REMEDY = (
    "If the site has a certificate authority of its own, set REQUESTS_CA_BUNDLE to a file with its "
    "certificates; otherwise check the URL and the clock."
)


@record
class Patience:
    """How long a source is borne with; times in seconds.

    ``connect`` is for the connection, ``stall`` for a connection that sends no byte. A source is given up
    after ``attempts`` in a row of which none brought ``gain`` bytes more. Pauses between them double from
    ``first_pause`` up to ``longest_pause``; a server's own ``Retry-After`` goes before, within
    ``longest_wait``.
    """

    connect: float = 15.0
    stall: float = 60.0
    attempts: int = 5
    gain: int = 1 << 16
    first_pause: float = 0.5
    longest_pause: float = 20.0
    longest_wait: float = 120.0

    def pause(self, failures: int, asked: float | None) -> float:
        """The seconds to wait after so many failures in a row; ``asked`` is what the server asked for."""
        if asked is not None:
            return min(max(asked, 0.0), self.longest_wait)
        return min(self.first_pause * 2.0 ** max(failures - 1, 0), self.longest_pause)


class SourceError(Exception):
    """Why a source did not give what was asked of it.

    ``code`` is that of the error catalogue: E103 it has no such file, E201 it was not reached, E202 it
    answered with an error, E301 and E302 it gave something else. ``again`` tells that another attempt may
    succeed, after ``pause`` seconds where the server named them; ``connected`` that there was an answer;
    ``remedy`` goes before that of the catalogue.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        again: bool = False,
        pause: float | None = None,
        connected: bool = True,
        remedy: str | None = None,
    ) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.again = again
        self.pause = pause
        self.connected = connected
        self.remedy = remedy


class Answer:
    """A successful answer: status 200, 206 or 304, headers (names in lower case), and the content."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.chunks = chunks

    @property
    def length(self) -> int | None:
        """The bytes that the answer announces, if it does."""
        return _number(self.headers.get("content-length", ""))

    @property
    def range(self) -> tuple[int, int | None] | None:
        """Of a partial answer (206): its first byte, and the size of the whole if it is told."""
        unit, _, rest = self.headers.get("content-range", "").partition(" ")
        span, _, whole = rest.partition("/")
        first = _number(span.partition("-")[0])
        if self.status != 206 or unit.lower() != "bytes" or first is None:
            return None
        return first, _number(whole)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 20 else None


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without a user, a password, or a query."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not url.startswith("file:/"):
        return f"file:{parts.path}"  # relative, which urlunsplit would make absolute
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def retry_after(text: str | None, now: float) -> float | None:
    """The seconds that a ``Retry-After`` header (RFC 9110, 10.2.3) asks for; None if it says nothing."""
    if not text:
        return None
    if (seconds := _number(text.strip())) is not None:
        return float(seconds)
    import email.utils

    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0)
    return None


def _explain(error: BaseException, patience: Patience) -> str:
    """A connection's failure in a few words, without the wrapping of the libraries."""
    import requests.exceptions as rq
    import urllib3.exceptions as u3

    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, BaseException) or item in seen:
            continue
        seen.append(item)
        waiting += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    kinds = {type(item) for item in seen}
    if kinds & {rq.ConnectTimeout, u3.ConnectTimeoutError}:
        return f"no connection within {patience.connect:g} s"
    if kinds & {rq.ReadTimeout, u3.ReadTimeoutError, TimeoutError}:
        return f"no byte came for {patience.stall:g} s"
    for item in seen:
        if isinstance(item, u3.IncompleteRead):
            return "the connection ended early"
    texts = [item.strerror for item in seen if isinstance(item, OSError) and item.strerror]
    prefix = "the proxy: " if kinds & {rq.ProxyError, u3.ProxyError} else ""
    return prefix + (texts[-1] if texts else str(seen[-1]) or type(seen[-1]).__name__)


class Transport:
    """Requests to sources; safe to use from many threads.

    ``proxy`` is the URL of one for all requests, ``DIRECT`` for none; empty for those of the environment.
    """

    def __init__(self, patience: Patience, *, proxy: str = "") -> None:
        self._patience = patience
        self._proxy = proxy
        self._lock = threading.Lock()

    @cached_property
    def _made_session(self) -> requests.Session:
        import http.cookiejar

        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        session.headers["User-Agent"] = f"afenv/{__version__}"
        # Content is checked as it is; a server that compresses on the way would only confuse.
        session.headers["Accept-Encoding"] = "identity"
        if self._proxy:
            session.trust_env = False
            if self._proxy != "DIRECT":
                session.proxies = {"http": self._proxy, "https": self._proxy}
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS))
        return session

    def _session(self) -> requests.Session:
        with self._lock:
            return self._made_session

    @contextlib.contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        secure: bool = False,
        decode: bool = False,
        method: str = "GET",
        certificate: str | None = None,
    ) -> Iterator[Answer]:
        """The answer to a request; :class:`SourceError` if it fails now or while its content is read.

        ``secure`` refuses redirects from HTTPS to HTTP, for content that no digest protects; ``decode``
        undoes a content coding that the server chose of its own accord. ``certificate`` is a file with a
        client's certificate and key.
        """
        scheme = urlsplit(url).scheme
        if scheme == "file":
            with _open_file(url, headers) as answer:
                yield answer
            return
        if scheme not in ("http", "https"):
            raise SourceError("E201", f"{scheme or 'no scheme'}: not a kind of URL that can be fetched")
        import requests

        timeout = (self._patience.connect, self._patience.stall)
        try:
            response = self._session().request(
                method,
                url,
                headers=dict(headers),
                stream=True,
                timeout=timeout,
                cert=certificate,
                allow_redirects=True,
            )
        except requests.exceptions.SSLError as error:
            reason = f"TLS: {_explain(error, self._patience)}"
            raise SourceError("E201", reason, connected=False, remedy=TLS_REMEDY) from error
        except requests.exceptions.TooManyRedirects as error:
            raise SourceError("E202", "redirects without end") from error
        except requests.exceptions.ReadTimeout as error:
            raise SourceError("E201", _explain(error, self._patience), again=True) from error
        except requests.exceptions.ConnectionError as error:
            # A server that answers nothing and closes is there; it may be better next time.
            raise SourceError("E201", _explain(error, self._patience), again=True, connected=False) from error
        except (OSError, ValueError) as error:  # an invalid URL, or a redirect to another scheme
            raise SourceError("E202", str(error)) from error
        with response:
            if response.status_code not in (200, 206, 304):
                raise _refusal(response)
            chain = [item.url for item in (*response.history, response)]
            if secure and chain[0].startswith("https:") and not all(u.startswith("https:") for u in chain):
                raise SourceError("E202", "a redirect leads from https to http")
            names = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status_code, names, self._chunks(response, decode))

    def _chunks(self, response: requests.Response, decode: bool) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        raw = response.raw
        # One read of the socket at a time: what came before a failure is not lost with it.
        read = raw.read1 if hasattr(raw, "read1") else raw.read
        try:
            while data := read(CHUNK, decode_content=decode):
                yield data
        except (HTTPError, OSError) as error:
            raise SourceError("E201", _explain(error, self._patience), again=True) from error


def _refusal(response: requests.Response) -> SourceError:
    status = response.status_code
    reason = f"{status} {response.reason or ''}".strip()
    if status in GONE:
        return SourceError("E103", reason)
    pause = retry_after(response.headers.get("Retry-After"), time.time())
    return SourceError("E202", reason, again=status in TRY_AGAIN, pause=pause)


@contextlib.contextmanager
def _open_file(url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
    """A ``file:`` URL (RFC 8089) as if a server had answered; ``Range`` with a first byte is understood."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError("E201", f"file: URLs name no host, this one names {parts.netloc}")
    path = Path(unquote(parts.path))
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise SourceError("E103", "no such file") from error
    except OSError as error:
        raise SourceError("E201", str(error.strerror)) from error
    with file:
        size = os.fstat(file.fileno()).st_size
        first = int(headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        file.seek(first)
        described = {"content-length": str(max(size - first, 0))}
        if first:
            described["content-range"] = f"bytes {first}-{max(size - 1, first)}/{size}"
        yield Answer(206 if first else 200, described, _file_chunks(file))


def _file_chunks(file: BinaryIO) -> Iterator[bytes]:
    try:
        while data := file.read(CHUNK):
            yield data
    except OSError as error:
        raise SourceError("E201", str(error.strerror)) from error
