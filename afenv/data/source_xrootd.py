"""Storage that speaks XRootD, through XRootD's own Python bindings: ``root:``, ``roots:``, ``xroot:``.

Where the bindings cannot be imported, :mod:`afenv.data.source_xrdcp` does the same with the command line.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

from afenv.data.source import Content, Found, scrub
from afenv.documents.data import CHECKSUM_DIGITS
from afenv.store.transport import Patience, SourceError

CHUNK = 4 << 20
WINDOW = 3  # reads that are on their way at once: bounded memory, and no pause for each answer
GONE = 3011  # kXR_NotFound
DENIED = (3010, 3030)  # kXR_NotAuthorized, kXR_AuthFailed
OVERLOADED = (3024, 3005, 3007, 3012)  # kXR_overloaded and errors of its disk: another attempt may do


def bindings() -> bool:
    """Whether the bindings are to be used: they are here, and ``AFENV_XROOTD`` does not say ``xrdcp``."""
    if os.environ.get("AFENV_XROOTD") == "xrdcp":
        return False
    import importlib.util

    return importlib.util.find_spec("XRootD") is not None


def split(uri: str) -> tuple[str, str]:
    """The server's URI and the path (with its query) of a URI."""
    scheme, _, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path if path.startswith("/") else "/" + path


def checksum(answer: str) -> dict[str, str]:
    """What a server answers to a query for a checksum: the algorithm's name and digits."""
    name, _, digits = answer.strip(" \0\n").partition(" ")
    digits = digits.strip().lower()
    count = CHECKSUM_DIGITS.get(name)
    if count is None or not digits or len(digits) > count or set(digits) - set("0123456789abcdef"):
        return {}
    return {name: digits.zfill(count)}


def failure(number: int, message: str, *, connected: bool, patience: Patience) -> SourceError:
    """What an answer with an XRootD error number, or a failed connection (number 0), means."""
    reason = scrub(" ".join(message.replace("[ERROR]", "").replace("[FATAL]", "").split())) or "no answer"
    if number == GONE:
        return SourceError("E103", "no such file")
    if number in DENIED:
        return SourceError("E647", reason)
    if number:
        return SourceError("E202", reason, again=number in OVERLOADED)
    if "expired" in reason.lower() or "timeout" in reason.lower():
        reason = f"no byte came for {patience.stall:g} s"
    return SourceError("E201", reason, again=True, connected=connected)


def insist(ask: Callable[[], str]) -> dict[str, str]:
    """The checksum that a server has; nothing where it keeps none.

    A server computes a checksum when asked for it, and says that this failed (kXR_ServerError) when another
    one is being computed: it is asked again.
    """
    for pause in (0.2, 0.5, 1.0, 0.0):
        try:
            return checksum(ask())
        except SourceError as error:
            if not error.again:
                break
            time.sleep(pause)
    return {}


class XrootdSource:
    """XRootD storage, by the bindings."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        os.environ.setdefault("XRD_CONNECTIONWINDOW", str(max(1, int(patience.connect))))
        os.environ.setdefault("XRD_CONNECTIONRETRY", "1")
        os.environ.setdefault("XRD_STREAMTIMEOUT", str(max(1, int(patience.stall))))
        os.environ.setdefault("XRD_REQUESTTIMEOUT", str(max(1, int(patience.stall))))
        os.environ.setdefault("XRD_STREAMERRORWINDOW", str(max(1, int(patience.connect))))
        from XRootD import client

        self._client: Any = client

    @property
    def _timeout(self) -> int:
        return max(1, int(self._patience.stall))

    def _check(self, status: Any) -> None:
        if not status.ok:
            number = int(status.errno) if int(status.code) == 400 else 0
            connected = int(status.code) not in (101, 102, 103, 108)
            raise failure(number, str(status.message), connected=connected, patience=self._patience)

    def look(self, uri: str) -> Found:
        """Size and the checksum that the server has configured."""
        server, path = split(uri)
        system = self._client.FileSystem(server)
        status, about = system.stat(path, timeout=self._timeout)
        self._check(status)
        return Found(size=int(about.size), checksums=insist(lambda: self._checksum(system, path)))

    def _checksum(self, system: Any, path: str) -> str:
        from XRootD.client.flags import QueryCode

        status, answer = system.query(QueryCode.CHECKSUM, path, timeout=self._timeout)
        self._check(status)
        return answer.decode("ascii", "replace") if answer else ""

    @contextlib.contextmanager
    def read(self, uri: str, first: int) -> Iterator[Content]:
        """The bytes of a file, with several reads on their way."""
        file = self._client.File()
        status, _ = file.open(uri, timeout=self._timeout)
        self._check(status)
        try:
            status, about = file.stat(timeout=self._timeout)
            self._check(status)
            yield Content(first, int(about.size), self._chunks(file, first, int(about.size)))
        finally:
            file.close(timeout=self._timeout)

    def _chunks(self, file: Any, first: int, size: int) -> Iterator[bytes]:
        waiting: list[tuple[int, queue.SimpleQueue[tuple[Any, bytes]]]] = []
        asked = first
        try:
            while asked < size or waiting:
                while asked < size and len(waiting) < WINDOW:
                    answered: queue.SimpleQueue[tuple[Any, bytes]] = queue.SimpleQueue()
                    count = min(CHUNK, size - asked)

                    def done(status: Any, data: Any, _: Any, put: Any = answered.put) -> None:
                        put((status, data))

                    self._check(file.read(asked, count, timeout=self._timeout, callback=done))
                    waiting.append((count, answered))
                    asked += count
                count, answered = waiting.pop(0)
                status, data = answered.get()
                self._check(status)
                if len(data) != count:
                    raise SourceError("E202", "the file ended early", again=True)
                yield data
        finally:
            for _, answered in waiting:  # the bindings need their buffers until the answers are there
                with contextlib.suppress(queue.Empty):
                    answered.get(timeout=self._timeout + 5)

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """The files under a folder."""
        from XRootD.client.flags import DirListFlags, StatInfoFlags

        server, path = split(uri)
        status, listed = self._client.FileSystem(server).dirlist(
            path, DirListFlags.STAT | DirListFlags.RECURSIVE, timeout=self._timeout
        )
        self._check(status)
        return sorted(
            (str(entry.name), int(entry.statinfo.size))
            for entry in listed
            if not entry.statinfo.flags & StatInfoFlags.IS_DIR
        )
