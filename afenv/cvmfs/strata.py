"""Objects of a repository from its strata, through its proxies, into the content store.

Each object is checked against the digest that names it before anything is done with it; a stratum, or a
proxy, that gives other bytes is passed over like one that does not answer. What was fetched once is found in
the content store by that digest.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from afenv import canonical
from afenv.cvmfs.configuration import DIRECT, Configuration
from afenv.cvmfs.hashes import ObjectHash, hashing
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import Patience, SourceError, Transport, without_secrets

T = TypeVar("T")

SMALL = 1 << 20  # bytes of a document that is signed
IN_PLACE = 256 << 20  # bytes of an object of a folder that is read in place
ROUNDS = 2  # how often all ways are tried where one did not answer
_GRAVEST = ("E310", "E311", "E314", "E315", "E316", "E312", "E313", "E140", "E143")


class Strata:
    """The strata of one repository; safe to use from many threads."""

    def __init__(
        self, repository: str, configuration: Configuration, store: ContentStore, settings: Settings
    ) -> None:
        self.repository = repository
        self.store = store
        self._settings = settings
        timeout = configuration.timeout
        self._patience = Patience(connect=timeout, stall=timeout, attempts=1)
        self._transports: dict[str, Transport] = {}
        self._lock = threading.Lock()
        self._ways = [
            (proxy, self._settings.rewrite(url))
            for proxy in configuration.proxies or ("",)
            for url in configuration.strata
        ]
        self._first = 0  # the way that last did well

    def _transport(self, proxy: str) -> Transport:
        with self._lock:
            if proxy not in self._transports:
                self._transports[proxy] = Transport(self._patience, proxy=proxy)
            return self._transports[proxy]

    def each(self, attempt: Callable[[Callable[[str], Iterator[bytes]], str], T], what: str) -> T:
        """The result of the first way on which ``attempt(open, URL)`` raises nothing.

        ``open`` gives the chunks of a path below the repository. If all fail, what each said is one error:
        that of the gravest (E310 to E316), else E140 where no stratum has it, else E143.
        """
        failures: list[tuple[str, AfenvError]] = []
        order = (*range(self._first, len(self._ways)), *range(self._first))
        for position, number in enumerate(order * ROUNDS):
            proxy, url = self._ways[number]
            if position == len(order):
                if not any(error.code == "E143" for _, error in failures):
                    break  # what they answered will not change
                failures.clear()
            shown = without_secrets(url)
            if self._settings.offline and urlsplit(url).scheme != "file":
                failures.append((shown, AfenvError("E203", f"offline, and the cache has no copy of {what}")))
                continue
            try:
                result = attempt(self._opener(proxy, url), shown)
            except AfenvError as error:
                if error.code in ("E402", "E403"):
                    raise
                failures.append((shown, error))
                continue
            self._first = number
            return result
        raise self._failed(failures, what)

    def _opener(self, proxy: str, url: str) -> Callable[[str], Iterator[bytes]]:
        def chunks(path: str) -> Iterator[bytes]:
            try:
                with self._transport(proxy).open(f"{url}/{path}", {}) as answer:
                    if answer.status != 200:
                        raise SourceError("E202", f"an answer that was not asked for ({answer.status})")
                    yield from answer.chunks
            except SourceError as error:
                through = f" through {without_secrets(proxy)}" if proxy not in ("", DIRECT) else ""
                code = "E140" if error.code == "E103" else "E143"
                message = f"{path}: {error.reason}{through}"
                raise AfenvError(code, message, place=without_secrets(url), remedy=error.remedy) from error

        return chunks

    def _failed(self, failures: Sequence[tuple[str, AfenvError]], what: str) -> AfenvError:
        offline = next((error for _, error in failures if error.code == "E203"), None)
        codes = [error.code for _, error in failures]
        code = next((code for code in _GRAVEST if code in codes), "E143")
        if offline is not None and code in ("E140", "E143"):
            return offline
        place, chosen = next(one for one in failures if one[1].code == code)
        problem = chosen.problems[0]
        others = [f"{at}: {error.problems[0].message}" for at, error in failures if error is not chosen]
        also = f" (and {'; '.join(others)})" if others else ""
        return AfenvError(code, problem.message + also, place=problem.place or place, remedy=problem.remedy)

    def document(self, path: str, open_: Callable[[str], Iterator[bytes]]) -> bytes:
        """A small document that changes; E311 for a large one."""
        data = bytearray()
        for chunk in open_(path):
            data += chunk
            if len(data) > SMALL:
                raise AfenvError("E311", f"{path} is larger than the {SMALL} bytes that are accepted")
        return bytes(data)

    def object(self, wanted: ObjectHash, kind: str = "", what: str = "") -> Path:
        """The object as it is stored, compressed or not, in the content store: its file.

        E310 if no stratum has the right bytes, E140 and E143 if none answers, E203 offline, E402, E403.
        """
        key = sha256_bytes(canonical.compact(["cvmfs", str(wanted)]))
        known = self.store.load_key("cvmfs", key)
        if known is not None and self._is_there(known):
            return self.store.path(known["blob"])
        path = wanted.path(kind)

        def attempt(open_: Callable[[str], Iterator[bytes]], url: str) -> Path:
            with self.store.writer(durable=False) as writer:
                found = hashing(wanted.algorithm)
                for chunk in open_(path):
                    found.update(chunk)
                    writer.write(chunk)
                if found.hexdigest() != wanted.digits:
                    name = f" of {what}" if what else ""
                    message = f"the object {path}{name} has {writer.size} bytes with another digest"
                    raise AfenvError("E310", message, place=url)
                blob = writer.commit()
            self.store.save_key("cvmfs", key, {"blob": blob, "size": writer.size})
            return self.store.path(blob)

        return self.each(attempt, what or path)

    def content(self, wanted: ObjectHash, kind: str, what: str) -> bytes | mmap.mmap:
        """The object as it is stored, in memory; checked, and errors, as of :meth:`object`.

        From a stratum that is a folder it is read in place, and no copy is kept.
        """
        url = self._ways[self._first][1]
        if url.startswith("file://"):
            path = Path(unquote(urlsplit(url).path), wanted.path(kind))
            with contextlib.suppress(OSError):
                if path.stat().st_size <= IN_PLACE:
                    data = path.read_bytes()
                    if wanted.matches(data):
                        return data
        path = self.object(wanted, kind, what)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < SMALL:
                return file.read()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def inflated(self, wanted: ObjectHash, kind: str, what: str, size: int = 0) -> Path:
        """A compressed object, inflated, in the content store: its file; E311 unless it has ``size`` bytes.

        0 is any size that is not absurd.
        """
        key = sha256_bytes(canonical.compact(["inflated", str(wanted)]))
        known = self.store.load_key("cvmfs", key)
        if known is not None and self._is_there(known):
            if size and known["size"] != size:
                raise self._wrong_size(what, size)
            return self.store.path(known["blob"])
        source = self.content(wanted, kind, what)
        limit = size or LARGEST
        with self.store.writer(durable=False) as writer:
            for piece in inflate(source, what, limit):
                writer.write(piece)
            if size and writer.size != size:
                raise self._wrong_size(what, size)
            blob = writer.commit()
        self.store.save_key("cvmfs", key, {"blob": blob, "size": writer.size})
        return self.store.path(blob)

    def _is_there(self, known: Any) -> bool:
        with contextlib.suppress(TypeError, KeyError, AfenvError):
            return self.store.trusted(known["blob"], known["size"])
        return False

    @staticmethod
    def _wrong_size(what: str, size: int) -> AfenvError:
        return AfenvError("E311", f"{what} has not the {size} bytes that are said of it")


LARGEST = 8 << 30  # bytes of a catalogue of which no size is told
_PIECE = 4 << 20


def inflate(source: bytes | mmap.mmap, what: str, limit: int) -> Iterator[bytes]:
    """The content of a zlib stream; E311 beyond ``limit`` bytes, E310 for a damaged stream."""
    from isal import isal_zlib

    error_of: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]
    machine = isal_zlib.decompressobj()
    left = limit
    data: Any = source
    try:
        while not machine.eof:
            piece = machine.decompress(data, min(left + 1, _PIECE))
            left -= len(piece)
            if left < 0:
                raise AfenvError("E311", f"{what} has more than the {limit} bytes that are said of it")
            if not piece and not machine.eof:
                raise AfenvError("E310", f"{what}: its compressed content ends early")
            data = machine.unconsumed_tail
            if piece:
                yield piece
    except error_of as error:
        raise AfenvError("E310", f"{what}: its compressed content is damaged: {error}") from None
