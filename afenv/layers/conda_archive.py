"""Conda packages, read as streams: ``.conda`` and ``.tar.bz2``.

Sources of the formats: CEP 35 and conda's documentation of packages. A ``.conda`` file is a zip archive
of stored members: ``metadata.json``, and two tar archives under zstd, of which ``info-…`` holds the
metadata and ``pkg-…`` the content. A ``.tar.bz2`` file is one tar archive with both; the metadata lie
below ``info/``. The content passes in chunks; what is held is the metadata.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import mmap
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from afenv.errors import AfenvError
from afenv.layers.deb_tar import TarMember, read_tar
from afenv.layers.zip_archive import STORED, ZipArchive

CHUNK = 1 << 20
MAX_RATIO = 1000  # content larger than this multiple of its compressed form (and MIN_LIMIT) is refused
MIN_LIMIT = 64 << 20
MAX_INFO = 64 << 20  # bytes of one metadata file
WINDOW = 1 << 27  # bytes that the zstd decoder may look back; what `zstd --ultra -22` uses

# The metadata that decide what is installed.
DECISIVE = ("index.json", "paths.json", "link.json", "files", "has_prefix", "no_link")
_ENDS = (".conda", ".tar.bz2")


class CondaArchive:
    """An open package: its metadata files, then its members, once, in the order of the archive."""

    def __init__(self, data: memoryview, mapped: mmap.mmap, place: str, *, zipped: bool) -> None:
        self.place = place
        self._mapped = mapped
        self._zip: ZipArchive | None = None
        if zipped:
            self._zip = ZipArchive(data, place)
            self._check_format(self._zip)
        self._size = len(data)
        self._info: dict[str, bytes] | None = None

    def info(self) -> dict[str, bytes]:
        """The files of :data:`DECISIVE` that the package has, by their name below ``info/``.

        Raises E303 and E304.
        """
        if self._info is None:
            self._info = self._conda_info(self._zip) if self._zip else self._bz2_info()
            if "index.json" not in self._info:
                self.bad("the package has no info/index.json")
        return self._info

    def members(self) -> Iterator[TarMember]:
        """The members of the content; raises E303 and E304."""
        info = self.info()
        if self._zip:
            yield from self._tar(self._zip, "pkg-")
            return
        for member in self._bz2_members():
            if not member.path.startswith("info/"):
                if member.path != "info":
                    yield member
            elif member.path[5:] in DECISIVE and member.path[5:] not in info:
                self.bad(f"{member.path} comes after files of the content, which it decides about")

    def bad(self, message: str) -> NoReturn:
        """Raise E303."""
        raise AfenvError("E303", message, place=self.place)

    # --- .conda ---

    def _check_format(self, archive: ZipArchive) -> None:
        raw = archive.read("metadata.json") if "metadata.json" in archive.entries else None
        try:
            metadata = json.loads(raw or b"")
            version = metadata["conda_pkg_format_version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.bad("the package has no readable metadata.json")
        if version != 2:
            self.bad(f"the package is of format {version!r}, which is not known")

    def _tar(self, archive: ZipArchive, stem: str) -> Iterator[TarMember]:
        found = [
            entry
            for name, entry in archive.entries.items()
            if name.startswith(stem) and name.endswith(".tar.zst") and "/" not in name
        ]
        if len(found) != 1:
            self.bad(f"the package has {len(found)} members {stem}….tar.zst, and has to have one")
        entry = found[0]
        if entry.method != STORED:
            self.bad(f"{entry.name} is compressed twice")
        content = archive.content(entry)
        limit = max(len(content) * MAX_RATIO, MIN_LIMIT)
        yield from read_tar(self._bounded(_zstd(content, self.place), limit), self.place)

    def _conda_info(self, archive: ZipArchive) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for member in self._tar(archive, "info-"):
            name = member.path.removeprefix("info/")
            if name in DECISIVE and name != member.path:
                self._keep(found, name, member)
        return found

    # --- .tar.bz2 ---

    def _bz2_members(self) -> Iterator[TarMember]:
        self._mapped.seek(0)
        chunks = _bunzip2(cast(BinaryIO, self._mapped), self.place)
        yield from read_tar(self._bounded(chunks, max(self._size * MAX_RATIO, MIN_LIMIT)), self.place)

    def _bz2_info(self) -> dict[str, bytes]:
        """The metadata: conda writes them first, so that only the start of the archive is read."""
        found: dict[str, bytes] = {}
        for member in self._bz2_members():
            name = member.path.removeprefix("info/")
            if name == member.path:
                if "index.json" in found and "paths.json" in found and name != "info":
                    break
            elif name in DECISIVE:
                self._keep(found, name, member)
        return found

    def _keep(self, found: dict[str, bytes], name: str, member: TarMember) -> None:
        if member.kind != "file" or member.size > MAX_INFO or name in found:
            self.bad(f"{member.path} is not a plain file of a plausible size, or there twice")
        found[name] = b"".join(member.chunks)

    def _bounded(self, chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
        for chunk in chunks:
            limit -= len(chunk)
            if limit < 0:
                self.bad("the content is implausibly large for the size of the archive")
            yield chunk


def open_conda(path: Path, file_name: str, *, sha256: str | None = None) -> CondaArchive:
    """Open the package at ``path``, whose name in the channel is ``file_name``.

    ``sha256`` (64 hexadecimal digits) is what its bytes must have. Raises E301 (digest), E303
    (malformed) and E403 (unreadable).
    """
    if not file_name.endswith(_ENDS):
        raise AfenvError("E303", f"it is neither {' nor '.join(_ENDS)}", place=file_name)
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                raise AfenvError("E303", "the package is empty", place=file_name)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise AfenvError("E403", f"cannot read the package: {error}", place=str(path)) from error
    data = memoryview(mapped)
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            message = f"the package has sha256 {found}, the lock names {sha256}"
            raise AfenvError("E301", message, place=file_name)
    return CondaArchive(data, mapped, file_name, zipped=file_name.endswith(".conda"))


def _zstd(content: memoryview, place: str) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    reader = decoder.stream_reader(content, read_across_frames=True)
    while True:
        try:
            piece = reader.read(CHUNK)
        except (zstandard.ZstdError, MemoryError) as error:
            raise AfenvError("E303", f"the compressed content is damaged ({error})", place=place) from None
        if not piece:
            return
        yield piece


def _bunzip2(file: BinaryIO, place: str) -> Iterator[bytes]:
    reader = bz2.BZ2File(file)
    while True:
        try:
            piece = reader.read(CHUNK)
        except (OSError, EOFError, ValueError) as error:
            raise AfenvError("E303", f"the compressed content is damaged ({error})", place=place) from None
        if not piece:
            return
        yield piece


def all_chunks(member: TarMember) -> bytes:
    """The whole content of a member."""
    chunks = tuple(chain(member.chunks))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
