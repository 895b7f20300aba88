"""The content store: files named by their digest, and small results named by what they were made from.

::

    blobs/sha256/ab/abcdef…   content, read-only, complete or absent
    keys/KIND/ab/abcdef….json what an input key led to (JSON)
    tmp/                      files being written
    locks/                    one lock file per name

A blob appears under its final name only when it is complete and hashed: it is written in ``tmp`` and
renamed. So a killed process or a full disk leaves nothing but a file in ``tmp``.

A power failure may lose what did not reach the disk yet. ``commit`` waits for the disk, unless it is told
not to (``durable=False``): then the blob counts as checked in this process only, and
:meth:`ContentStore.sync` waits for all such blobs at once and sets their marks
(:mod:`afenv.store.marks`). A blob without its mark is hashed before :meth:`ContentStore.trusted` says yes,
whoever asks. So a file that a crash has left empty or torn is noticed, also when a key that names it has
survived; nothing depends on the order in which the disk wrote them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.store import marks
from afenv.store.failures import write_error
from afenv.store.placing import place
from afenv.store.writing import BlobWriter

__all__ = ["BlobWriter", "ContentStore", "write_error"]


class ContentStore:
    """The content store in one folder; see the module's text. Any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = str(folder / "blobs" / "sha256")
        self._keys = str(folder / "keys")
        self._pending: dict[str, tuple[int, int, int]] = {}  # hashed by this process, not synced yet
        self._pending_lock = threading.Lock()
        self._temporary: Path | None = None  # once it was made

    def temporary_folder(self) -> Path:
        """A folder on the store's own file system for files that are being written."""
        if self._temporary is None:
            folder = self.folder / "tmp"
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(error, folder) from error
            self._temporary = folder
        return self._temporary

    def path(self, digest: str) -> Path:
        """Where the blob lies, or would lie."""
        return Path(self._name(digest))

    def _name(self, digest: str) -> str:
        name = hex_of(digest)
        return f"{self._blobs}/{name[:2]}/{name}"

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here (with that size, where given). Its content is not read."""
        try:
            status = os.stat(self._name(digest))  # noqa: PTH116 - several hundred per build
        except (FileNotFoundError, NotADirectoryError):
            return False
        return size is None or status.st_size == size

    def trusted(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here with the content of its digest.

        That costs one ``stat`` if the file is unchanged since it was hashed; otherwise it is hashed.
        """
        name = self._name(digest)
        try:
            status = os.stat(name)  # noqa: PTH116 - several hundred per build
        except (FileNotFoundError, NotADirectoryError):
            return False
        if size is not None and status.st_size != size:
            return False
        if marks.is_marked(digest, status):
            marks.touch(name, digest, status)
            return True
        if self._pending.get(digest) == _identity(status):
            return True
        if not self.check(digest):
            return False
        marks.touch(name, digest, status)
        return True

    def check(self, digest: str) -> bool:
        """Whether the blob has the content of its digest, by hashing it; from then on it is trusted.

        This does not count as a use of the blob. E305 if it is here and cannot be read.
        """
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                if hashlib.file_digest(file, "sha256").hexdigest() != hex_of(digest):
                    return False
                if not marks.is_marked(digest, before):
                    os.fsync(file.fileno())
                if _identity(os.fstat(file.fileno())) == _identity(before):
                    marks.set_mark(path, digest, before, used=before.st_atime)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise AfenvError("E305", f"cannot read: {error.strerror}", place=str(path)) from error
        return True

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
    def writer(self, *, durable: bool = True) -> Iterator[BlobWriter]:
        """A new blob; it is dropped when the block ends without :meth:`BlobWriter.commit`.

        With ``durable=False`` the commit does not wait for the disk: call :meth:`sync` once after many.
        """
        writer = BlobWriter(self, durable=durable)
        try:
            yield writer
        finally:
            writer.discard()

    def put(self, data: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.trusted(digest, len(data)):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(digest)
        return digest

    def adopt(self, path: Path, digest: str, size: int, *, synced: bool = False) -> None:
        """Make a file of :meth:`temporary_folder`, which the caller has hashed, a blob.

        ``synced`` says that its content is on the disk; if not, :meth:`sync` is still to be called. A
        checked blob that is here already is left as it is, and the file is removed. E402, E403.
        """
        name = self._name(digest)
        try:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name)  # noqa: PTH116
                if status.st_size == size and marks.is_marked(digest, status):
                    path.unlink()
                    return
            os.chmod(path, 0o444)  # noqa: PTH101 - as above
            status = os.stat(path)  # noqa: PTH116
            if synced:
                marks.set_mark(path, digest, status)
            else:
                with self._pending_lock:
                    self._pending[digest] = _identity(status)
            try:
                os.replace(path, name)  # noqa: PTH105
            except FileNotFoundError:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(name)
        except OSError as error:
            raise write_error(error, path) from error

    def sync(self) -> None:
        """Wait until every blob of this store that was committed without waiting is on the disk."""
        with self._pending_lock:
            pending = dict(self._pending)
        if len(pending) <= 2:  # as after a change of the code
            for digest, identity in pending.items():
                self._sync_one(digest, identity)
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(self._sync_one, pending, pending.values()))
        with self._pending_lock:
            for digest, identity in pending.items():
                if self._pending.get(digest) == identity:
                    del self._pending[digest]

    def _sync_one(self, digest: str, identity: tuple[int, int, int]) -> None:
        name = self._name(digest)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # removed meanwhile
            return
        try:
            os.fsync(descriptor)
            status = os.fstat(descriptor)
            if _identity(status) == identity:
                marks.set_mark(name, digest, status)
        except OSError as error:
            raise write_error(error, Path(name)) from error
        finally:
            os.close(descriptor)

    def _key_path(self, kind: str, key: str) -> Path:
        return Path(self._key_name(kind, key))

    def _key_name(self, kind: str, key: str) -> str:
        name = hex_of(key)
        return f"{self._keys}/{kind}/{name[:2]}/{name}.json"

    def load_key(self, kind: str, key: str) -> Any | None:
        """What was saved under an input key (a digest); None if there is nothing or it is damaged."""
        path = self._key_name(kind, key)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - several hundred per build
                value = json.loads(file.read())
                if time.time() - os.fstat(file.fileno()).st_mtime > marks.DAY:
                    with contextlib.suppress(OSError):
                        os.utime(path)  # its last use, for pruning
        except (OSError, ValueError, RecursionError):
            return None
        return value

    def save_key(self, kind: str, key: str, value: Any) -> None:
        """Remember a JSON value under an input key."""
        path = self._key_path(kind, key)
        content = canonical.compact(value)
        temporary = self.temporary_folder() / f"key-{os.urandom(8).hex()}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o444)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise write_error(error, path) from error

    def link_or_copy(self, digest: str, target: Path) -> None:
        """Make ``target`` a file with the blob's content, a hard link if possible; E305, E402, E403.

        It is read-only like the blob itself; whoever changes it nevertheless is noticed
        (:meth:`trusted`). It appears complete or not at all, in the place of what was there.
        """
        source = self.path(digest)
        try:
            place(source, target)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not source.exists():
                raise AfenvError(
                    "E305", f"the content store lacks {digest}", place=str(self.folder)
                ) from None
            raise write_error(error, target) from error

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of that name among all processes that share the store."""
        with self._locked(name, fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Tell others that blobs of this store are needed, so that none is removed; may be nested."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(AfenvError):  # nobody can remove a thing where nobody can lock
                stack.enter_context(self._locked("in-use", fcntl.LOCK_SH))
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Have the store alone, to remove things; E407 if it is in use."""
        with self._locked("in-use", fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, operation: int) -> Iterator[None]:
        path = self.folder / "locks" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise write_error(error, path) from error
        with file:
            try:
                fcntl.flock(file, operation)
            except BlockingIOError:
                raise AfenvError("E407", "the cache is in use", place=str(self.folder)) from None
            except OSError as error:
                raise write_error(error, path) from error
            yield


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino
