"""What has to go along with files that were read: libraries that they need, and the rest of Python packages.

A trace sees one run. A library that is loaded on another way through a program, or a module that is imported
late, belongs to what was traced all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.tree import Snapshot
from afenv.errors import AfenvError
from afenv.facility.elf import libraries, read_elf

LARGEST = 512 << 20  # bytes of a file that is looked into
_PYTHON = (".py", ".pyc", ".so", ".pyi")
_LEFT_OUT = ("tests", "test")  # folders of a Python package that nobody imports


def close_over(snapshot: Snapshot, paths: Iterable[str]) -> set[str]:
    """The paths in the repository, with what belongs to them."""
    found = set(paths)
    waiting = sorted(found)
    packages: set[str] = set()
    while waiting:
        path = waiting.pop()
        for other in (*_python(snapshot, path, packages), *_libraries(snapshot, path)):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _entry(snapshot: Snapshot, path: str) -> tuple[str, Entry] | None:
    try:
        place = snapshot.resolve(path)
    except AfenvError as error:
        if error.code != "E142":
            raise
        return None
    return (place.path, place.entry) if place.entry.kind == "f" else None


def _python(snapshot: Snapshot, path: str, packages: set[str]) -> Iterator[str]:
    """The other files of the topmost Python package that a file is in."""
    if not path.endswith(_PYTHON):
        return
    top = None
    folder = path.rpartition("/")[0]
    if folder.endswith("/__pycache__"):
        folder = folder.rpartition("/")[0]
    while folder and _entry(snapshot, f"{folder}/__init__.py") is not None:
        top = folder
        folder = folder.rpartition("/")[0]
    if top is None or top in packages:
        return
    packages.add(top)
    for entry in snapshot.walk(top):
        inside = entry.path[len(top) + 1 :].split("/")
        if entry.kind in "fl" and not any(part in _LEFT_OUT for part in inside[:-1]):
            yield entry.path


def _libraries(snapshot: Snapshot, path: str) -> Iterator[str]:
    """The libraries that an ELF file names, where its own paths and its folder have them."""
    found = _entry(snapshot, path)
    if found is None or not 64 <= found[1].size <= LARGEST:
        return
    name = path.rpartition("/")[2]
    if ".so" not in name and not found[1].mode & 0o111:
        return
    pieces = snapshot.read(found[1])
    first = next(pieces, b"")
    if first[:4] != b"\x7fELF":
        return
    elf = read_elf(first + b"".join(pieces))
    if elf is None:
        return
    needed, searched = libraries(elf)
    origins = {path.rpartition("/")[0], found[0].rpartition("/")[0]}
    for origin in sorted(origins):
        folders = [origin]
        for one in searched:
            place = one.replace("$ORIGIN", snapshot.mount + origin).replace(
                "${ORIGIN}", snapshot.mount + origin
            )
            if place.startswith(snapshot.mount + "/"):
                folders.append(place[len(snapshot.mount) :])
        for library in needed:
            for folder in folders:
                if _entry(snapshot, f"{folder}/{library}") is not None:
                    yield _clean(f"{folder}/{library}")
                    break


def _clean(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
