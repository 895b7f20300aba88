"""A repository's newest state, its tags, and the revision of a root hash."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.cvmfs.catalogue import UNREADABLE
from afenv.cvmfs.configuration import Configuration, configure
from afenv.cvmfs.hashes import ObjectHash, parse_hash
from afenv.cvmfs.mounted import ROOT, Mounted, attributes, mounted
from afenv.cvmfs.signed import TIME_DIGITS
from afenv.cvmfs.strata import Strata
from afenv.cvmfs.tree import Snapshot
from afenv.errors import AfenvError
from afenv.record import record
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from afenv.cvmfs.signed import Published


@record
class State:
    """One revision of a repository: what pins it, when it was published (seconds since 1970), and its tag."""

    repository: str
    root: ObjectHash
    revision: int
    timestamp: int
    tag: str | None = None


@record
class Tag:
    """A named snapshot, of the tag history."""

    name: str
    root: ObjectHash
    revision: int
    timestamp: int
    description: str = ""


def clock() -> datetime:
    """The time by which a whitelist is judged."""
    return datetime.now(UTC)


class Repository:
    """A repository, by its name, read from its strata; ``now`` is what the whitelist's expiry is held to."""

    def __init__(
        self,
        name: str,
        configuration: Configuration,
        store: ContentStore,
        settings: Settings,
        *,
        now: datetime | None = None,
    ) -> None:
        self.name = name
        self.strata = Strata(name, configuration, store, settings)
        self._configuration = configuration
        self._now = now

    @cached_property
    def _keys(self) -> list[RSAPublicKey]:
        from afenv.cvmfs.signed import parse_keys

        files = []
        for path in self._configuration.keys:
            try:
                files.append((str(path), path.read_bytes()))
            except OSError as error:
                raise AfenvError("E144", f"cannot read: {error.strerror}", place=str(path)) from None
        if not files:
            raise AfenvError("E144", f"no public master key for {self.name} is known on this host")
        return parse_keys(files)

    def newest(self, *, at_least: int = 0) -> Published:
        """The newest state, with all signatures checked.

        A stratum that serves a revision before ``at_least`` is passed over; E312 if all do. E144 without a
        key; E313 to E316 for what does not vouch for it; E140 and E143 if no stratum has it.
        """
        from afenv.cvmfs import signed

        keys = self._keys

        def attempt(open_: Callable[[str], Iterator[bytes]], url: str) -> Published:
            documents = self.strata
            letter = signed.parse_letter(
                documents.document(".cvmfspublished", open_), f"{url}/.cvmfspublished"
            )
            published = signed.parse_published(letter, self.name)
            whitelist = signed.parse_letter(
                documents.document(".cvmfswhitelist", open_), f"{url}/.cvmfswhitelist"
            )
            now = self._now or clock()
            allowed = signed.check_whitelist(whitelist, keys, self.name, now)
            path = self.strata.inflated(published.certificate, "X", "the certificate")
            certificate = signed.check_certificate(
                path.read_bytes(), allowed, published.timestamp, f"{url}/{published.certificate.path('X')}"
            )
            signed.check_manifest(letter, certificate)
            if published.revision < at_least:
                message = f"it serves revision {published.revision}, and {at_least} was seen before"
                raise AfenvError("E312", message, place=url)
            return published

        return self.strata.each(attempt, f"the state of {self.name}")

    def tags(self, published: Published) -> list[Tag]:
        """The named snapshots, the newest first; E313 for a history that is not as the format says."""
        if published.history is None:
            return []
        what = f"the tag history of {self.name}"
        path = self.strata.inflated(published.history, "H", what)
        try:
            database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                kind = database.execute("SELECT type FROM sqlite_master WHERE name = 'tags'").fetchone()
                if kind != ("table",):  # a view may have no end
                    raise AfenvError("E313", f"{what} is malformed: it has no table of tags")
                rows = database.execute(
                    "SELECT name, hash, revision, timestamp, description FROM tags "
                    "ORDER BY revision DESC, name"
                ).fetchall()
            finally:
                database.close()
        except UNREADABLE as error:
            raise AfenvError("E313", f"{what} is malformed: {error}") from None
        for name, _, revision, timestamp, _ in rows:
            good = isinstance(revision, int) and isinstance(timestamp, int)
            if not good or not 0 <= timestamp < 10**TIME_DIGITS:
                raise AfenvError("E313", f"{what} is malformed: {name!r} has no revision or no time")
        return [
            Tag(
                name=str(name),
                root=parse_hash(str(root), what),
                revision=revision,
                timestamp=timestamp,
                description=str(description or ""),
            )
            for name, root, revision, timestamp, description in rows
        ]

    def state(self, *, tag: str | None = None, at_least: int = 0) -> State:
        """The newest revision, or that of a tag; E141 for a tag that is not there, and as :meth:`newest`."""
        published = self.newest(at_least=at_least)
        if tag is None:
            return State(
                repository=self.name,
                root=published.root,
                revision=published.revision,
                timestamp=published.timestamp,
            )
        known = self.tags(published)
        for one in known:
            if one.name == tag:
                return State(
                    repository=self.name,
                    root=one.root,
                    revision=one.revision,
                    timestamp=one.timestamp,
                    tag=tag,
                )
        from afenv.documents.suggest import did_you_mean

        names = [one.name for one in known]
        there = f"; it has {', '.join(names[:20])}" if names else "; it has none"
        raise AfenvError("E141", f"{self.name} has no tag {tag!r}{did_you_mean(tag, names) or there}")

    def at(self, root: ObjectHash) -> Snapshot:
        """The files of the revision that a root hash pins."""
        return Snapshot(self.name, root, self.strata)


def open_repository(
    name: str,
    store: ContentStore,
    settings: Settings,
    *,
    now: datetime | None = None,
    root: Path = ROOT,
) -> Repository:
    """The repository of that name as this host is set up to read it; E140, E030."""
    configuration = configure(name, os.environ, mount=attributes(name, root))
    return Repository(name, configuration, store, settings, now=now)


def mounted_state(name: str, root: Path = ROOT) -> Mounted | None:
    """What is mounted of the repository on this host; None if it is not."""
    return mounted(attributes(name, root))
