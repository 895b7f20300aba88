"""Where the blobs of an image that is read lie: in a folder, or in place inside a tar archive."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from afenv.digest import hex_of
from afenv.errors import AfenvError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
BUFFER = 1 << 17  # bytes; for those who read a little at a time

_SKIPPED = b"\x2a\x4d\x18"  # in the magic number of a zstd frame without content
_LONGEST_HEADER = 18  # bytes, of a zstd frame
_CUT = "it ends inside a frame of zstd"


def decompressed(file: BinaryIO, *, buffered: bool = True) -> BinaryIO:
    """The content of a gzip (any number of members), zstd (any number of frames) or plain stream.

    The first bytes decide, not a media type. ``file`` must be seekable. Whoever reads large pieces only is
    better off without another buffer in between.
    """
    start = file.read(4)
    file.seek(-len(start), os.SEEK_CUR)
    if start.startswith(GZIP):
        from isal import igzip

        gzip: Any = igzip.IGzipFile(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
        return io.BufferedReader(gzip, BUFFER) if buffered else gzip
    if start == ZSTD:
        zstd: Any = _Zstd(file)
        return io.BufferedReader(zstd, BUFFER) if buffered else zstd
    return file


class _Zstd(io.RawIOBase):
    """The content of a zstd stream; EOFError where it is cut off, which the decoder passes over."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file = file
        self._start = file.tell()
        self._reader: Any = zstandard.ZstdDecompressor().stream_reader(
            file, read_across_frames=True, closefd=False
        )

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._reader.read(size)
        if not data and size:
            self._check_end()
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self._reader.readinto(buffer)
        if not count and len(buffer):
            self._check_end()
        return count

    def _check_end(self) -> None:
        end, at = self._file.seek(0, os.SEEK_END), self._start
        while at < end:
            at = _frame_end(self._file, at)
        if at > end:
            raise EOFError(_CUT)


def _frame_end(file: BinaryIO, at: int) -> int:
    """Where the zstd frame ends that begins at ``at`` (RFC 8878, 3.1.1); nothing of it is inflated."""
    import zstandard

    file.seek(at)
    head = file.read(_LONGEST_HEADER)
    if head[1:4] == _SKIPPED:
        return at + 8 + int.from_bytes(head[4:8], "little")
    at += zstandard.frame_header_size(head)
    last = False
    while not last:
        file.seek(at)
        field = file.read(3)
        if len(field) < 3:
            raise EOFError(_CUT)
        block = int.from_bytes(field, "little")
        last, is_repeated_byte = bool(block & 1), block >> 1 & 3 == 1
        at += 3 + (1 if is_repeated_byte else block >> 3)
    return at + (4 if head[4] & 4 else 0)  # the checksum


def read_to_end(stream: BinaryIO) -> None:
    """Read what follows a tar, which is padding, so that the checksums of the stream are checked."""
    while stream.read(BUFFER):
        pass


def stream_errors() -> tuple[type[Exception], ...]:
    """What reading a tar from a damaged stream of :func:`decompressed` raises.

    Of these, ``tarfile`` raises ValueError and IndexError for the maps of sparse files, and RecursionError
    for extended headers in a row.
    """
    import tarfile
    import zlib

    import zstandard
    from isal import igzip_lib

    damaged: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
    of_tar = (tarfile.TarError, ValueError, IndexError, RecursionError)
    return (*of_tar, EOFError, OSError, zlib.error, damaged, zstandard.ZstdError)


class FolderBlobs:
    """The blobs of a layout folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob lies, or would lie."""
        return self.folder / "blobs" / "sha256" / hex_of(digest)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here (with that size, where given)."""
        try:
            return size in (None, self.path(digest).stat().st_size)
        except OSError:
            return False

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading; E301 if it is not here."""
        try:
            return self.path(digest).open("rb")
        except OSError:
            raise AfenvError("E301", f"the layout lacks the blob {digest}", place=str(self.folder)) from None


class _Slice(io.RawIOBase):
    """Part of a file, read by position, so that many may be open at once."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._descriptor, [view], self._start + self._at) if view else 0
        self._at += count
        return count


class ArchiveBlobs:
    """The files of a tar archive, by path; and by digest, once :meth:`name_digest` has told it.

    ValueError if it is no tar archive.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        import tarfile

        self._file = file
        self._archive = path
        self._members: dict[str, tuple[int, int]] = {}
        self._paths: dict[str, str] = {}
        links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                members = list(tar)
        except (tarfile.TarError, IndexError, RecursionError) as error:
            raise ValueError(str(error)) from None
        for member in members:
            name = _normal(member.name)
            if member.isreg():
                self._members[name] = (member.offset_data, member.size)
                parts = name.split("/")
                if len(parts) == 3 and parts[:2] == ["blobs", "sha256"]:
                    self._paths[f"sha256:{parts[2]}"] = name
            elif member.issym():
                links[name] = _normal(str(PurePosixPath(name).parent / member.linkname))
            elif member.islnk():
                links[name] = _normal(member.linkname)
        for name, target in links.items():
            if target in self._members:
                self._members[name] = self._members[target]

    def open_path(self, name: str) -> BinaryIO:
        """The file at a path in the archive; E301 if there is none."""
        try:
            start, size = self._members[_normal(name)]
        except KeyError:
            raise AfenvError("E301", f"the archive lacks {name}", place=str(self._archive)) from None
        return io.BufferedReader(_Slice(self._file.fileno(), start, size), BUFFER)

    def has_path(self, name: str) -> bool:
        """Whether there is a file at that path."""
        return name in self._members

    def size_of(self, name: str) -> int:
        """The size of a file in the archive, in bytes."""
        return self._members[_normal(name)][1]

    def name_digest(self, digest: str, name: str) -> None:
        """Say that the file at ``name`` is known by ``digest``."""
        self._paths[digest] = _normal(name)

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading; E301 if it is not here."""
        return self.open_path(self._paths.get(digest, "blobs/sha256/" + hex_of(digest)))


def _normal(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
