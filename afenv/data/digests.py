"""Several checksums of one stream in one pass, each in a thread of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

BATCH = 1 << 20  # bytes that are handed to the threads at once


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...  # pragma: no cover

    def hexdigest(self) -> str: ...  # pragma: no cover


class Adler32:
    """Adler-32 (RFC 1950), eight hexadecimal digits as storage of the grid writes it."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._add = isal_zlib.adler32
        self._value = 1

    def update(self, data: bytes) -> None:
        """Go on with more bytes."""
        self._value = self._add(data, self._value)

    def hexdigest(self) -> str:
        """The checksum so far."""
        return f"{self._value & 0xFFFFFFFF:08x}"


def _new(algorithm: str) -> _Hash:
    if algorithm == "adler32":
        return Adler32()
    found: Any = hashlib.new(algorithm, usedforsecurity=False)
    return found  # type: ignore[no-any-return]


class Digests:
    """Checksums of what :meth:`update` is given, by algorithm.

    While the next bytes are read, those before are hashed; at most two batches are in memory.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self.algorithms = tuple(dict.fromkeys(algorithms))
        self._hashes = {name: _new(name) for name in self.algorithms}
        self._pool: ThreadPoolExecutor | None = None
        self._running: list[Future[None]] = []
        self._batch: list[bytes] = []
        self._waiting = 0

    def update(self, data: bytes) -> None:
        """Go on with more bytes, which must not change any more."""
        self._batch.append(data)
        self._waiting += len(data)
        if self._waiting >= BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        self._wait()
        batch, self._batch, self._waiting = self._batch, [], 0
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(self._hashes), thread_name_prefix="afenv-digest")
        self._running = [self._pool.submit(_add, one, batch) for one in self._hashes.values()]

    def _wait(self) -> None:
        for future in self._running:
            future.result()
        self._running = []

    def results(self) -> dict[str, str]:
        """The checksums of all that came so far, as hexadecimal digits."""
        self._wait()
        for one in self._hashes.values():
            _add(one, self._batch)
        self._batch, self._waiting = [], 0
        return {name: one.hexdigest() for name, one in self._hashes.items()}

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _add(one: _Hash, batch: list[bytes]) -> None:
    for data in batch:
        one.update(data)
