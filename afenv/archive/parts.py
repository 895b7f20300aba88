"""One file in several parts, each below a size, with an index that says what is where.

The parts are the file cut into pieces: ``cat NAME.0* > NAME`` puts it together without afenv. The index,
``NAME.parts.json``, is written last; it has the digest of each part, and where each member's content is, so
that some files can be had from the parts that hold them while the others are elsewhere.
"""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.archive.names import FILES, check_path
from afenv.errors import AfenvError
from afenv.record import record

VERSION = 1
SUFFIX = ".parts.json"
LIMIT = 1 << 30  # bytes of an index
SYNCED = 32 << 20  # bytes after which the disk is given what was written


@record
class PartsIndex:
    """What is in the parts: ``parts`` are (name, size, sha256), ``members`` (path, offset, size)."""

    name: str
    form: str
    parts: tuple[tuple[str, int, str], ...]
    members: tuple[tuple[str, int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(size for _, size, _ in self.parts)

    def dump(self) -> bytes:
        """The bytes of the index."""
        return canonical.indented(
            {
                "afenv-archive-parts": VERSION,
                "name": self.name,
                "form": self.form,
                "parts": [{"name": name, "size": size, "sha256": sha} for name, size, sha in self.parts],
                "members": [{"path": path, "offset": at, "size": size} for path, at, size in self.members],
            }
        )


def part_name(name: str, number: int) -> str:
    """The name of a part, counted from 1."""
    return f"{name}.{number:03d}"


def read_parts_index(path: Path) -> PartsIndex:
    """The index of parts; E726 if it is newer, E727 if it is damaged."""
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("it is too large")
        value = json.loads(path.read_bytes())
        version = value["afenv-archive-parts"]
        if isinstance(version, int) and version > VERSION:
            raise AfenvError("E726", f"the parts have format version {version}", place=str(path))
        if version != VERSION or value["form"] not in ("tar", "zip"):
            raise ValueError("its form is not known")
        index = PartsIndex(
            name=str(value["name"]),
            form=str(value["form"]),
            parts=tuple(
                (_name(one["name"]), _count(one["size"]), str(one["sha256"])) for one in value["parts"]
            ),
            members=tuple(
                (check_path(str(one["path"]), str(path)), _count(one["offset"]), _count(one["size"]))
                for one in value["members"]
            ),
        )
        if len(index.members) > FILES or not index.parts:
            raise ValueError("it has no parts, or too many files")
        if any(offset + size > index.size for _, offset, size in index.members):
            raise ValueError("a file lies beyond the parts")
    except FileNotFoundError:
        raise AfenvError("E001", "there is no such file", place=str(path)) from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise AfenvError("E727", f"the index of the parts is damaged: {error}", place=str(path)) from None
    return index


def _name(value: Any) -> str:
    if not isinstance(value, str) or "/" in value or value in ("", ".", "..") or "\0" in value:
        raise ValueError(f"{value!r} is no name of a part")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no size")
    return value


class JoinedFile(io.RawIOBase):
    """The parts as one file; a part is opened when something of it is read, and E730 if it is not there."""

    def __init__(self, folder: Path, parts: Sequence[tuple[str, int, str]]) -> None:
        self._folder = folder
        self._parts = parts
        self._starts = [0]
        for _, size, _ in parts:
            self._starts.append(self._starts[-1] + size)
        self._at = 0
        self._open: tuple[int, BinaryIO] | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position."""
        base = {0: 0, 1: self._at, 2: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Bytes from the part at hand; 0 at the end."""
        if self._at >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._at) - 1
        file = self._part(number)
        file.seek(self._at - self._starts[number])
        view = memoryview(buffer)[: self._starts[number + 1] - self._at]
        count: int = file.readinto(view)  # type: ignore[attr-defined]
        if not count and view:
            name = self._parts[number][0]
            raise AfenvError(
                "E730", "this part is shorter than its index says", place=str(self._folder / name)
            )
        self._at += count
        return count

    def _part(self, number: int) -> BinaryIO:
        if self._open is not None and self._open[0] == number:
            return self._open[1]
        self._drop()
        path = self._folder / self._parts[number][0]
        try:
            self._open = number, path.open("rb")
        except OSError as error:
            raise AfenvError("E730", f"this part cannot be read: {error.strerror}", place=str(path)) from None
        return self._open[1]

    def _drop(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        """Close the part that is open."""
        self._drop()
        super().close()


class SplitWriter:
    """Writes a stream as parts of at most ``limit`` bytes into a folder, or as one file with no limit.

    :meth:`finish` gives (name, size, sha256) of each. The disk works while the stream is still being made: a
    thread sends it what was written, all along, so that the end has little to wait for.
    """

    def __init__(self, folder: Path, name: str, limit: int | None) -> None:
        self._folder, self._name, self._limit = folder, name, limit
        self._file: BinaryIO | None = None
        self._room = 0
        self._hash: Any = None
        self._pool = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None
        self._unsynced = 0
        self.parts: list[tuple[str, int, str]] = []

    def write(self, data: bytes) -> None:
        """Go on with some bytes."""
        view = memoryview(data)
        while view:
            if self._file is None or (self._limit is not None and not self._room):
                self._next()
            assert self._file is not None
            piece = view if self._limit is None else view[: self._room]
            self._file.write(piece)
            if self._hash is not None:
                self._hash.update(piece)
            self._room -= len(piece)
            self._unsynced += len(piece)
            view = view[len(piece) :]
        if self._unsynced > SYNCED and (self._syncing is None or self._syncing.done()):
            assert self._file is not None
            self._syncing = self._pool.submit(os.fdatasync, self._file.fileno())
            self._unsynced = 0

    def _next(self) -> None:
        import hashlib

        self.finish()
        name = self._name if self._limit is None else part_name(self._name, len(self.parts) + 1)
        self._file = (self._folder / name).open("xb")
        self.parts.append((name, 0, ""))
        if self._limit is not None:
            self._room = self._limit
            self._hash = hashlib.sha256()

    def finish(self) -> list[tuple[str, int, str]]:
        """Close the part at hand; all parts so far."""
        if self._file is not None:
            if self._syncing is not None:
                self._syncing.result()
                self._syncing = None
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            self._file = None
            name = self.parts[-1][0]
            self.parts[-1] = (name, size, self._hash.hexdigest() if self._hash is not None else "")
        return self.parts

    def abandon(self) -> None:
        """Close what is open, whatever it is."""
        self._pool.shutdown(wait=True)
        if self._file is not None:
            self._file.close()
            self._file = None
