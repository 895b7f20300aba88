"""Downloads: files by their digest, and the small documents that change.

A file that the lock names is taken from the content store, or else from the first of its sources that
gives exactly the bytes of its digest. While it comes in it is a partial file (:mod:`afenv.store.partial`);
if its process ends, another goes on where it stopped. What came in before is hashed again, so that nothing
has to be remembered, or believed, of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedFile
from afenv.errors import AfenvError, Problem
from afenv.progress import Progress
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.parallel import for_each
from afenv.store.partial import Partial, Stopped, hold_partial
from afenv.store.transport import (
    CONNECTIONS,
    Answer,
    Patience,
    SourceError,
    Transport,
    without_secrets,
)

T = TypeVar("T")

LIMIT = 64 << 20  # bytes of a changing document
DOWN = 30.0  # seconds for which a host that was not reached is not asked again
GRAVITY = ("E301", "E302", "E202", "E201", "E103")  # of several sources' failures, the first one counts


class _Cached(NamedTuple):
    """What the store knows of a document: its bytes, the source, and what to revalidate it with."""

    content: bytes
    source: str
    etag: str | None
    modified: str | None


class Fetcher:
    """Downloads into one content store; safe to use from many threads.

    ``quiet`` hides the progress bars. Sources are rewritten by the settings' mirror rules; ``headers`` are
    what a source, by its rewritten URL, wants of a request for a file.
    """

    def __init__(
        self,
        store: ContentStore,
        settings: Settings,
        *,
        quiet: bool = False,
        patience: Patience | None = None,
        headers: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._quiet = quiet
        self._headers = headers or {}
        self._patience = patience or Patience()
        self._transport = Transport(self._patience)
        self._down: dict[str, tuple[float, SourceError]] = {}

    def get(self, url: str, *, limit: int = LIMIT, accept: str | None = None) -> bytes:
        """The present content of a document of at most ``limit`` bytes.

        The copy in the store is used when the server says that it is still right, and when connections
        are not allowed; then E203 if there is none. Other errors: E103, E201, E202, E302 (too large).
        """
        key = sha256_bytes(canonical.compact({"url": url, "accept": accept}))
        source = self._settings.rewrite(url)
        cached = self._cached(key)
        if self._settings.offline and not _is_local(source):
            if cached is None:
                raise AfenvError("E203", "offline, and the cache has no copy", place=without_secrets(source))
            return cached.content
        headers = {"Accept": accept} if accept else {}
        if cached is not None and cached.source == without_secrets(source):
            if cached.etag:
                headers["If-None-Match"] = cached.etag
            elif cached.modified:
                headers["If-Modified-Since"] = cached.modified
        decode = not urlsplit(source).path.endswith(".gz")

        def attempt() -> bytes:
            with self._transport.open(source, headers, secure=True, decode=decode) as answer:
                if answer.status == 304 and cached is not None:
                    return cached.content
                if answer.status != 200:
                    raise SourceError("E202", f"an answer that was not asked for ({answer.status})")
                content = bytearray()
                for data in answer.chunks:
                    content += data
                    if len(content) > limit:
                        raise SourceError("E302", f"larger than the {limit} bytes that are accepted")
                if not _is_local(source):
                    self._keep(key, source, bytes(content), answer)
                return bytes(content)

        try:
            return self._persist(source, attempt, threading.Event())
        except SourceError as error:
            raise AfenvError.many([_problem("", [(source, error)])]) from error

    def _cached(self, key: str) -> _Cached | None:
        match self._store.load_key("http", key):
            case {"blob": str(blob), "source": str(source), **rest}:
                with contextlib.suppress(AfenvError):
                    content = self._store.read(blob)
                    return _Cached(content, source, _text(rest, "etag"), _text(rest, "modified"))
        return None

    def _keep(self, key: str, source: str, content: bytes, answer: Answer) -> None:
        record = {
            "blob": self._store.put(content),
            "source": without_secrets(source),
            "etag": answer.headers.get("etag"),
            "modified": answer.headers.get("last-modified"),
        }
        self._store.save_key("http", key, record)

    def file(self, file: LockedFile, *, title: str | None = None) -> Path:
        """The file in the store, downloaded if it is not there.

        Errors: E301 or E302 if what came is not what was asked for (nothing is kept), E103 if no source
        has it, E201, E202; E203 if it is needed and connections are not allowed; E402, E403.
        """
        return self.files([file], title=title or file.file_name)[0]

    def files(self, files: Sequence[LockedFile], *, title: str) -> list[Path]:
        """Many files at once; errors as of :meth:`file`, those of all files in one :class:`AfenvError`."""
        wanted = {file.digest: file for file in files}
        missing = [file for digest, file in wanted.items() if not self._store.trusted(digest, file.size)]
        if missing:
            with self._store.in_use():
                self._download_all(missing, title)
        return [self._store.path(file.digest) for file in files]

    def _download_all(self, files: Sequence[LockedFile], title: str) -> None:
        """Download with several threads: daemons, so that an interruption does not wait for a server."""
        largest_first = sorted(files, key=lambda file: -file.size)
        with Progress(title, sum(file.size for file in files), quiet=self._quiet) as progress:
            found = for_each(
                largest_first,
                lambda file, stop: self._download(file, progress, stop),
                threads=CONNECTIONS,
                name="fetch",
            )
            self._store.sync()
            if found:
                problems = {largest_first[at].digest: problem for at, problem in found.items()}
                raise AfenvError.many([problems[file.digest] for file in files if file.digest in problems])

    def _download(self, file: LockedFile, progress: Progress, stop: threading.Event) -> None:
        """Download one file; its blob is trusted after the store's next ``sync``."""
        sources = list(dict.fromkeys(self._settings.rewrite(url) for url in file.urls))
        if self._settings.offline:
            sources = [source for source in sources if _is_local(source)]
            if not sources:
                raise AfenvError("E203", f"offline, and the cache lacks {file.file_name}")
        with hold_partial(self._store, file, progress, stop) as part:
            if self._store.trusted(file.digest, file.size):  # another process was faster
                part.drop()
                progress.advance(file.size - part.size)
                return
            failures: list[tuple[str, SourceError]] = []
            for source in sources:
                try:
                    self._persist(source, partial(self._fill, part, source, stop), stop, part)
                    self._store.adopt(part.path, file.digest, file.size)
                    return
                except SourceError as error:
                    failures.append((source, error))
                    if error.code in ("E301", "E302"):
                        part.restart()
                except AfenvError as error:
                    if error.code == "E402":  # what it holds is what the disk lacks
                        part.drop()
                    raise
            raise AfenvError.many([_problem(f"{file.file_name}: ", failures)])

    def _fill(self, part: Partial, source: str, stop: threading.Event) -> None:
        """Bring the partial file to its full size from one source, and check it."""
        size, resumed = part.file.size, part.size
        if resumed < size or size == 0:
            self._receive(part, source, stop)
            if part.size < size:  # an end without an announced length may be a cut
                raise SourceError("E302", f"expected {size} bytes, found {part.size}", again=True)
        if (found := part.digest()) != part.file.digest:
            part.restart()
            # If a part came from an earlier attempt, it may be that part which is wrong.
            raise SourceError(
                "E301", f"expected {part.file.digest}, found {found}", again=resumed > 0, pause=0.0
            )

    def _receive(self, part: Partial, source: str, stop: threading.Event) -> None:
        size, resumed = part.file.size, part.size
        headers = dict(self._headers.get(source, {}))
        if resumed:
            headers["Range"] = f"bytes={resumed}-"
        try:
            with self._transport.open(source, headers) as answer:
                if answer.status == 200 and resumed:
                    part.restart()
                elif answer.status != 200 and (answer.range is None or answer.range[0] != resumed):
                    raise SourceError("E202", f"an answer that was not asked for ({answer.status})")
                whole = answer.range[1] if answer.range else answer.length
                if whole not in (None, size):
                    page = answer.headers.get("content-type", "").startswith("text/html")
                    hint = ", as a web page" if page else ""
                    raise SourceError("E302", f"expected {size} bytes, the source has {whole}{hint}")
                for data in answer.chunks:
                    if stop.is_set():
                        raise Stopped
                    if part.size + len(data) > size:
                        raise SourceError("E302", f"expected {size} bytes, the source sends more")
                    part.write(data)
        except SourceError as error:
            if resumed and error.code == "E202" and not error.again:  # such as 416: no parts from here
                part.restart()
                raise SourceError("E202", error.reason, again=True, pause=0.0) from error
            raise

    def _persist(
        self, source: str, attempt: Callable[[], T], stop: threading.Event, part: Partial | None = None
    ) -> T:
        """The attempt's result, made again while that is of use: see :class:`Patience`."""
        host = urlsplit(source).netloc
        failures, highest = 0, part.highest if part else 0
        while True:
            since, known = self._down.get(host, (0.0, None))
            if known is not None and time.monotonic() - since < DOWN:
                raise SourceError(known.code, known.reason)
            try:
                return attempt()
            except SourceError as error:
                if part and part.highest >= highest + self._patience.gain:
                    failures, highest = 0, part.highest
                failures += 1
                if not error.again or failures >= self._patience.attempts:
                    if error.again and not error.connected:
                        self._down[host] = (time.monotonic(), error)
                    raise
                if stop.wait(self._patience.pause(failures, error.pause)):
                    raise Stopped from error


def _is_local(source: str) -> bool:
    return urlsplit(source).scheme == "file"


def _text(record: Mapping[Any, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) else None


def _problem(prefix: str, failures: Sequence[tuple[str, SourceError]]) -> Problem:
    """One problem out of what each source said; the gravest gives the code."""
    source, first = min(failures, key=lambda failure: GRAVITY.index(failure[1].code))
    others = [f"{without_secrets(at)}: {error.reason}" for at, error in failures if error is not first]
    message = prefix + first.reason + (f" (and {'; '.join(others)})" if others else "")
    return Problem(first.code, message, place=without_secrets(source), remedy=first.remedy)
