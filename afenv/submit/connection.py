"""Requests with a token: where it may go, what a failure means, what is tried again.

Only HTTPS, except to this machine. Redirects are followed here and not by ``requests``, so that the token
goes to the host it is for and to no other. A token is taken out of every text that is shown.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from afenv import __version__, canonical
from afenv.errors import AfenvError
from afenv.record import record
from afenv.store.transport import Patience, retry_after, without_secrets

if TYPE_CHECKING:
    import requests

REDIRECTS = 5
BUSY = (429, 503)  # the server did nothing, and says so
FAILED = (408, 425, 500, 502, 504)
ANSWER = 64 << 20  # bytes of an answer
_CHUNK = 1 << 20


@record
class Answer:
    """An answer: its status, and its document (empty if there is none)."""

    status: int
    document: Mapping[str, Any]


def mapping(value: Any) -> Mapping[str, Any]:
    """A part of an answer that should be an object: it is empty where it is something else."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """A part of an answer that should be a list of objects: those that are."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def told(errors: Any) -> list[str]:
    """What a server says of fields that it does not accept."""
    texts = []
    for one in objects(errors):
        messages = one.get("messages") or ()
        text = " ".join(map(str, messages)) if isinstance(messages, list | tuple) else str(messages)
        texts.append(f"{one.get('field', '')}: {text}")
    return texts


class Window:
    """Bytes of a file as the body of a request, from ``start``, ``size`` of them; ``sent`` hears of each."""

    def __init__(self, file: BinaryIO, start: int, size: int, sent: Callable[[int], None]) -> None:
        self._file, self._start, self._size, self._sent = file, start, size, sent
        self._left = 0
        self._told = 0
        self.rewind()

    def __len__(self) -> int:
        return self._size

    def rewind(self) -> None:
        """Begin again."""
        self._file.seek(self._start)
        self._left = self._size

    def read(self, count: int = -1) -> bytes:
        """The next bytes; E001 if the file is shorter than it was."""
        count = min(self._left, _CHUNK if count < 0 else max(count, _CHUNK))
        data = self._file.read(count)
        if count and not data:
            raise AfenvError("E001", "the file became shorter while it was sent")
        self._left -= len(data)
        gone = self._size - self._left
        if gone > self._told:
            self._sent(gone - self._told)
            self._told = gone
        return data


def check_url(url: str) -> str:
    """The URL of a service without a slash at its end; E747 if a token must not go there."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise AfenvError("E747", "this is not a URL", place="--to") from None
    if not host or parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        raise AfenvError("E747", f"{without_secrets(url)!r} is not the URL of a service", place="--to")
    if parts.username or parts.password:
        raise AfenvError("E747", "a URL with a user or password is not taken", place="--to")
    if parts.scheme == "http" and not is_loopback(host):
        raise AfenvError("E747", "only https is used, except to this machine", place=without_secrets(url))
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """Requests to one service; ``base`` is its URL. ``wait`` sleeps, in seconds."""

    def __init__(
        self,
        base: str,
        token: str,
        *,
        patience: Patience | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        import http.cookiejar

        import requests

        self.base = check_url(base)
        self._token = token
        self._patience = patience or Patience()
        self._wait = wait
        self._session = requests.Session()
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["User-Agent"] = f"afenv/{__version__}"

    def shown(self, text: str) -> str:
        """A text without the token, and without what a terminal would obey."""
        found = text.replace(self._token, "[token]")
        return "".join(sign if sign.isprintable() else " " for sign in found)

    def url(self, link: str) -> str:
        """A link of an answer, or a path, as a URL; E745 if it is none."""
        return self._joined(self.base + "/", link)

    def _joined(self, url: str, link: str) -> str:
        try:
            return urljoin(url, link)
        except ValueError:
            raise AfenvError("E745", "the server leads to what is no URL", place=self.base) from None

    def ask(
        self,
        method: str,
        link: str,
        *,
        value: Any = None,
        body: Window | None = None,
        accept: str = "application/json",
        good: tuple[int, ...] = (200, 201, 202, 204),
        none: tuple[int, ...] = (),
        again: bool = True,
    ) -> Answer:
        """The answer to a request.

        ``good`` are the statuses of success, ``none`` those that are answers too, without a document.
        ``again`` allows another attempt after a failure of which it is not known what the server did; one
        that did nothing (429, 503) is always tried again, after the time that it asks for. E745 if the server
        refuses, E746 if it is not reached or fails for good.
        """
        url = self.url(link)
        headers = {"Accept": accept}
        data: Any = body
        if value is not None:
            data, headers["Content-Type"] = json.dumps(value).encode(), "application/json"
        elif body is not None:
            headers["Content-Type"] = "application/octet-stream"
        failures = 0
        while True:
            if body is not None:
                body.rewind()
            failures += 1
            try:
                with self._follow(method, url, headers, data) as response:
                    status = response.status_code
                    if status in good or status in none:
                        return Answer(status=status, document=self._document(response, status in good))
                    reason = f"{status} {self._told(response)}".strip()
                    if status not in (*BUSY, *FAILED):
                        raise AfenvError("E745", self.shown(reason), place=without_secrets(url))
                    asked = retry_after(response.headers.get("Retry-After"), time.time())
                    mayagain = again or status in BUSY
            except OSError as error:  # also every exception of requests
                reason, asked, mayagain = self._why(error), None, again
            if not mayagain or failures >= self._patience.attempts:
                raise AfenvError("E746", self.shown(reason), place=without_secrets(url))
            self._wait(self._patience.pause(failures, asked))

    def _follow(self, method: str, url: str, headers: Mapping[str, str], data: Any) -> requests.Response:
        for _ in range(REDIRECTS):
            try:
                response = self._session.request(
                    method,
                    url,
                    headers=dict(headers),
                    data=data,
                    auth=self._authorize,
                    stream=True,
                    allow_redirects=False,
                    timeout=(self._patience.connect, self._patience.stall),
                )
            except ValueError:  # of names and addresses that no host can have
                message = "this is not a URL that can be asked for"
                raise AfenvError("E745", message, place=without_secrets(url)) from None
            target = response.headers.get("Location", "")
            if response.status_code not in (301, 302, 307, 308) or not target:
                return response
            response.close()
            if method != "GET" and response.status_code in (301, 302):
                break  # what a client makes of these differs: a request that changes something stops here
            url = check_location(self._joined(url, target))
            if isinstance(data, Window):
                data.rewind()
        raise AfenvError("E745", "the server redirects without end, or in an unclear way", place=self.base)

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token if the request goes to the service itself. Also keeps ``~/.netrc`` out."""
        if origin(request.url or "") == origin(self.base):
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _document(self, response: requests.Response, wanted: bool) -> Mapping[str, Any]:
        if response.status_code == 204 or not wanted:
            return {}
        content = self._read(response)
        if not content.strip():
            return {}
        try:
            found = json.loads(content)
            canonical.compact(found)  # halves of letters would be found only when the state is written
            if isinstance(found, dict):
                return found
        except (ValueError, RecursionError):
            pass
        message = "the answer is not a JSON object"
        raise AfenvError("E745", message, place=without_secrets(response.url or self.base))

    def _read(self, response: requests.Response) -> bytes:
        found = b""
        for data in response.iter_content(_CHUNK):
            found += data
            if len(found) > ANSWER:
                raise AfenvError("E745", "the answer is too long", place=self.base)
        return found

    def _told(self, response: requests.Response) -> str:
        """What the server says of its refusal, in a line."""
        try:
            value = json.loads(self._read(response))
            text = "; ".join([str(value.get("message") or response.reason), *told(value.get("errors"))])
        except (ValueError, AttributeError, RecursionError, OSError):
            text = str(response.reason)
        return text[:2000]

    def _why(self, error: OSError) -> str:
        import requests

        if isinstance(error, requests.exceptions.SSLError):
            return "TLS: the server's certificate is not accepted"
        if isinstance(error, requests.exceptions.Timeout):
            return "the server does not answer"
        return "the connection was refused or broken"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def check_location(url: str) -> str:
    """The URL that a server sends us to; E747 unless it is https, or this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise AfenvError("E745", "the server leads to what is no URL") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise AfenvError("E747", "the server leads to a place without encryption", place=without_secrets(url))
    return url
