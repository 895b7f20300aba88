"""Digests of many files at once, and of one stream that goes to several places.

Each algorithm reads a file by itself, in a thread of its own: so the files of a bag are read at the speed
of the disk or of the hash, whichever is slower. Memory holds one buffer for each thread.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from afenv.errors import AfenvError
from afenv.record import record

CHUNK = 1 << 22
_INLINE = 1 << 16  # bytes that are not worth a thread


@record
class Sums:
    """What is known of a file's content: its digests in hexadecimal, and its size in bytes."""

    sha256: str
    sha512: str
    size: int


def sums_of_bytes(data: bytes) -> Sums:
    """The digests of some bytes."""
    return Sums(
        sha256=hashlib.sha256(data).hexdigest(), sha512=hashlib.sha512(data).hexdigest(), size=len(data)
    )


class Crc32:
    """zlib's CRC-32 in the manner of hashlib."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: Any) -> None:
        """Go on with some bytes."""
        self.value = zlib.crc32(data, self.value)

    def hexdigest(self) -> str:
        """Eight hexadecimal digits."""
        return f"{self.value:08x}"


def new_hash(algorithm: str) -> Any:
    """A hash object: one of hashlib's, or ``crc32``."""
    return Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)


def digests(
    tasks: Iterable[tuple[Callable[[], BinaryIO], str, int]],
    advance: Callable[[int], object] = lambda _: None,
) -> list[str | OSError | AfenvError]:
    """The hexadecimal digest for each (opener, algorithm, size), in order; or why it cannot be read.

    ``advance`` is told the bytes as they are read. The largest files are begun first.
    """
    listed = list(tasks)
    found: list[str | OSError | AfenvError] = [""] * len(listed)

    stop = threading.Event()  # set when this thread is interrupted

    def work(number: int) -> None:
        opener, algorithm, _ = listed[number]
        digest = new_hash(algorithm)
        try:
            with opener() as file:
                buffer = bytearray(1 << 20)
                view = memoryview(buffer)
                while not stop.is_set() and (count := file.readinto(view)):  # type: ignore[attr-defined]
                    digest.update(view[:count])
                    advance(count)
        except (OSError, AfenvError) as error:
            found[number] = error
            return
        found[number] = digest.hexdigest()

    order = sorted(range(len(listed)), key=lambda number: -listed[number][2])
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for _ in pool.map(work, order):
                pass
        except BaseException:
            stop.set()
            raise
    return found


def workers() -> int:
    """Threads that hash at once."""
    return max(2, len(os.sched_getaffinity(0)))


class Tee:
    """Gives each chunk of a stream to several consumers, which work on it at the same time.

    While they do, the next chunk can be read. Use as a context manager; the chunks are not to change.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max(3, workers()))
        self._running: list[Future[object]] = []

    def __enter__(self) -> Tee:
        return self

    def feed(self, data: bytes, consumers: Sequence[Callable[[bytes], object]]) -> None:
        """Hand over a chunk; raises what a consumer raised of the one before."""
        self.wait()
        if len(data) < _INLINE:
            for consume in consumers:
                consume(data)
            return
        self._running = [self._pool.submit(consume, data) for consume in consumers]

    def wait(self) -> None:
        """Until all is consumed."""
        running, self._running = self._running, []
        for future in running:
            future.result()

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
