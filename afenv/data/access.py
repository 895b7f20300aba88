"""Access to data by its URIs: which storage it is, in which order replicas are tried, and how often.

The order of replicas is declared, then measured. What the facility's profile says it holds (``data``) comes
first, in the order of the profile; then what its caches serve (``data-proxies``); then the rest in the
order of the lock, except that a host which was found to be more than four times slower than another one
goes behind it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from afenv.data.source import Found, Source
from afenv.data.source_file import FileSource
from afenv.digest import sha256_bytes
from afenv.documents.facility import FacilityProfile
from afenv.errors import AfenvError, Problem
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.partial import Stopped
from afenv.store.transport import Patience, SourceError, without_secrets

T = TypeVar("T")

DOWN = 30.0  # seconds for which a host that was not reached is not asked again
SLOWER = 4.0  # times slower than another: then it goes behind that one
MEASURED = 8 << 20  # bytes from which on a transfer says something of a host's speed
KIND = "data-speed"
XROOTD = ("root", "roots", "xroot", "xroots")
HTTP = ("http", "https", "dav", "davs")
GRAVITY = ("E641", "E302", "E647", "E202", "E201", "E103", "E646", "E640", "E203")


class DataAccess:
    """Reads data for one project. Safe to use from many threads.

    ``folder`` is that of the manifest, in which ``file:`` URIs begin; ``facility`` the profile of where this
    runs, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        store: ContentStore,
        folder: Path,
        *,
        facility: FacilityProfile | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.folder = folder
        self.patience = patience or Patience()
        self._facility = facility
        self._sources: dict[str, Source] = {}
        self._lock = threading.Lock()
        self._down: dict[str, tuple[float, SourceError]] = {}
        self._speeds: dict[str, float | None] = {}

    def source(self, uri: str) -> Source:
        """The storage of a URI; :class:`SourceError` with E203, E640, E646."""
        parts = urlsplit(uri)
        if self.settings.offline and parts.scheme != "file":
            raise SourceError("E203", "offline, and it is not on this machine")
        if parts.password:
            raise SourceError("E640", "a reference to data has no place for a password")
        with self._lock:
            kind = "xrootd" if parts.scheme in XROOTD else "http" if parts.scheme in HTTP else parts.scheme
            if kind not in self._sources:
                self._sources[kind] = self._make(kind)
            return self._sources[kind]

    def _make(self, kind: str) -> Source:
        if kind == "file":
            return FileSource(self.folder)
        if kind == "http":
            from afenv.data.source_http import HttpSource

            return HttpSource(self.settings, self.patience)
        if kind == "xrootd":
            from afenv.data.source_xrootd import XrootdSource, bindings

            if bindings():
                return XrootdSource(self.patience)
            from afenv.data.source_xrdcp import XrdcpSource

            return XrdcpSource(self.patience)
        from afenv.data.source_fsspec import FsspecSource

        return FsspecSource(kind)

    def replicas(self, uris: Sequence[str]) -> list[str]:
        """The URIs to try, in order, those of the facility's caches among them."""
        facility = self._facility
        held = (facility.data or ()) if facility else ()
        ranked = [
            (position, uri) for position, prefix in enumerate(held) for uri in uris if uri.startswith(prefix)
        ]
        caches = [one for uri in uris for one in (facility.through_proxies(uri) if facility else ())]
        first = [uri for _, uri in sorted(ranked, key=lambda entry: entry[0])]
        rest = [uri for uri in uris if uri not in first]
        known = [speed for uri in rest if (speed := self.speed(uri)) is not None]
        if known:
            limit = max(known) / SLOWER
            rest.sort(key=lambda uri: (self.speed(uri) or limit) < limit)
        local = [uri for uri in rest if urlsplit(uri).scheme == "file"]
        return list(dict.fromkeys([*local, *first, *caches, *rest]))

    def speed(self, uri: str) -> float | None:
        """The bytes per second that its host was measured to give; None if nothing is known."""
        host = urlsplit(uri).netloc
        if host and host not in self._speeds:
            kept = self.store.load_key(KIND, sha256_bytes(host.encode()))
            value = kept.get("rate") if isinstance(kept, dict) else None
            self._speeds[host] = float(value) if isinstance(value, int | float) and value > 0 else None
        return self._speeds.get(host)

    def measured(self, uri: str, size: int, seconds: float) -> None:
        """Remember how fast a host was."""
        host = urlsplit(uri).netloc
        if host and size >= MEASURED and seconds > 0:
            self._speeds[host] = size / seconds
            self.store.save_key(KIND, sha256_bytes(host.encode()), {"rate": int(size / seconds)})

    def look(self, uri: str, stop: threading.Event | None = None) -> Found:
        """What the storage says of a file; :class:`SourceError`."""
        return self.persist(uri, lambda: self.source(uri).look(uri), stop or threading.Event())

    def persist(
        self,
        uri: str,
        attempt: Callable[[], T],
        stop: threading.Event,
        highest: Callable[[], int] = lambda: 0,
    ) -> T:
        """The attempt's result, made again while that is of use; ``highest`` tells how far it got."""
        host = urlsplit(uri).netloc
        failures, before = 0, highest()
        while True:
            since, known = self._down.get(host, (0.0, None))
            if known is not None and time.monotonic() - since < DOWN:
                raise SourceError(known.code, known.reason)
            try:
                return attempt()
            except SourceError as error:
                if highest() >= before + self.patience.gain:
                    failures, before = 0, highest()
                failures += 1
                if not error.again or failures >= self.patience.attempts:
                    if error.again and not error.connected and host:
                        self._down[host] = (time.monotonic(), error)
                    raise
                if stop.wait(self.patience.pause(failures, error.pause)):
                    raise Stopped from error


def problem(what: str, failures: Sequence[tuple[str, SourceError]]) -> Problem:
    """One problem out of what each replica said; the gravest gives the code, and E642 if all are gone."""

    def gravity(failure: tuple[str, SourceError]) -> int:
        return GRAVITY.index(failure[1].code) if failure[1].code in GRAVITY else len(GRAVITY)

    uri, first = min(failures, key=gravity)
    code = {"E103": "E642", "E302": "E641"}.get(first.code, first.code)
    others = [f"{without_secrets(at)}: {error.reason}" for at, error in failures if error is not first]
    message = f"{what}: {first.reason}" + (f" (and {'; '.join(others)})" if others else "")
    return Problem(code, message, place=without_secrets(uri), remedy=first.remedy)


def failed(what: str, failures: Sequence[tuple[str, SourceError]]) -> AfenvError:
    """That problem as an error."""
    return AfenvError.many([problem(what, failures)])
