"""The signed indexes that Debian packages came from, as they were: for keeping, and for checking later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedFile, LockedIndex
from afenv.errors import AfenvError
from afenv.resolve.debian.archives import IMPORTED_AFTER, SNAPSHOT_DELAYS, Archive
from afenv.resolve.debian.index import Fetcher
from afenv.resolve.debian.release import Release, read_release
from afenv.store.content import ContentStore


def archive_of(index: LockedIndex) -> Archive:
    """The archive that an index of a lock is of."""
    path = urlsplit(index.url).path
    return Archive(path.partition("/dists/")[0].strip("/").rpartition("/")[2], index.suite)


def signed_index(index: LockedIndex, as_of: datetime, fetcher: Fetcher, store: ContentStore) -> bytes:
    """The signed index with the digest that the lock has, from the store, the archive or its snapshots.

    E732 if it cannot be had any more, and the errors of downloading.
    """
    digest = "sha256:" + index.sha256
    if store.trusted(digest):
        return store.read(digest)
    failure: AfenvError | None = None
    for url in _places(index, as_of):
        try:
            data = fetcher.get(url)
        except AfenvError as error:
            failure = failure or error
            if error.code == "E203":
                raise
            continue
        if sha256_bytes(data) == digest:
            store.put(data)
            return data
    reason = f": {failure.problems[0].message}" if failure is not None else ""
    message = f"the signed index of {index.suite}, {digest}, is not to be had any more{reason}"
    raise AfenvError("E732", message, place=index.url)


def _places(index: LockedIndex, as_of: datetime) -> Iterator[str]:
    archive = archive_of(index)
    yield archive.index_url
    for delay in SNAPSHOT_DELAYS:
        yield f"{archive.snapshot(as_of + delay)}/dists/{archive.suite}/InRelease"


def packages_file(
    data: bytes, index: LockedIndex, architecture: str, as_of: datetime, keys: Sequence[bytes]
) -> tuple[str, LockedFile]:
    """The list of packages that a signed index names: its path below the suite's folder, and the file.

    E104 if no key signed the index, E101 if it has no such list.
    """
    archive = archive_of(index)
    release = read_release(data, keys, index.url)
    path = packages_path(release, architecture, index)
    size, sha256 = release.files[path]
    folder = path.rpartition("/")[0]
    roots = (archive.live, archive.snapshot(max(as_of, release.date + IMPORTED_AFTER)))
    names = [f"{folder}/by-hash/SHA256/{sha256}"] if release.by_hash else []
    urls = tuple(f"{root}/dists/{archive.suite}/{name}" for root in roots for name in (*names, path))
    return path, LockedFile(urls=urls, size=size, sha256=sha256)


def packages_path(release: Release, architecture: str, index: LockedIndex) -> str:
    """The path of the list of packages for an architecture, in the form that afenv reads; E101."""
    for ending in (".xz", ".gz", ""):
        path = f"main/binary-{architecture}/Packages{ending}"
        if path in release.files:
            return path
    raise AfenvError("E101", f"{index.suite} has no packages for {architecture}", place=index.url)
