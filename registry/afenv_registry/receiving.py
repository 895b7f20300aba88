"""From a connection into a partial file, hashed once; what is large is hashed while more comes in."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Protocol

from afenv.store.partial import Partial

ROOM = 1 << 20  # bytes that are written and hashed at once
ROOMS = 4
LARGE = 8 << 20  # bytes; what is smaller is not worth a thread


class Readable(Protocol):
    """What is received from."""

    def readinto(self, view: memoryview) -> int:
        """Some bytes; 0 at the end."""
        ...  # pragma: no cover


class Receiver:
    """Appends to a partial file. Use as a context manager: at its end all that came is written and hashed."""

    def __init__(self, part: Partial) -> None:
        self._part = part
        missing = part.file.size - part.size
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        rooms = ROOMS if missing > LARGE else 1
        for _ in range(rooms):
            self._free.put(memoryview(bytearray(min(ROOM, max(missing, 1)))))
        if rooms > 1:
            self._thread = threading.Thread(target=self._hash, name="afenv-hash", daemon=True)

    def __enter__(self) -> Receiver:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()

    def _hash(self) -> None:
        while (data := self._full.get()) is not None:
            self._part.hash(data)
            assert isinstance(data.obj, bytearray)
            self._free.put(memoryview(data.obj))

    def take(self, source: Readable) -> bool:
        """Receive until a room is full, and write it; False at the end.

        What came before a failure is written too. OSError, E402, E403.
        """
        room, filled, more = self._free.get(), 0, True
        try:
            while filled < len(room) and more:
                count = source.readinto(room[filled:])
                filled += count
                more = count > 0
        finally:
            self._write(room[:filled])
        return more

    def _write(self, data: memoryview) -> None:
        self._part.append(data)
        if self._thread is not None:
            self._full.put(data)
        else:
            self._part.hash(data)
            assert isinstance(data.obj, bytearray)
            self._free.put(memoryview(data.obj))
