"""From a Debian base to exact packages: read the archives, choose, explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from afenv.documents.lock import LockedDeb, LockedIndex
from afenv.documents.manifest import DebianBase
from afenv.errors import AfenvError
from afenv.resolve.debian.archives import archives_of, read_archive
from afenv.resolve.debian.candidates import Candidate, Candidates
from afenv.resolve.debian.explain import conflict_error, missing_error
from afenv.resolve.debian.index import Fetcher
from afenv.resolve.debian.release import trusted_keys
from afenv.resolve.debian.solve import Failure, solve
from afenv.store.content import ContentStore

ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64"}
# Without it init-system-helpers takes usrmerge, and with that perl: its alternative, for a system that is
# converted and not made.
ALSO_WANTED = ("usr-is-merged",)


@dataclass(frozen=True, slots=True)
class DebianResult:
    """The indexes that were read, and the packages, sorted by name."""

    indexes: tuple[LockedIndex, ...]
    debs: tuple[LockedDeb, ...]


def resolve_debian(
    base: DebianBase,
    platform: str,
    as_of: datetime,
    fetcher: Fetcher,
    store: ContentStore,
    *,
    locked: Sequence[LockedDeb] = (),
    update: frozenset[str] | None = None,
    keys: tuple[bytes, ...] | None = None,
) -> DebianResult:
    """The packages of a Debian base as of a time: those named, the essential ones, and what they need.

    Of ``locked`` each version is kept as long as it still fits, but for the names in ``update``: these go
    to the newest version that can be had. ``keys`` replaces the OpenPGP certificates that are trusted.

    Errors: E013 (platform), E101 (no such suite or package), E102 (they cannot be installed together), E104
    (signature), E105 (stale index), E301 and E302 (a package list is not the one that was signed), and
    those of downloading.
    """
    architecture = ARCHITECTURES.get(platform)
    if architecture is None:
        message = f"Debian is supported on {', '.join(ARCHITECTURES)}, not on {platform}"
        raise AfenvError("E013", message, path="platform")
    time = as_of.astimezone(UTC).replace(microsecond=0)
    trusted = trusted_keys() if keys is None else keys
    archives = tuple(
        read_archive(archive, architecture, time, fetcher, store, trusted)
        for archive in archives_of(base.suite)
    )
    before = {deb.name: deb for deb in locked if deb.architecture in (architecture, "all")}
    candidates = Candidates(archives, architecture, before, update or ())
    chosen = _choose(candidates, base)
    requested = set(_named(candidates, base.packages))
    debs = tuple(replace(found.deb, requested=found.name in requested) for found in chosen)
    return DebianResult(tuple(archive.locked for archive in archives), debs)


def _choose(candidates: Candidates, base: DebianBase) -> list[Candidate]:
    """The candidates to install, sorted by name; E101 or E102 if there is no such set."""
    roots = roots_of(candidates, base.packages)
    missing = [name for name in roots if not candidates.exists(name)]
    if missing:
        raise missing_error(candidates, missing, base.suite)
    if candidates.update:
        newest = Candidates(
            candidates.archives, candidates.architecture, candidates.locked, candidates.update, strict=True
        )
        found = solve(newest, roots)
        if not isinstance(found, Failure):
            return list(found.values())
    found = solve(candidates, roots)
    if isinstance(found, Failure):
        raise conflict_error(candidates, found, base.suite)
    return list(found.values())


def _named(candidates: Candidates, packages: Sequence[str]) -> list[str]:
    """The packages that names stand for: a virtual package that one package provides stands for that one."""
    named = []
    for name in packages:
        providers = [] if candidates.exists(name) else candidates.providers(name)
        named.append(providers[0] if len(providers) == 1 else name)
    return named


def roots_of(candidates: Candidates, packages: Sequence[str]) -> list[str]:
    """The names that the search starts from, each once: those asked for, then those of every system."""
    also = [name for name in ALSO_WANTED if candidates.exists(name)]
    return list(dict.fromkeys([*sorted(_named(candidates, packages)), *candidates.essential(), *also]))
