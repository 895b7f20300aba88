"""Parts of CVMFS repositories as layers, at the same paths as where a client mounts them.

A file of a repository is a zlib stream already, so its deflate stream goes into the gzip layer as it is; what
is in chunks, or not compressed, is compressed here. Times are those of the repository: Python takes bytecode
only with them. All that is written is checked against the listing that the lock names.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.closure import contents
from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.listing import Listed, check_parts, list_parts, read_listing
from afenv.cvmfs.repository import open_repository
from afenv.cvmfs.tree import Snapshot
from afenv.documents.cvmfs import LockedCvmfs, LockedCvmfsPart
from afenv.errors import AfenvError
from afenv.layers.writer import LayerWriter
from afenv.settings import Settings
from afenv.store.content import ContentStore

_ZLIB_HEADER, _ZLIB_TRAILER = 2, 4  # bytes around the deflate stream (RFC 1950)
_DICTIONARY = 0x20


class CvmfsParts:
    """What an environment embeds of its repositories; safe to use from many threads."""

    def __init__(self, entries: Sequence[LockedCvmfs], store: ContentStore, settings: Settings) -> None:
        self._entries = entries
        self._store = store
        self._settings = settings
        self._snapshots: dict[str, Snapshot] = {}
        self._lock = threading.Lock()

    def _snapshot(self, repository: str) -> Snapshot:
        with self._lock:
            known = self._snapshots.get(repository)
            if known is None:
                entry = next(one for one in self._entries if one.repository == repository)
                opened = open_repository(repository, self._store, self._settings)
                known = opened.at(parse_hash(entry.root_hash))
                self._snapshots[repository] = known
            return known

    def ensure(self, parts: Sequence[LockedCvmfsPart]) -> None:
        """See to it that the listings of these parts are in the store: made anew where they are not.

        E317 if the repository gives others than those of the lock; others as of the repository.
        """
        missing = {part for part in parts if not self._store.trusted(part.listing)}
        for entry in self._entries:
            if missing.intersection(entry.parts):
                snapshot = self._snapshot(entry.repository)
                found = contents(snapshot, entry)
                check_parts(entry.parts, list_parts(snapshot, found.entries, self._store), entry.path)

    def write(self, part: LockedCvmfsPart, writer: LayerWriter) -> None:
        """Write the files of a part, whose listing is in the store; E310, E311, E317."""
        snapshot = self._snapshot(part.path.split("/")[2])
        groups: dict[tuple[str, int], str] = {}
        writer.package = part.path
        for line in read_listing(self._store, part.listing):
            path = line.path.strip("/")
            writer.mtime = line.mtime
            if line.kind == "d":
                writer.directory(path, line.mode)
            elif line.kind == "l":
                if line.target:  # a variable that expands to nothing gives a link that no file system holds
                    writer.symlink(path, line.target)
            else:
                entry = snapshot.find(line.path[len(snapshot.mount) :])
                if entry is None or entry.kind != "f" or entry.size != line.size:
                    raise AfenvError("E317", f"{line.path} is not in the repository as the lock names it")
                group = (path.rpartition("/")[0], entry.group)
                if entry.group and group in groups:
                    writer.hardlink(path, groups[group])
                    continue
                groups[group] = path
                _write_file(snapshot, entry, line, path, writer)

    def close(self) -> None:
        """Close the repositories."""
        with self._lock:
            for snapshot in self._snapshots.values():
                snapshot.close()
            self._snapshots.clear()


def _write_file(snapshot: Snapshot, entry: Entry, line: Listed, path: str, writer: LayerWriter) -> None:
    if entry.compressed and not entry.chunked and entry.size:
        ((whole, _),) = snapshot.fetch(entry)
        if len(whole) > _ZLIB_HEADER + _ZLIB_TRAILER and not whole[1] & _DICTIONARY:
            stream = memoryview(whole)[_ZLIB_HEADER:-_ZLIB_TRAILER]
            try:
                writer.deflated(path, line.mode, line.size, line.crc32, stream)
            finally:
                stream.release()
            return
    writer.stream(path, line.mode, line.size, _checked(snapshot, entry, line))


def _checked(snapshot: Snapshot, entry: Entry, line: Listed) -> Iterator[bytes]:
    """The content of a file; E317 unless it has the digest of the listing."""
    digest = hashlib.sha256()
    for piece in snapshot.read(entry):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != line.sha256:
        raise AfenvError("E317", f"{line.path} has not the content that the lock names")
