"""A Debian binary package, read as a stream: the ``ar`` container and the two tar archives in it.

Sources of the format: deb(5); deb-control(5). No memory is taken that grows with the package: the
content passes in chunks of 1 MiB, and the archive's digest is computed from the same bytes.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NoReturn, Protocol

from isal import igzip_lib

from afenv.errors import AfenvError
from afenv.layers.deb_tar import TarMember, read_tar

__all__ = ["DebArchive", "TarMember", "open_deb"]

CHUNK = 1 << 20
MAX_CONTROL = 64 << 20  # bytes of the control archive, compressed or not
MAX_RATIO = 1000  # content larger than this multiple of its compressed form (and MIN_LIMIT) is refused
MIN_LIMIT = 64 << 20
DECODER_MEMORY = 512 << 20  # bytes that the xz or zstd decoder may take

_DAMAGED: tuple[type[Exception], ...] = (
    lzma.LZMAError,
    igzip_lib.error,  # type: ignore[assignment]  # its stub gives an instance
    OSError,
    EOFError,
    ValueError,
    MemoryError,
)
_MAGIC = b"!<arch>\n"
_HEADER = 60


class _Engine(Protocol):
    """What the decompressors of lzma, bz2 and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _engine_of(compression: str) -> Callable[[], _Engine]:
    if compression == ".xz":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_MEMORY)
    if compression == ".lzma":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=DECODER_MEMORY)
    if compression == ".bz2":
        from bz2 import BZ2Decompressor

        return BZ2Decompressor
    return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _inflate(make: Callable[[], _Engine], source: Iterator[bytes], place: str) -> Iterator[bytes]:
    """Decompress in chunks of at most 1 MiB; several streams in a row, with zero padding, count as one."""
    engine: _Engine | None = None
    for piece in source:
        data = piece
        while True:
            if engine is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                engine = make()
            try:
                out = engine.decompress(data, CHUNK)
            except _DAMAGED as error:
                _bad(place, f"the compressed content is damaged ({error})")
            if out:
                yield out
            if engine.eof:
                data = engine.unused_data
                engine = None
            elif engine.needs_input:
                break
            else:
                data = b""
    if engine is not None:
        _bad(place, "the compressed content ends in the middle")


class _Pieces:
    """An iterator of pieces as a file that the zstd reader reads."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return next(self._source, b"")


def _inflate_zstd(source: Iterator[bytes], place: str) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    reader = decoder.stream_reader(_Pieces(source), read_size=CHUNK, read_across_frames=True)  # type: ignore[arg-type]
    while True:
        try:
            out = reader.read(CHUNK)
        except zstandard.ZstdError as error:
            _bad(place, f"the compressed content is damaged ({error})")
        if not out:
            return
        yield out


def _bounded(chunks: Iterator[bytes], limit: int, place: str) -> Iterator[bytes]:
    for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            _bad(place, "the content is implausibly large for the size of the archive")
        yield chunk


def _bad(place: str, message: str) -> NoReturn:
    raise AfenvError("E303", message, place=place)


class DebArchive:
    """An open package: its control files, and then its members, once, in the order of the archive."""

    def __init__(self, file: BufferedReader, place: str, sha256: str | None) -> None:
        self._file = file
        self._place = place
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._taken = False
        self._open_data()

    # --- the ar container ---

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise AfenvError("E403", f"cannot read the package: {error}", place=self._place) from error
        self._hash.update(data)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) != size:
            _bad(self._place, "the package ends in the middle")
        return data

    def _header(self) -> tuple[str, int]:
        """Name and size of the next ``ar`` member."""
        header = self._exactly(_HEADER)
        size = header[48:58].rstrip(b" ")
        if header[58:] != b"`\n" or not size.isdigit():
            _bad(self._place, "the package is not a well-formed ar archive")
        return header[:16].rstrip(b" ").removesuffix(b"/").decode("ascii", "replace"), int(size)

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The ``size`` bytes of an ``ar`` member."""
        while size:
            data = self._exactly(min(size, CHUNK))
            size -= len(data)
            yield data

    def _open_data(self) -> None:
        """Read up to the content: version, control archive, and the header of the data archive."""
        place = self._place
        if self._read(len(_MAGIC)) != _MAGIC:
            _bad(place, "this is not a Debian package: it does not start as an ar archive does")
        name, size = self._header()
        if name != "debian-binary" or size > 4096:
            _bad(place, "this is not a Debian package: the first member is not debian-binary")
        if not (self._exactly(size + size % 2)).startswith(b"2."):
            _bad(place, "the package has a format version other than 2")
        control: dict[str, bytes] | None = None
        while True:
            name, size = self._header()
            if name.startswith("_"):  # deb(5): such members may stand before the control archive
                for _ in self._pieces(size + size % 2):
                    pass
            elif control is None:
                if not name.startswith("control.tar") or size > MAX_CONTROL:
                    _bad(place, f"expected the control archive, found {name!r} of {size} bytes")
                chunks = self._decompressed(name, "control.tar", size)
                control = {}
                for member in read_tar(_bounded(chunks, MAX_CONTROL, place), place):
                    if member.kind == "file":
                        control[member.path] = b"".join(member.chunks)
                if size % 2:
                    self._exactly(1)
            elif name.startswith("data.tar"):
                self._data_size = size
                self._data_name = name
                break
            else:
                _bad(place, f"expected the data archive, found {name!r}")
        if "control" not in control:
            _bad(place, "the package has no control file")
        self._control = control

    def _decompressed(self, name: str, stem: str, size: int) -> Iterator[bytes]:
        compression = name[len(stem) :]
        pieces = self._pieces(size)
        if compression == "":
            return pieces
        if compression == ".zst":
            return _inflate_zstd(pieces, self._place)
        if compression in (".xz", ".gz", ".bz2", ".lzma"):
            return _inflate(_engine_of(compression), pieces, self._place)
        _bad(self._place, f"the compression of {name!r} is not supported")

    # --- what it holds ---

    def control_files(self) -> dict[str, bytes]:
        """The files of the control archive by name: ``control``, ``md5sums``, ``postinst``, …"""
        return dict(self._control)

    def members(self) -> Iterator[TarMember]:
        """The members of the data archive; after the last one, the archive's digest has been checked.

        Raises E301, E303, E304. What was written before an error is to be thrown away.
        """
        if self._taken:
            raise ValueError("the members of a package can be read only once")
        self._taken = True
        chunks = self._decompressed(self._data_name, "data.tar", self._data_size)
        limit = max(self._data_size * MAX_RATIO, MIN_LIMIT)
        yield from read_tar(_bounded(chunks, limit, self._place), self._place)
        self.finish()

    def finish(self) -> None:
        """Read what is left of the archive and check its digest; E301 if it is not the expected one."""
        while self._read(CHUNK):
            pass
        if self._sha256 is not None and self._hash.hexdigest() != self._sha256:
            raise AfenvError(
                "E301",
                f"the package has sha256 {self._hash.hexdigest()}, the lock names {self._sha256}",
                place=self._place,
            )


@contextmanager
def open_deb(path: Path, *, sha256: str | None = None) -> Iterator[DebArchive]:
    """Open the package at ``path``; ``sha256`` (64 hexadecimal digits) is what its bytes must have.

    The digest is checked when the last member was read, and at the latest on leaving the context
    without an error. Raises E301 (digest), E303 (malformed), E304 (unsafe path), E403 (unreadable).
    Where the archive is both malformed and not the expected one, E301 is raised: that is the cause.
    """
    place = str(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise AfenvError("E403", f"cannot read the package: {error}", place=place) from error
    with file:
        archive: DebArchive | None = None
        try:
            archive = DebArchive(file, place, sha256)
            yield archive
            archive.finish()
        except AfenvError as error:
            if sha256 is not None and error.code in ("E303", "E304"):
                _check_whole(file, place, sha256)
            raise


def _check_whole(file: BufferedReader, place: str, sha256: str) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        message = f"the package has sha256 {found}, the lock names {sha256}"
        raise AfenvError("E301", message, place=place)
