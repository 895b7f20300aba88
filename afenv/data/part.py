"""A file of data that is coming in: on disk, or only hashed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from afenv.data.digests import Digests
from afenv.errors import AfenvError
from afenv.store.content import write_error
from afenv.store.partial import hold_file

CHUNK = 1 << 20


class Incoming:
    """The bytes so far, hashed and counted; nothing is kept of them but their checksums."""

    def __init__(self, algorithms: Iterable[str], advance: Callable[[int], None]) -> None:
        self._digests = Digests(algorithms)
        self._advance = advance
        self.size = 0
        self.highest = 0  # the largest size so far: a source that only repeats itself does not get on

    def write(self, data: bytes) -> None:
        """Append."""
        self._digests.update(data)
        self._count(len(data))

    def _count(self, amount: int) -> None:
        self.size += amount
        self.highest = max(self.highest, self.size)
        self._advance(amount)

    def restart(self) -> None:
        """Go back to nothing."""
        self._digests.close()
        self._digests = Digests(self._digests.algorithms)
        self._advance(-self.size)
        self.size = 0

    def results(self) -> dict[str, str]:
        """The checksums of what is there."""
        return self._digests.results()

    def close(self) -> None:
        """End the threads."""
        self._digests.close()


class Part(Incoming):
    """A partial file. What it holds already is hashed again, so that nothing has to be believed of it."""

    def __init__(
        self, path: Path, descriptor: int, algorithms: Iterable[str], advance: Callable[[int], None]
    ) -> None:
        super().__init__(algorithms, advance)
        self.path = path
        self.descriptor = descriptor
        while data := os.read(descriptor, CHUNK):
            super().write(data)

    def write(self, data: bytes) -> None:
        """Append; E402 or E403 if that fails."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError as error:
            raise write_error(error, self.path) from error
        super().write(data)

    def restart(self) -> None:
        """Go back to nothing."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        super().restart()

    def sync(self) -> None:
        """Wait until it is on the disk."""
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            raise write_error(error, self.path) from error

    def drop(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def hold_part(
    path: Path, algorithms: Iterable[str], advance: Callable[[int], None], stop: threading.Event
) -> Iterator[Part]:
    """The partial file of that path, for this process alone; others are waited for.

    It stays for the next attempt, unless it is empty, was moved or dropped, or the disk is full. E402, E403.
    """
    try:
        descriptor = hold_file(path, stop)
    except OSError as error:
        raise write_error(error, path) from error
    try:
        part = Part(path, descriptor, algorithms, advance)
        try:
            yield part
        except AfenvError as error:
            if error.code == "E402":  # what it holds is what the disk lacks
                part.drop()
            raise
        finally:
            part.close()
            if part.size == 0:
                part.drop()
    finally:
        os.close(descriptor)
