"""The content store: files named by their digest, and small results named by what they were made from.

::

    blobs/sha256/ab/abcdef…   content, read-only, complete or absent
    keys/KIND/ab/abcdef….json what an input key led to (JSON)
    tmp/                      files being written
    locks/                    one lock file per name

A file appears under its final name only when it is complete: it is written in ``tmp``, synced, and
renamed. So a killed process or a full disk leaves nothing but a file in ``tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError


def write_error(error: OSError, path: Path) -> AfenvError:
    """The error that a user sees when ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AfenvError("E402", "no space left on the device", place=str(path))
    return AfenvError("E403", f"cannot write: {error.strerror}", place=str(path))


class BlobWriter:
    """A blob being written. :meth:`commit` makes it appear in the store; leaving without it drops it."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self.size = 0
        descriptor, name = tempfile.mkstemp(dir=store.temporary_folder(), prefix="blob-")
        self._path = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data``; E402 if the disk is full."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        count = len(view)
        self.size += count
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise write_error(error, self._path) from error
        return count

    def digest(self) -> str:
        """The digest of what was written so far."""
        return "sha256:" + self._hash.hexdigest()

    def commit(self, digest: str | None = None, size: int | None = None) -> str:
        """Put the blob into the store and return its digest.

        With ``digest`` or ``size``, the content must have them: else E301 or E302, and nothing is kept.
        """
        found = self.digest()
        if size is not None and size != self.size:
            raise AfenvError("E302", f"expected {size} bytes, found {self.size}")
        if digest is not None and digest != found:
            raise AfenvError("E301", f"expected {digest}, found {found}")
        try:
            os.fchmod(self._file.fileno(), 0o444)
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._store.path(found)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
        except OSError as error:
            raise write_error(error, self._path) from error
        return found

    def discard(self) -> None:
        """Drop what was written, unless it was committed."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class ContentStore:
    """The content store in one folder; see the module's text. Any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def temporary_folder(self) -> Path:
        """A folder on the store's own file system for files that are being written."""
        folder = self.folder / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, folder) from error
        return folder

    def path(self, digest: str) -> Path:
        """Where the blob lies, or would lie."""
        name = hex_of(digest)
        return self.folder / "blobs" / "sha256" / name[:2] / name

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here (with that size, where given). Its content is not read."""
        try:
            status = self.path(digest).stat()
        except FileNotFoundError:
            return False
        return size is None or status.st_size == size

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading; E305 if it is not here."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise AfenvError("E305", f"the content store lacks {digest}", place=str(self.folder)) from None

    def read(self, digest: str) -> bytes:
        """The whole content of a small blob, checked against its digest; E305 otherwise."""
        with self.open(digest) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != hex_of(digest):
            raise AfenvError("E305", f"{digest} has another content", place=str(self.path(digest)))
        return data

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """A new blob; it is dropped when the block ends without :meth:`BlobWriter.commit`."""
        writer = BlobWriter(self)
        try:
            yield writer
        finally:
            writer.discard()

    def put(self, data: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest, len(data)):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(digest)
        return digest

    def _key_path(self, kind: str, key: str) -> Path:
        name = hex_of(key)
        return self.folder / "keys" / kind / name[:2] / f"{name}.json"

    def load_key(self, kind: str, key: str) -> Any | None:
        """What was saved under an input key (a digest); None if there is nothing or it is damaged."""
        try:
            return json.loads(self._key_path(kind, key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def save_key(self, kind: str, key: str, value: Any) -> None:
        """Remember a JSON value under an input key."""
        path = self._key_path(kind, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.temporary_folder(), prefix="key-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(canonical.compact(value))
            Path(name).replace(path)
        except OSError as error:
            raise write_error(error, path) from error

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of that name among all processes that share the store."""
        folder = self.folder / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / name).open("wb")
        except OSError as error:
            raise write_error(error, folder) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
