"""One blob on its way into the content store."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

from afenv.errors import AfenvError
from afenv.store.failures import write_error

if TYPE_CHECKING:
    from afenv.store.content import ContentStore


class BlobWriter:
    """A blob being written. :meth:`commit` makes it appear in the store; leaving without it drops it."""

    def __init__(self, store: ContentStore, *, durable: bool = True) -> None:
        self._store = store
        self._durable = durable
        self._hash = hashlib.sha256()
        self.size = 0
        self._path = store.temporary_folder() / f"blob-{os.urandom(8).hex()}"
        try:
            self._file: BinaryIO = self._path.open("xb", buffering=0)
        except OSError as error:
            raise write_error(error, self._path) from error

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
            if self._durable:
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise write_error(error, self._path) from error
        self._store.adopt(self._path, found, self.size, synced=self._durable)
        return found

    def discard(self) -> None:
        """Drop what was written, unless it was committed."""
        with contextlib.suppress(OSError):
            self._file.close()
            self._path.unlink(missing_ok=True)
