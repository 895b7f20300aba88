"""Reading bags, whatever they are: a folder, a tar or zip, parts of one, or a bag in an OCFL store.

Nothing is unpacked, and nothing is believed: names that lead outside, links, compressed members and
directories that lie about sizes are refused (E725). So what is read is never more than what is on the disk.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from afenv.archive.names import DECLARATION, FILES, check_path
from afenv.archive.parts import SUFFIX, JoinedFile, PartsIndex, read_parts_index
from afenv.errors import AfenvError

if TYPE_CHECKING:
    from afenv.archive.ocfl import OcflBag


class BagSource(Protocol):
    """A bag that is open for reading. Paths are those inside the bag."""

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        ...  # pragma: no cover

    @property
    def files(self) -> Mapping[str, int]:
        """Size of each file, by path."""
        ...  # pragma: no cover

    def open(self, path: str) -> BinaryIO:
        """A file; E722 if there is none. Any number may be open, in any thread."""
        ...  # pragma: no cover


class FolderBag:
    """A bag that is a folder."""

    form = "folder"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)
        self.files: dict[str, int] = {}
        self._walk("")

    def _walk(self, prefix: str) -> None:
        try:
            with os.scandir(self.folder / prefix) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            for entry in entries:
                path = prefix + entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    self._walk(path + "/")
                elif stat.S_ISREG(status.st_mode):
                    self.files[check_path(path, self.place)] = status.st_size
                else:
                    kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
                    raise AfenvError("E725", f"{path} is {kind}", place=self.place)
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(error.filename)) from None

    def open(self, path: str) -> BinaryIO:
        """As :meth:`BagSource.open`."""
        if path not in self.files:
            raise AfenvError("E722", f"the bag lacks {path}", place=self.place)
        try:
            return (self.folder / path).open("rb")
        except OSError as error:
            raise AfenvError("E721", f"{path} cannot be read: {error.strerror}", place=self.place) from None

    def file(self, path: str) -> Path:
        """Where a file lies."""
        return self.folder / path


class _Window(io.RawIOBase):
    """A member of an archive, read through a way to the archive of its own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._at, 2: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        if not view:
            return 0
        self._file.seek(self._start + self._at)
        count: int = self._file.readinto(view)  # type: ignore[attr-defined]
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class FileBag:
    """A bag that is one file, or parts of one. ``members`` are (path, offset, size) in their order.

    ``name`` is the one folder that all members are in; ``whole`` opens the file, parts put together.
    """

    def __init__(
        self,
        place: str,
        form: str,
        members: list[tuple[str, int, int]],
        name: str,
        paths: tuple[Path, ...],
        parts: PartsIndex | None = None,
    ) -> None:
        self.place, self.form, self.members, self.name = place, form, members, name
        self.paths, self.parts = paths, parts
        self.files = {path: size for path, _, size in members}
        self._at = {path: (offset, size) for path, offset, size in members}
        if len(self.files) != len(members):
            raise AfenvError("E725", "it has two files of one name", place=place)

    def whole(self) -> BinaryIO:
        """The whole file; parts as one."""
        if self.parts is None:
            return self.paths[0].open("rb")
        joined = JoinedFile(self.paths[0].parent, self.parts.parts)
        return io.BufferedReader(joined, 1 << 20)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.parts.size if self.parts is not None else self.paths[0].stat().st_size

    def open(self, path: str) -> BinaryIO:
        """As :meth:`BagSource.open`; E730 if it is in a part that is not here."""
        try:
            start, size = self._at[path]
        except KeyError:
            raise AfenvError("E722", f"the bag lacks {path}", place=self.place) from None
        return io.BufferedReader(_Window(self.whole(), start, size), 1 << 17)


@contextmanager
def open_bag(path: Path) -> Iterator[FolderBag | FileBag | OcflBag]:
    """The bag at a path: a folder, ``.tar``, ``.zip``, index of parts, or ``ROOT#NAME`` in an OCFL store.

    E001 if there is nothing, E720 if it is no bag, E725 for what is not safe, E727 and E730 for parts.
    """
    yield _open(path)


def is_bag_name(path: Path) -> bool:
    """Whether a path, which need not be that of a file, names a bag: also its parts, or one in a store."""
    if is_bag(path):
        return True
    if not path.name:  # "." and "/"
        return False
    return path.with_name(path.name + SUFFIX).is_file() or "#" in path.name


def is_bag(path: Path) -> bool:
    """Whether what lies at a path looks like a bag, as opposed to an image; its content is hardly read."""
    if path.is_dir():
        return (path / DECLARATION).is_file()
    if path.name.endswith(SUFFIX):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    if start.startswith(b"PK\x03\x04"):
        return True
    name = start[:100].split(b"\0")[0]
    return start[257:262] == b"ustar" and name.endswith(f"/{DECLARATION}".encode())


def _open(path: Path) -> FolderBag | FileBag | OcflBag:
    if "#" in path.name and not path.exists():
        from afenv.archive.ocfl import OcflBag

        root, _, name = path.name.partition("#")
        return OcflBag(path.with_name(root), name)
    if path.is_dir():
        if not (path / DECLARATION).is_file():
            raise AfenvError("E720", f"this folder has no {DECLARATION}", place=str(path))
        return FolderBag(path)
    beside = path.with_name(path.name + SUFFIX)
    if not path.exists() and beside.is_file():
        path = beside
    if path.name.endswith(SUFFIX):
        index = read_parts_index(path)
        paths = (path, *(path.parent / name for name, _, _ in index.parts))
        return FileBag(str(path), index.form, list(index.members), index.name, paths, index)
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(0)
            if start.startswith(b"PK\x03\x04"):
                form, found = "zip", _zip_members(file, str(path))
            elif start[257:262] == b"ustar":
                form, found = "tar", _tar_members(file, str(path))
            else:
                raise AfenvError("E720", "this is neither a folder, nor tar, nor zip", place=str(path))
    except FileNotFoundError:
        raise AfenvError("E001", "there is no such file or folder", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    name, members = _inside(found, str(path))
    return FileBag(str(path), form, members, name, (path,))


def _inside(found: list[tuple[str, int, int]], place: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The one folder that everything is in, and the members with paths below it."""
    tops = {path.partition("/")[0] for path, _, _ in found}
    declared = [path for path, _, _ in found if path.count("/") == 1 and path.endswith(f"/{DECLARATION}")]
    if len(tops) != 1 or len(declared) != 1:
        raise AfenvError("E720", "a bag in a file is one folder with a bagit.txt; this is not", place=place)
    (top,) = tops
    return top, [(path[len(top) + 1 :], offset, size) for path, offset, size in found]


def _tar_members(file: BinaryIO, place: str) -> list[tuple[str, int, int]]:
    found = []
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # not kept: memory stays bounded
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    kind = "a link" if member.islnk() or member.issym() else "no regular file"
                    raise AfenvError("E725", f"{member.name!r} is {kind}", place=place)
                check_path(member.name, place)
                if member.size < 0 or member.offset_data + member.size > end:
                    raise AfenvError("E724", f"{member.name} ends beyond the file: it was cut", place=place)
                found.append((member.name, member.offset_data, member.size))
                if len(found) > FILES:
                    raise AfenvError("E725", f"it has more than {FILES:,} files", place=place)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise AfenvError("E724", f"the tar is damaged: {error}", place=place) from None
    return found


def _zip_members(file: BinaryIO, place: str) -> list[tuple[str, int, int]]:
    end = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError) as error:
        raise AfenvError("E724", f"the zip is damaged: {error}", place=place) from None
    except (UnicodeDecodeError, OverflowError, MemoryError) as error:  # pragma: no cover
        raise AfenvError("E724", f"the zip is damaged: {error}", place=place) from None
    if len(entries) > FILES:
        raise AfenvError("E725", f"it has more than {FILES:,} files", place=place)
    found = []
    for entry in entries:
        name = entry.orig_filename
        if name.endswith("/") and not entry.file_size:
            continue
        check_path(name, place)
        mode = entry.external_attr >> 16
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
            raise AfenvError("E725", f"{name!r} is a link or no regular file", place=place)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise AfenvError("E725", f"{name!r} is compressed or encrypted", place=place)
        if entry.compress_size != entry.file_size:
            raise AfenvError("E724", f"{name!r} has two sizes", place=place)
        file.seek(entry.header_offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise AfenvError("E724", f"the header of {name} is damaged", place=place)
        start = entry.header_offset + 30 + int.from_bytes(head[26:28], "little")
        start += int.from_bytes(head[28:30], "little")
        if start + entry.file_size > end:
            raise AfenvError("E724", f"{name} ends beyond the file: it was cut", place=place)
        found.append((name, start, entry.file_size))
    found.sort(key=lambda one: one[1])
    for (name, start, size), (other, after, _) in pairwise(found):
        if start + size > after:
            raise AfenvError("E725", f"{name!r} and {other!r} share bytes", place=place)
    return found
