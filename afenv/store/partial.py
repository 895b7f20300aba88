"""A file that is being downloaded: ``tmp/part-DIGEST`` in the store, held by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from afenv.digest import hex_of
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error

CHUNK = 1 << 20
TURN = 0.1  # seconds between two looks at a file that another process holds


class Wanted(Protocol):
    """What is to be downloaded; a file of the lock is one."""

    @property
    def digest(self) -> str:
        """Its digest."""
        ...  # pragma: no cover

    @property
    def size(self) -> int:
        """Its size in bytes."""
        ...  # pragma: no cover


class Stopped(Exception):
    """The download was called off, because the caller is being interrupted."""


class Partial:
    """What is there of a file: its bytes so far, hashed and counted in the progress.

    ``highest`` is the largest size that it ever had, so that a source that only repeats itself is told
    from one that gets on.
    """

    def __init__(self, path: Path, descriptor: int, file: Wanted, progress: Progress) -> None:
        self.path = path
        self.file = file
        self._descriptor = descriptor
        self._progress = progress
        self._hash = hashlib.sha256()
        self.size = 0
        self.highest = 0
        if os.fstat(descriptor).st_size:
            while data := os.read(descriptor, CHUNK):
                self._hash.update(data)
                self._count(data)

    def hash(self, data: bytes | memoryview) -> None:
        """Hash what :meth:`append` wrote; in the same order, and all of it before :meth:`digest`."""
        self._hash.update(data)

    def _count(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.highest = max(self.highest, self.size)
        self._progress.advance(len(data))

    def write(self, data: bytes | memoryview) -> None:
        """Append and hash; E402 or E403 if that fails."""
        self.append(data)
        self._hash.update(data)

    def append(self, data: bytes | memoryview) -> None:
        """Append, and leave the hashing to the caller, who may do it in another thread; E402 or E403."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise write_error(error, self.path) from error
        self._count(data)

    def restart(self) -> None:
        """Go back to nothing."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._progress.advance(-self.size)
        self._hash = hashlib.sha256()
        self.size = 0

    def digest(self) -> str:
        """The digest of what is there."""
        return "sha256:" + self._hash.hexdigest()

    def drop(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def hold_partial(
    store: ContentStore, file: Wanted, progress: Progress, stop: threading.Event
) -> Iterator[Partial]:
    """What there is of the file, for this process alone; others are waited for.

    When they have finished it, the partial file is a new, empty one: look into the store first. Unless
    it was dropped or adopted, the file stays for the next attempt; an empty one does not. Raises
    :class:`Stopped`, E402, E403.
    """
    path = store.temporary_folder() / f"part-{hex_of(file.digest)}"
    try:
        descriptor = hold_file(path, stop)
    except OSError as error:
        raise write_error(error, path) from error
    try:
        part = Partial(path, descriptor, file, progress)
        try:
            yield part
        finally:
            if part.size == 0:
                part.drop()
    finally:
        os.close(descriptor)


def hold_file(path: Path, stop: threading.Event) -> int:
    """A descriptor of the file that is locked and still has that name; :class:`Stopped`, OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116 - beside fstat
                return descriptor
        except BlockingIOError:
            if stop.wait(TURN):
                os.close(descriptor)
                raise Stopped from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
