"""Listings of what is embedded: one canonical text for each part, with the digest of every file's content.

A part is the folder of a package, or else the folder that has a catalogue of its own. Which part a path is in
depends on the repository alone, so that environments that embed the same package have the same part.

A listing has a line for each path, sorted: a JSON array ``[path, kind, mode, mtime, size, sha256, crc32,
target, object]``. Paths are absolute; ``kind`` is ``d``, ``f`` or ``l``; ``mode`` is a number that lets
everybody read what the owner may; ``object`` is the digest of the file's object, empty where it is in chunks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.closure import package_of
from afenv.cvmfs.tree import Content, Snapshot
from afenv.documents.cvmfs import LockedCvmfsPart
from afenv.errors import AfenvError
from afenv.store.content import ContentStore

_line = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
READERS = 8  # objects that are asked for at once


class Listed(NamedTuple):
    """One path of a part."""

    path: str
    kind: str
    mode: int
    mtime: int
    size: int = 0
    sha256: str = ""
    crc32: int = 0
    target: str = ""
    object: str = ""


def part_of(snapshot: Snapshot, path: str) -> str:
    """The part that a path in the repository is in."""
    package = package_of(path)
    if package is not None:
        return package
    return snapshot.catalogue_folder(path)


def _mode(mode: int) -> int:
    """What everybody may do who is not the owner: the same, but for writing."""
    owner = mode >> 6 & 0o5
    return (mode & 0o777) | owner << 3 | owner


def divide(snapshot: Snapshot, entries: Mapping[str, Entry]) -> dict[str, list[Entry]]:
    """The entries by the part that they are in, both sorted."""
    found: dict[str, list[Entry]] = {}
    for path in sorted(entries):
        found.setdefault(part_of(snapshot, path), []).append(entries[path])
    return dict(sorted(found.items()))


def list_parts(
    snapshot: Snapshot,
    entries: Mapping[str, Entry],
    store: ContentStore,
    *,
    done: Callable[[int], object] = lambda _: None,
) -> tuple[LockedCvmfsPart, ...]:
    """The parts of what is embedded, each with its listing, which is put into the store.

    Every file is read for that, and its objects are in the store afterwards. ``done`` hears of bytes.
    """
    divided = divide(snapshot, entries)
    files = [entry for part in divided.values() for entry in part if entry.kind == "f"]

    def read(entry: Entry) -> Content:
        content = snapshot.content(entry)
        done(entry.size)
        return content

    pool = ThreadPoolExecutor(READERS, thread_name_prefix="cvmfs")
    try:
        contents = dict(zip((entry.path for entry in files), pool.map(read, files), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    parts = []
    for path, inside in divided.items():
        lines = [_listed(snapshot.mount, entry, contents.get(entry.path)) for entry in inside]
        sizes = [line.size for line in lines if line.kind == "f"]
        listing = put_listing(store, lines)
        parts.append(
            LockedCvmfsPart(path=snapshot.mount + path, files=len(sizes), size=sum(sizes), listing=listing)
        )
    return tuple(parts)


def _listed(mount: str, entry: Entry, content: Content | None) -> Listed:
    path = mount + entry.path
    if entry.kind == "d":
        return Listed(path, "d", _mode(entry.mode), entry.mtime)
    if entry.kind == "l":
        return Listed(path, "l", 0o777, entry.mtime, target=entry.target)
    assert content is not None
    return Listed(
        path,
        "f",
        _mode(entry.mode),
        entry.mtime,
        entry.size,
        content.sha256,
        content.crc32,
        object=str(entry.hash) if entry.hash else "",
    )


def encode(lines: Iterable[Listed]) -> bytes:
    """The canonical text of a listing."""
    return "".join(_line(list(line)) + "\n" for line in lines).encode()


def put_listing(store: ContentStore, lines: Iterable[Listed]) -> str:
    """Put a listing into the store; the digest of its text."""
    return store.put(encode(lines))


def read_listing(store: ContentStore, digest: str) -> list[Listed]:
    """A listing of the store; E305 if it is not there or not what its digest says."""
    return [Listed(*json.loads(line)) for line in store.read(digest).splitlines()]


def check_parts(wanted: tuple[LockedCvmfsPart, ...], found: tuple[LockedCvmfsPart, ...], path: str) -> None:
    """E317 unless what is found is what is locked."""
    if wanted == found:
        return
    known = {part.path: part for part in found}
    for part in wanted:
        if known.get(part.path) != part:
            raise AfenvError("E317", f"{part.path}, embedded with {path}, is not what the lock names")
    raise AfenvError("E317", f"more would be embedded with {path} than the lock names")
