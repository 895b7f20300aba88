"""From a connection into a partial file, hashed once; in a thread of its own, while more comes in, if asked.

The rooms are small, so that what is received, written and hashed stays in the processor's cache: with
rooms of 1 MiB the same takes twice the time in the kernel.
"""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Protocol

from afenv.store.partial import Partial

ROOM = 1 << 18  # bytes that are written and hashed at once
SMALL_ROOM, ROOMS = 1 << 16, 8  # with a thread that hashes
LARGE = 8 << 20  # bytes; what is smaller is never worth a thread

_unused: queue.SimpleQueue[bytearray] = queue.SimpleQueue()  # rooms; a new one costs page faults


class Readable(Protocol):
    """What is received from."""

    def readinto(self, view: memoryview) -> int:
        """Some bytes; 0 at the end."""
        ...  # pragma: no cover


class Receiver:
    """Appends to a partial file. Use as a context manager: at its end all that came is written and hashed.

    ``alone`` says that nothing else is received at the same time that would keep the processors busy.
    """

    def __init__(self, part: Partial, *, alone: bool) -> None:
        self._part = part
        missing = part.file.size - part.size
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._room: bytearray | None = None  # the only one, where no thread hashes
        if alone and missing > LARGE:
            for _ in range(ROOMS):
                self._free.put(bytearray(SMALL_ROOM))
            self._thread = threading.Thread(target=self._hash, name="afenv-hash", daemon=True)
        else:
            try:
                self._room = _unused.get_nowait()
            except queue.Empty:
                self._room = bytearray(ROOM)

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
        if self._room is not None:
            _unused.put(self._room)

    def _hash(self) -> None:
        while (item := self._full.get()) is not None:
            room, count = item
            self._part.hash(memoryview(room)[:count])
            self._free.put(room)

    def take(self, source: Readable) -> bool:
        """Receive until a room is full, and write it; False at the end.

        What came before a failure is written too. OSError, E402, E403.
        """
        room = self._free.get() if self._room is None else self._room
        view, filled, more = memoryview(room), 0, True
        try:
            while filled < len(view) and more:
                count = source.readinto(view[filled:])
                filled += count
                more = count > 0
        finally:
            self._part.append(view[:filled])
            if self._room is None:
                self._full.put((room, filled))
            else:
                self._part.hash(view[:filled])
        return more
