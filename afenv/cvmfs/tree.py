"""The files of one revision: found, listed, followed through links, and read.

Paths are those in the repository: they begin with a slash, and the root is empty. Links may be absolute
below ``/cvmfs/NAME`` and may hold variables, ``$(NAME)`` or ``$(NAME:-default)``: what a client without that
variable shows is taken, so that one root hash means one tree.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import threading
from collections.abc import Iterator
from typing import NamedTuple

from afenv.cvmfs.catalogue import Catalogue, Entry, Nested
from afenv.cvmfs.hashes import ObjectHash
from afenv.cvmfs.strata import Strata
from afenv.errors import AfenvError

LINKS = 40  # that are followed for one path, as Linux does
_PIECE = 1 << 20  # bytes of content that are handed on at once
DEPTH = 64  # catalogues within catalogues
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)(?::-([^)]*))?\)")


def expanded(target: str) -> str:
    """The target of a link as a client shows it that has none of the variables."""
    return _VARIABLE.sub(lambda match: match[2] or "", target) if "$(" in target else target


class Content(NamedTuple):
    """A file's content as it was read: its SHA-256, and its CRC-32."""

    sha256: str
    crc32: int


class Place(NamedTuple):
    """Where a path leads: the real path and its entry, and the links that were followed."""

    path: str
    entry: Entry
    links: tuple[str, ...]


class Outside(AfenvError):
    """A path that leads out of the repository; ``target`` is where, as an absolute path."""

    def __init__(self, message: str, place: str, target: str) -> None:
        super().__init__("E142", message, place=place)
        self.target = target


class Snapshot:
    """One revision of a repository; safe to use from many threads."""

    def __init__(self, repository: str, root: ObjectHash, strata: Strata) -> None:
        self.repository = repository
        self.root = root
        self._strata = strata
        self._open: dict[str, Catalogue] = {}
        self._nested: dict[str, dict[str, Nested]] = {}
        self._lock = threading.RLock()

    @property
    def mount(self) -> str:
        """Where a client mounts the repository."""
        return f"/cvmfs/{self.repository}"

    def inside(self, path: str) -> str:
        """A path below ``/cvmfs`` as the path in the repository; E142 for one of another repository."""
        clean = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
        if ".." in clean.split("/") or not (clean + "/").startswith(self.mount + "/"):
            raise Outside(f"{path} is not in {self.repository}", path, clean)
        return clean[len(self.mount) :]

    def catalogue(self, prefix: str = "", *, depth: int = 0) -> Catalogue:
        """The catalogue of a folder that has one of its own."""
        with self._lock:
            known = self._open.get(prefix)
            if known is None:
                if prefix == "":
                    known = self._load("", self.root, 0)
                else:
                    raise AfenvError("E313", f"{self.mount}{prefix} has no catalogue")
            return known

    def _load(self, prefix: str, wanted: ObjectHash, size: int) -> Catalogue:
        what = f"the catalogue of {self.mount}{prefix}"
        path = self._strata.inflated(wanted, "C", what, size)
        found = Catalogue(path, prefix, f"{self.repository}, {wanted.path('C')}")
        self._open[prefix] = found
        self._nested[prefix] = {one.path: one for one in found.nested()}
        return found

    def _catalogue_of(self, path: str, *, inner: bool) -> Catalogue:
        """The catalogue that has the entry of a path; with ``inner``, that of what is in it."""
        with self._lock:
            current = self.catalogue()
            for _ in range(DEPTH):
                nested = self._nested[current.prefix]
                deeper = None
                for end in _ends(path, len(current.prefix)):
                    if path[:end] in nested and (inner or end < len(path)):
                        deeper = nested[path[:end]]
                        break
                if deeper is None:
                    return current
                current = self._open.get(deeper.path) or self._load(deeper.path, deeper.hash, deeper.size)
            raise AfenvError("E313", f"catalogues nest deeper than {DEPTH} at {self.mount}{path}")

    def catalogue_folder(self, path: str) -> str:
        """The folder, with a catalogue of its own, that a path is in."""
        return self._catalogue_of(path, inner=True).prefix

    def find(self, path: str) -> Entry | None:
        """The entry of a path, no link followed; None if there is none."""
        entry = self._catalogue_of(path, inner=False).find(path)
        return None if entry is None else _shown(entry)

    def children(self, path: str) -> list[Entry]:
        """What is in a folder, sorted."""
        return [_shown(entry) for entry in self._catalogue_of(path, inner=True).children(path)]

    def walk(self, path: str) -> Iterator[Entry]:
        """Every path below a folder, parents first, through nested catalogues."""
        for entry in self._catalogue_of(path, inner=True).below(path):
            yield _shown(entry)
            if entry.nested:
                if entry.path not in self._nested[self._catalogue_of(entry.path, inner=False).prefix]:
                    message = f"{self.mount}{entry.path} is said to have a catalogue, and none is named"
                    raise AfenvError("E313", message)
                yield from self.walk(entry.path)

    def resolve(self, path: str) -> Place:
        """Where a path in the repository leads through all links.

        E142 if there is nothing, if it leads out of the repository (:class:`Outside`), or in circles.
        """
        left = [part for part in reversed(path.split("/")) if part]
        current = ""
        links: list[str] = []
        entry = self.find("")
        while left:
            part = left.pop()
            if part == ".":
                continue
            if part == "..":
                if current == "":
                    target = "/cvmfs" if not left else "/".join(["/cvmfs", *reversed(left)])
                    raise self._outside(path, target, links)
                current = current.rpartition("/")[0]
                continue
            entry = self.find(f"{current}/{part}")
            if entry is None:
                shown = f"{self.mount}{path}"
                missing = f"{self.mount}{current}/{part}"
                message = f"there is no {shown}" + ("" if missing == shown else f": {missing} is missing")
                raise AfenvError("E142", message, place=self.repository)
            if entry.kind != "l":
                current = entry.path
                continue
            links.append(entry.path)
            if len(links) > LINKS:
                raise AfenvError("E142", f"{self.mount}{path} leads in circles", place=self.repository)
            target = entry.target
            if not target:
                message = f"{self.mount}{entry.path} is a link to nothing"
                raise AfenvError("E142", message, place=self.repository)
            if target.startswith("/"):
                clean = "/" + "/".join(part for part in target.split("/") if part)
                if clean != self.mount and not clean.startswith(self.mount + "/"):
                    raise self._outside(path, clean, links)
                target, current = clean[len(self.mount) :], ""
            left += [part for part in reversed(target.split("/")) if part]
        entry = self.find(current)
        if entry is None:
            raise AfenvError("E142", f"there is no {self.mount}{current}", place=self.repository)
        return Place(current, entry, tuple(links))

    def _outside(self, path: str, target: str, links: list[str]) -> Outside:
        message = f"{self.mount}{path} leads out of the repository, to {target}"
        return Outside(message, self.mount + (links[-1] if links else path), target)

    def objects(self, entry: Entry) -> list[tuple[ObjectHash, str, int]]:
        """The objects of a file in order: digest, kind, and size of the content in bytes.

        E145 for a file whose content the repository does not have.
        """
        if entry.external:
            raise AfenvError("E145", f"{self.mount}{entry.path} is kept outside of the repository")
        if entry.chunked:
            chunks = self._catalogue_of(entry.path, inner=False).chunks(entry.path, entry)
            return [(chunk.hash, "P", chunk.size) for chunk in chunks]
        if entry.hash is None:
            raise AfenvError("E145", f"{self.mount}{entry.path} is not a file that has content")
        return [(entry.hash, "", entry.size)]

    def fetch(self, entry: Entry) -> Iterator[tuple[bytes | mmap.mmap, int]]:
        """The objects that a file's content is in, as they are stored, and the size of each one's content."""
        name = self.mount + entry.path
        for wanted, kind, size in self.objects(entry):
            yield self._strata.content(wanted, kind, name), size

    def read(self, entry: Entry) -> Iterator[bytes]:
        """The content of a file, each object checked; E310, E311, and as :meth:`Strata.object`."""
        for data, size in self.fetch(entry):
            yield from read_part(data, size, entry.compressed, self.mount + entry.path)

    def content(self, entry: Entry) -> Content:
        """What a file's content is, by reading it."""
        from isal import isal_zlib

        digest, crc32 = hashlib.sha256(), 0
        for piece in self.read(entry):
            digest.update(piece)
            crc32 = isal_zlib.crc32(piece, crc32)
        return Content(digest.hexdigest(), crc32)

    def close(self) -> None:
        """Close the catalogues."""
        with self._lock:
            for one in self._open.values():
                one.close()
            self._open.clear()
            self._nested.clear()


def read_part(data: bytes | mmap.mmap, size: int, compressed: bool, what: str) -> Iterator[bytes]:
    """The content of one object; E311 unless it has ``size`` bytes, E310 for a damaged stream."""
    left = size
    if compressed:
        from afenv.cvmfs.strata import inflate

        for piece in inflate(data, what, size):
            left -= len(piece)
            yield piece
    elif len(data) == size:
        left = 0
        for start in range(0, size, _PIECE):
            yield data[start : start + _PIECE]
    if left:
        raise AfenvError("E311", f"{what} has not the {size} bytes that are said of it")


def _ends(path: str, start: int) -> Iterator[int]:
    """The ends of the parents of a path beyond ``start``, and its own, from the highest down."""
    end = path.find("/", start + 1)
    while end != -1:
        yield end
        end = path.find("/", end + 1)
    if len(path) > start:
        yield len(path)


def _shown(entry: Entry) -> Entry:
    if entry.kind == "l" and "$(" in entry.target:
        return entry._replace(target=expanded(entry.target))
    return entry
