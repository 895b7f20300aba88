"""The files of a bag as they are sent: a tar or zip as it is, or all its parts with their index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from afenv.archive.parts import SUFFIX, read_parts_index
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record

ZENODO_BYTES = 50 * 10**9  # the default quota of a record; larger ones are granted
ZENODO_FILES = 100
_CHUNK = 1 << 20
PACK = "Write it in one file with `afenv archive -o BAG.zip`, with --part-size where it is large."


@record
class Sent:
    """A file that is to be sent: its name there, and its place, size in bytes, md5 and sha256 here."""

    name: str
    path: Path
    size: int
    md5: str = ""
    sha256: str = ""
    expected: str = ""


def bag_files(bag: Path) -> tuple[Sent, ...]:
    """The files of a bag, not read yet; E740 for a folder or a bag in an OCFL store, E730 for a lost part."""
    if "#" in bag.name and not bag.exists():
        raise AfenvError("E740", "a bag in an OCFL store is many files", place=str(bag), remedy=PACK)
    if bag.is_dir():
        raise AfenvError("E740", "this bag is a folder", place=str(bag), remedy=PACK)
    beside = bag.with_name(bag.name + SUFFIX)
    if not bag.exists() and beside.is_file():
        bag = beside
    if not bag.name.endswith(SUFFIX):
        return (Sent(name=bag.name, path=bag, size=_size(bag, None)),)
    index = read_parts_index(bag)
    parts = [
        Sent(name=name, path=bag.with_name(name), size=_size(bag.with_name(name), size), expected=sha256)
        for name, size, sha256 in index.parts
    ]
    return (*parts, Sent(name=bag.name, path=bag, size=_size(bag, None)))


def _size(path: Path, expected: int | None) -> int:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        code = "E001" if expected is None else "E730"
        raise AfenvError(code, "there is no such file", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    if expected is not None and size != expected:
        raise AfenvError("E730", f"it has {size} bytes, its index says {expected}", place=str(path))
    return size


def digested(file: Sent, progress: Progress | None = None) -> Sent:
    """The file with its digests, read once; E721 if a part is another than its index says."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with file.path.open("rb") as opened:
            while data := opened.read(_CHUNK):
                md5.update(data)
                sha256.update(data)
                if progress is not None:
                    progress.advance(len(data))
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(file.path)) from None
    if file.expected and sha256.hexdigest() != file.expected:
        raise AfenvError("E721", "this part has another content than was written", place=str(file.path))
    return Sent(
        name=file.name,
        path=file.path,
        size=file.size,
        md5=md5.hexdigest(),
        sha256=sha256.hexdigest(),
        expected=file.expected,
    )


def check_zenodo(files: Sequence[Sent], place: str) -> None:
    """E741 if Zenodo takes no record with these files."""
    total = sum(file.size for file in files)
    if total > ZENODO_BYTES:
        raise AfenvError(
            "E741",
            f"Zenodo takes at most 50 GB in a record, these are {total / 1e9:.1f} GB",
            place=place,
        )
    if len(files) > ZENODO_FILES:
        raise AfenvError(
            "E741",
            f"Zenodo takes at most {ZENODO_FILES} files in a record, these are {len(files)}",
            place=place,
        )
