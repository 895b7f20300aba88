"""The archives of a Debian suite, and their indexes as of a time.

A suite has three archives: the suite itself, ``SUITE-updates`` and ``SUITE-security``. The state of an
archive as of a time T is its newest index whose ``Date`` is not after T. If the index that is served now
is not after T, it is that one; otherwise the snapshot service has it. Which index it was is remembered, so
that the same question asked again on this host needs no network and has the same answer.

Freshness: an index that was expired (``Valid-Until``) at T, or that is older than one that was seen before
although T is not, is refused: a mirror that stands still would hide security updates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from afenv.canonical import compact
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedFile, LockedIndex
from afenv.errors import AfenvError
from afenv.resolve.debian.index import Fetcher, PackageIndex, load_index
from afenv.resolve.debian.release import Release, read_release
from afenv.store.content import ContentStore

DEBIAN = "https://deb.debian.org"
SNAPSHOT = "https://snapshot.debian.org/archive"
IMPORTED_AFTER = timedelta(days=1)  # a snapshot this much later surely has what was published
# The snapshot service looks at an archive several times a day: a state may appear there only hours later.
SNAPSHOT_DELAYS = (timedelta(hours=24), timedelta(hours=12), timedelta(hours=6), timedelta(0))
_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_ROLLING = ("sid", "unstable", "experimental")  # suites without -updates and -security


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive of a suite: ``archive`` is ``debian`` or ``debian-security``."""

    archive: str
    suite: str

    @property
    def index_url(self) -> str:
        """The canonical URL of the signed index."""
        return f"{self.live}/dists/{self.suite}/InRelease"

    @property
    def live(self) -> str:
        """The root of what is served now."""
        return f"{DEBIAN}/{self.archive}"

    def snapshot(self, time: datetime) -> str:
        """The root of what was served at a time."""
        return f"{SNAPSHOT}/{self.archive}/{time:%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """An archive as of a time: its verified index and its packages; ``roots`` are where its files are."""

    archive: Archive
    locked: LockedIndex
    roots: tuple[str, ...]
    packages: PackageIndex


def archives_of(suite: str) -> tuple[Archive, ...]:
    """The archives of a suite; an earlier one wins where two have the same version. E101 if it is no name."""
    if not _NAME.match(suite):
        raise AfenvError("E101", f"{suite!r} is not the name of a Debian suite", path="base.debian")
    main = Archive("debian", suite)
    if suite in _ROLLING:
        return (main,)
    return (main, Archive("debian", f"{suite}-updates"), Archive("debian-security", f"{suite}-security"))


def _stamp(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


class _Reader:
    """Reads one archive's index; holds what every step needs."""

    def __init__(
        self,
        archive: Archive,
        as_of: datetime,
        fetcher: Fetcher,
        store: ContentStore,
        keys: tuple[bytes, ...],
    ) -> None:
        self.archive, self.as_of, self.fetcher, self.store, self.keys = archive, as_of, fetcher, store, keys

    def _key(self, *parts: str) -> str:
        return sha256_bytes(compact([self.archive.index_url, *parts]))

    def release(self) -> tuple[Release, bytes]:
        """The verified index as of the time, and its bytes."""
        key = self._key("as of", _stamp(self.as_of))
        known = self.store.load_key("debian-as-of", key)
        if isinstance(known, str) and self.store.has(known):
            data = self.store.read(known)
            return self._check(data, self.archive.index_url), data
        data = self._get(self.archive.index_url)
        release = self._check(data, self.archive.index_url)
        if release.date > self.as_of:
            release, data = self._from_snapshot()
        self._refuse_stale(release)
        if self.as_of <= datetime.now(UTC):  # of a time to come, the answer may change
            self.store.save_key("debian-as-of", key, self.store.put(data))
        return release, data

    def _get(self, url: str) -> bytes:
        try:
            return self.fetcher.get(url)
        except AfenvError as error:
            if error.code != "E103":
                raise
            message = f"Debian has no suite {self.archive.suite!r}, or this source does not have it any more"
            raise AfenvError(
                "E101",
                message,
                place=url,
                remedy="Check the name, such as bookworm; if it was archived, lock as of an earlier time.",
            ) from error

    def _check(self, data: bytes, place: str) -> Release:
        release = read_release(data, self.keys, place)
        if self.archive.suite not in (release.codename, release.suite):
            message = f"this is the index of {release.codename}, not of {self.archive.suite}"
            raise AfenvError("E104", message, place=place)
        return release

    def _from_snapshot(self) -> tuple[Release, bytes]:
        for delay in SNAPSHOT_DELAYS:
            url = f"{self.archive.snapshot(self.as_of + delay)}/dists/{self.archive.suite}/InRelease"
            data = self._get(url)
            release = self._check(data, url)
            if release.date <= self.as_of:
                return release, data
        message = f"no index of {self.archive.suite} as of {_stamp(self.as_of)}"
        raise AfenvError("E105", message, place=url)

    def _refuse_stale(self, release: Release) -> None:
        """E105 if the index was expired or is older than one seen before; otherwise remember it."""
        place = self.archive.index_url
        name = self.archive.suite
        if release.valid_until is not None and release.valid_until < self.as_of:
            message = f"the index of {name} expired on {_stamp(release.valid_until)}"
            raise AfenvError("E105", message, place=place)
        with self.store.lock("debian-newest"):
            newest = self.store.load_key("debian-newest", self._key())
            if isinstance(newest, str) and _stamp(release.date) < newest <= _stamp(self.as_of):
                message = f"the index of {name} is of {_stamp(release.date)}; one of {newest} was seen before"
                raise AfenvError("E105", message, place=place)
            if not isinstance(newest, str) or newest < _stamp(release.date):
                self.store.save_key("debian-newest", self._key(), _stamp(release.date))

    def packages(self, release: Release, architecture: str, roots: tuple[str, ...]) -> PackageIndex:
        """The archive's packages for the architecture, checked against the index."""
        folder = f"main/binary-{architecture}"
        for ending in (".xz", ".gz", ""):
            path = f"{folder}/Packages{ending}"
            if path in release.files:
                break
        else:
            message = f"{self.archive.suite} has no packages for {architecture}"
            raise AfenvError("E101", message, place=self.archive.index_url)
        size, sha256 = release.files[path]
        names = [f"{folder}/by-hash/SHA256/{sha256}"] if release.by_hash else []
        names.append(path)
        urls = tuple(f"{root}/dists/{self.archive.suite}/{name}" for root in roots for name in names)
        return load_index(
            LockedFile(urls=urls, size=size, sha256=sha256),
            path,
            self.fetcher,
            self.store,
            title=f"package list of {self.archive.suite}",
        )


def read_archive(
    archive: Archive,
    architecture: str,
    as_of: datetime,
    fetcher: Fetcher,
    store: ContentStore,
    keys: tuple[bytes, ...],
) -> ArchiveState:
    """An archive as of a time.

    E101 if there is no such suite, E104 if the signature is not trusted, E105 if the index is stale, E301
    or E302 if the package list is not the one that was signed; and the errors of downloading.
    """
    reader = _Reader(archive, as_of, fetcher, store, keys)
    release, data = reader.release()
    time = max(as_of, release.date + IMPORTED_AFTER)
    roots = (archive.live, archive.snapshot(time))
    return ArchiveState(
        archive=archive,
        locked=LockedIndex(
            url=archive.index_url,
            suite=archive.suite,
            date=_stamp(release.date),
            sha256=sha256_bytes(data).removeprefix("sha256:"),
            signed_by=release.signed_by,
        ),
        roots=roots,
        packages=reader.packages(release, architecture, roots),
    )
