"""What servers answer."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple

from afenv_registry.wire import Head, Stalled, Wire

WORDS = 500  # letters of a server's own words that are shown

Headers = Mapping[str, str]


class Answer(NamedTuple):
    """What a server answered; ``url`` is where it came from."""

    status: int
    headers: Headers
    body: bytes
    url: str

    def header(self, name: str) -> str | None:
        """A header, whatever the case of its name."""
        return self.headers.get(name.lower())

    def words(self) -> str:
        """What the server said of its failure, in a few words."""
        with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError):
            errors = json.loads(self.body).get("errors") or []
            texts = [f"{one.get('code', '')} {one.get('message', '')}".strip() for one in errors]
            if any(texts):
                return f"status {self.status}: " + printable("; ".join(texts))
        return f"status {self.status} {_reason(self.status)}".strip()


def printable(text: str) -> str:
    """A server's words as a terminal may show them."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:WORDS])


def _reason(status: int) -> str:
    from http import HTTPStatus

    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""


class Response:
    """An answer whose body is still to be read. Use as a context manager."""

    def __init__(self, wire: Wire, head: Head, url: str, give_back: Callable[[], None]) -> None:
        self._wire = wire
        self._give_back = give_back
        self.status = head.status
        self.headers = head.headers
        self.url = url

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keep the connection if everything was read, else close it."""
        if not (self._wire.ended and self._wire.keep):
            self._wire.close()
            self._wire.keep = False
        self._give_back()

    def readinto(self, view: memoryview) -> int:
        """Some bytes of the body; 0 at its end. OSError if it breaks off."""
        return self._wire.readinto(view)

    def read(self, limit: int, seconds: float = 3600.0) -> bytes | None:
        """The whole body; None if it is larger than ``limit``. It must come within ``seconds``."""
        if self._wire.ended:
            return b""
        until = time.monotonic() + seconds
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            return None
        parts: list[bytes] = []
        room = bytearray(min(limit + 1, 1 << 16))
        total = 0
        while count := self.readinto(memoryview(room)):
            total += count
            if total > limit:
                return None
            parts.append(bytes(room[:count]))
            if time.monotonic() > until:
                raise Stalled(f"an answer took more than {seconds:g} s")
        return b"".join(parts)
