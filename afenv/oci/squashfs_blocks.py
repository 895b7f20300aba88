"""Compressing the blocks of a squashfs image with zstd, in threads or on the spot."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from threading import Thread

Block = bytes | bytearray | memoryview

_BATCH = 8  # blocks that a thread is given at once: waking it and waiting for Python's lock cost it time


class Compressor:
    """Threads that compress blocks; what comes back keeps the order of :meth:`give`.

    Without threads a block is compressed when it is given.
    """

    def __init__(self, level: int, threads: int) -> None:
        self._level = level
        self._jobs: SimpleQueue[tuple[int, list[Block]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, list[Block] | BaseException]] = SimpleQueue()
        self._open: list[Block] = []  # the batch that is being filled
        self._early: dict[int, list[Block]] = {}  # batches that are done before their turn
        self._ready: deque[Block] = deque()
        self._given = self._taken = 0  # batches
        self._waiting = 0
        self._most = (2 * threads + 1) * _BATCH if threads else 0
        self._compress = None if threads else zstd(level)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def full(self) -> bool:
        """Whether all threads have enough to do, so that blocks should be taken."""
        return self._waiting > self._most

    def give(self, block: Block) -> None:
        """Have a block compressed, which must not change until it is taken."""
        self._waiting += 1
        if self._compress is not None:
            self._ready.append(_smaller(self._compress(block), block))
            return
        self._open.append(block)
        if len(self._open) == _BATCH:
            self._end_batch()

    def take(self) -> Block:
        """The next block: compressed, or as it was if that does not make it smaller."""
        if not self._ready:
            if self._taken == self._given:
                self._end_batch()
            while self._taken not in self._early:
                number, blocks = self._done.get()
                if isinstance(blocks, BaseException):
                    raise blocks
                self._early[number] = blocks
            self._ready.extend(self._early.pop(self._taken))
            self._taken += 1
        self._waiting -= 1
        return self._ready.popleft()

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _end_batch(self) -> None:
        self._jobs.put((self._given, self._open))
        self._given += 1
        self._open = []

    def _work(self) -> None:
        compress = zstd(self._level)
        while (job := self._jobs.get()) is not None:
            number, blocks = job
            try:
                self._done.put((number, [_smaller(compress(block), block) for block in blocks]))
            except BaseException as error:  # noqa: BLE001 - raised again by take
                self._done.put((number, error))


def _smaller(packed: bytes, block: Block) -> Block:
    return packed if len(packed) < len(block) else block


def zstd(level: int):  # type: ignore[no-untyped-def]  # its own type is a method of C
    """What compresses one block, for one thread."""
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress


def unzstd(data: bytes) -> bytes:
    """What :func:`zstd` compressed."""
    import zstandard

    return zstandard.ZstdDecompressor().decompress(data)
