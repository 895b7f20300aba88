"""Catalogues: what a repository holds, in SQLite files that nest.

A row of ``catalog`` is found by the MD5 of its path. ``chunks`` has the parts of large files, and
``nested_catalogs`` says in which other file a folder's content is. Nothing in a catalogue is believed that
could lead outside: names, paths of nested catalogues, sizes of chunks are checked as they are read.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from weakref import finalize

from afenv.cvmfs.hashes import ALGORITHMS, BYTES, ObjectHash, parse_hash
from afenv.cvmfs.signed import TIME_DIGITS
from afenv.errors import AfenvError

T = TypeVar("T")
Kind = Literal["d", "f", "l", "s"]  # folder, file, symbolic link, special file

# catalog_sql.h: flags of an entry
_FOLDER, _NESTED, _FILE, _LINK, _SPECIAL, _NESTED_ROOT, _CHUNKED, _EXTERNAL = 1, 2, 4, 8, 16, 32, 64, 128
_HASH_SHIFT, _COMPRESSION_SHIFT = 8, 11

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)  # what SQLite says of damage may itself be no UTF-8

_KIND, _REGULAR = 0o170000, 0o100000  # of a mode (inode(7))

_COLUMNS = "md5path_1, md5path_2, hardlinks, hash, size, mode, mtime, flags, name, symlink"


class Entry(NamedTuple):
    """One path. ``path`` begins with a slash and is empty for the root; sizes are in bytes.

    ``hash`` is the object of a file that is in one piece; ``compressed`` says how its objects are kept.
    ``group`` is the same number for all names of one file in a folder, 0 for a file of one name.
    """

    path: str
    kind: Kind
    mode: int
    size: int
    mtime: int
    target: str = ""
    hash: ObjectHash | None = None
    chunked: bool = False
    compressed: bool = True
    external: bool = False
    nested: bool = False
    group: int = 0
    algorithm: int = 0


class Chunk(NamedTuple):
    """A part of a file: where it begins, its size, both in bytes, and its object."""

    offset: int
    size: int
    hash: ObjectHash


class Nested(NamedTuple):
    """A nested catalogue: the folder whose content it has, its object, its size in bytes or 0."""

    path: str
    hash: ObjectHash
    size: int


def _key(path: str) -> tuple[int, int]:
    digest = hashlib.md5(path.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return (
        int.from_bytes(digest[:8], "little", signed=True),
        int.from_bytes(digest[8:], "little", signed=True),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Catalogue:
    """One catalogue file, of the folder ``prefix``; E313 for what is not as the format says.

    Safe to use from many threads.
    """

    def __init__(self, path: Path, prefix: str, place: str) -> None:
        self.prefix = prefix
        self.place = place
        # one query at a time: of two threads that ask the same, Python gives both one prepared statement,
        # and one may bind its values while the other has not taken its first row
        self._asking = threading.Lock()
        try:
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            # nobody knows when a tree has been read to its end: the file is closed with the last who knows it
            self._closing = finalize(self, self._database.close)
            self._database.text_factory = _text
            self._database.execute("PRAGMA trusted_schema = OFF")
            kinds = dict(self._database.execute("SELECT name, type FROM sqlite_master"))
            wanted = {"catalog", "chunks", "nested_catalogs", "properties"}
            if any(kinds.get(name) != "table" for name in wanted):
                raise self._wrong("it lacks tables of a catalogue")
            properties = dict(self._database.execute("SELECT key, value FROM properties"))
        except UNREADABLE as error:
            raise self._wrong(f"SQLite cannot read it: {error}") from None
        schema = str(properties.get("schema", ""))
        if schema not in ("2.5",):
            raise self._wrong(f"its schema is {schema!r}, and 2.5 is what is understood")
        stated = properties.get("root_prefix") or ""
        if stated != prefix:
            raise self._wrong(f"it is that of {stated or '/'}, in the place of that of {prefix or '/'}")
        self._revision = str(properties.get("revision", ""))
        self._modified = str(properties.get("last_modified", ""))

    def _wrong(self, what: str) -> AfenvError:
        return AfenvError(
            "E313", f"the catalogue of {self.prefix or '/'} is malformed: {what}", place=self.place
        )

    @property
    def revision(self) -> int:
        """The revision in which it was written."""
        return self._number(self._revision, "revision")

    @property
    def modified(self) -> int:
        """When it was written, in seconds since 1970."""
        return self._number(self._modified, "time", TIME_DIGITS)

    def _number(self, text: str, name: str, digits: int = 18) -> int:
        if not text.isdecimal() or len(text) > digits:
            raise self._wrong(f"its {name} is {text[:40]!r}, which is no number")
        return int(text)

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._asking:
                return self._database.execute(query, values).fetchall()
        except UNREADABLE as error:
            raise self._wrong(f"SQLite cannot read it: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._closing()

    def find(self, path: str) -> Entry | None:
        """The entry of a path that this catalogue is responsible for."""
        query = f"SELECT {_COLUMNS} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"  # noqa: S608
        rows = self._all(query, _key(path))
        if not rows:
            return None
        return self._entry(path.rpartition("/")[0], rows[0], path.rpartition("/")[2])

    def children(self, path: str) -> list[Entry]:
        """What is in a folder, sorted by name."""
        query = f"SELECT {_COLUMNS} FROM catalog WHERE parent_1 = ? AND parent_2 = ?"  # noqa: S608
        # the root has no parent: its row names itself or nothing
        rows = [row for row in self._all(query, _key(path)) if row[8] != "" or path != ""]
        return sorted((self._entry(path, row) for row in rows), key=lambda entry: entry.path)

    def below(self, path: str) -> Iterator[Entry]:
        """Every path below a folder, in order, parents first; nothing of other catalogues."""
        columns = f"parent_1, parent_2, {_COLUMNS}"
        rows: dict[tuple[int, int], list[Any]] = {}
        for row in self._all(f"SELECT {columns} FROM catalog ORDER BY name"):  # noqa: S608
            if row[10] != "":
                rows.setdefault(row[:2], []).append(row)
        waiting = [(path, row) for row in reversed(rows.pop(_key(path), []))]
        while waiting:
            parent, row = waiting.pop()
            entry = self._entry(parent, row[2:])
            yield entry
            if entry.kind == "d":  # popped, so that rows that name each other as parent end
                inside = rows.pop((row[2], row[3]), [])
                waiting += [(entry.path, one) for one in reversed(inside)]

    def chunks(self, path: str, entry: Entry) -> list[Chunk]:
        """The parts of a file, in order; E311 unless they make up its size without a gap."""
        query = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"
        found = []
        end = 0
        for offset, size, digest in self._all(query, _key(path)):
            if offset != end or not isinstance(size, int) or size < 0:
                raise AfenvError(
                    "E311", f"the parts of {path} leave a gap or overlap at byte {end}", place=self.place
                )
            end += size
            found.append(Chunk(offset, size, self._hash(digest, entry.algorithm)))
        if end != entry.size:
            message = f"{path} has {entry.size} bytes by the catalogue, and its parts {end}"
            raise AfenvError("E311", message, place=self.place)
        return found

    def nested(self) -> list[Nested]:
        """The nested catalogues, sorted by path; each lies deeper than this one."""
        found = []
        for path, digest, size in self._all("SELECT path, sha1, size FROM nested_catalogs ORDER BY path"):
            if not isinstance(path, str) or not isinstance(digest, str):
                raise self._wrong("a nested catalogue has no path or no digest")
            inside = path.startswith(self.prefix + "/") and len(path) > len(self.prefix) + 1
            if not inside or any(part in ("", ".", "..") for part in path[1:].split("/")) or "\0" in path:
                raise self._wrong(f"it nests {path!r}, which does not lie below it")
            found.append(Nested(path, parse_hash(digest, self.place), size if isinstance(size, int) else 0))
        return found

    def _hash(self, data: Any, algorithm: int) -> ObjectHash:
        if not isinstance(data, bytes) or len(data) != BYTES or algorithm >= len(ALGORITHMS):
            raise self._wrong("an object has no digest of 20 bytes in a known algorithm")
        return ObjectHash(ALGORITHMS[algorithm], data.hex())

    def _entry(self, parent: str, row: Any, wanted: str | None = None) -> Entry:
        _, _, hardlinks, digest, size, mode, mtime, flags, name, target = row
        if not (isinstance(name, str) and isinstance(mode, int) and isinstance(flags, int)):
            raise self._wrong(f"an entry in {parent or '/'} lacks its name, mode or flags")
        if wanted is not None and name != wanted:
            raise self._wrong(f"the entry of {parent}/{wanted} has the name {name!r}")
        if (name in ("", ".", "..") and (parent or wanted is None)) or "/" in name or "\0" in name:
            raise self._wrong(f"{name!r} in {parent or '/'} is no name of a file")
        if not (isinstance(size, int) and size >= 0 and isinstance(mtime, int)):
            raise self._wrong(f"{parent}/{name} has no size or no time")
        path = f"{parent}/{name}" if name else ""
        permissions = mode & 0o7777
        if flags & _FOLDER:
            nested = bool(flags & _NESTED)
            return Entry(path, "d", permissions, 0, mtime, nested=nested)
        if flags & _LINK:
            if not isinstance(target, str) or not target or "\0" in target:
                raise self._wrong(f"the link {path} leads nowhere")
            return Entry(path, "l", permissions, 0, mtime, target)
        if flags & _SPECIAL or not flags & _FILE or mode & _KIND != _REGULAR:
            return Entry(path, "s", permissions, 0, mtime)
        algorithm = flags >> _HASH_SHIFT & 7
        chunked = bool(flags & _CHUNKED)
        return Entry(
            path,
            "f",
            permissions,
            size,
            mtime,
            hash=None if chunked else self._hash(digest, algorithm),
            chunked=chunked,
            compressed=not flags >> _COMPRESSION_SHIFT & 7,
            external=bool(flags & _EXTERNAL),
            group=(hardlinks >> 32) if isinstance(hardlinks, int) else 0,
            algorithm=algorithm,
        )
