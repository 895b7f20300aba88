"""Packages out of the lock of another tool, taken as they are.

What such a lock does not tell of a package is taken from its channel's index; if the index has it no more,
from the archive itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from afenv.documents.lock import LockedConda, LockedWheel
from afenv.documents.manifest import CondaSection
from afenv.errors import AfenvError, Problem
from afenv.formats.model import DEFAULT, ForeignLock, ForeignPackage, archive_name
from afenv.formats.reading import read_foreign_lock
from afenv.layers.conda_archive import open_conda
from afenv.resolve.conda.channels import ALIAS, without_secrets
from afenv.resolve.conda.explain import GPU_REMEDY
from afenv.resolve.conda.foreign_wheels import locked_wheels
from afenv.resolve.conda.hashes import Known, complete
from afenv.resolve.conda.process import ask
from afenv.resolve.conda.records import locked_conda, name_of
from afenv.resolve.conda.virtual import as_triple
from afenv.resolve.pypi_inputs import normalised
from afenv.settings import Settings
from afenv.store.content import ContentStore, write_error


@dataclass(frozen=True, slots=True)
class Imported:
    """The packages of a foreign lock as our lock has them."""

    conda: tuple[LockedConda, ...]
    wheels: tuple[LockedWheel, ...]


def import_foreign(
    section: CondaSection,
    folder: Path,
    subdir: str,
    virtual: Mapping[str, str],
    *,
    settings: Settings,
    store: ContentStore,
    quiet: bool = False,
) -> Imported:
    """The packages of ``section.lock`` for one environment and platform.

    E001, E002, E013, E016 for the file; E014 if it lacks the environment or the platform; E102 if a package
    does not run with these virtual packages; E301 if a channel has another file at a URL; and errors of
    downloads.
    """
    assert section.lock is not None
    path = folder / section.lock
    lock = read_foreign_lock(path)
    return import_lock(
        lock, section.environment, str(path), subdir, virtual, settings=settings, store=store, quiet=quiet
    )


def import_lock(
    lock: ForeignLock,
    environment: str,
    place: str,
    subdir: str,
    virtual: Mapping[str, str],
    *,
    settings: Settings,
    store: ContentStore,
    quiet: bool = False,
) -> Imported:
    """As :func:`import_foreign`, for a lock that was read."""
    packages = choose(lock, environment, subdir, place)
    conda = [package for package in packages if package.manager == "conda"]
    records = _records(conda, lock.whole, subdir, settings, store, quiet=quiet)
    needed = {name_of(spec) for record in records for spec in record.get("depends") or ()}
    locked = tuple(
        sorted(
            (
                locked_conda(
                    record,
                    channel=channel_name(record["url"]),
                    url=without_secrets(record["url"]),
                    requested=record["name"] not in needed,
                )
                for record in records
            ),
            key=lambda package: package.name,
        )
    )
    check_virtual(locked, virtual, place)
    wheels = [package for package in packages if package.manager == "pypi"]
    return Imported(locked, locked_wheels(wheels, place, settings, store))


def choose(lock: ForeignLock, environment: str, subdir: str, place: str) -> tuple[ForeignPackage, ...]:
    """The packages for an environment and platform, each once; E014 if the lock has no such."""
    names = [environment]
    if lock.format == "conda-lock" and environment != DEFAULT:
        names = [DEFAULT, environment]  # categories are added to the main one
    found: dict[str, ForeignPackage] = {}
    for name in names:
        if name not in lock.environments:
            have = ", ".join(sorted(lock.environments))
            kind = "category" if lock.format == "conda-lock" else "environment"
            raise AfenvError("E014", f"the lock has no {kind} {name!r}; it has: {have}", place=place)
        platforms = lock.environments[name].packages
        if subdir not in platforms and name != environment:
            continue
        if subdir not in platforms:
            have = ", ".join(sorted(platforms)) or "none"
            raise AfenvError("E014", f"the lock is not for {subdir}; it is for: {have}", place=place)
        found |= {package.url: package for package in platforms[subdir]}
    names_seen: dict[tuple[str, str], str] = {}
    for package in found.values():
        name = normalised(package.name) if package.manager == "pypi" else package.name
        other = names_seen.setdefault((package.manager, name), package.url)
        if other != package.url:
            message = f"the lock has {package.name} twice: {other} and {package.url}"
            raise AfenvError("E102", message, place=place)
    return tuple(found.values())


def channel_name(url: str) -> str:
    """What the lock calls the channel of a package at a URL."""
    base = without_secrets(archive_name(url, url).channel)
    return base.removeprefix(ALIAS)


def _records(
    packages: Sequence[ForeignPackage],
    whole: bool,
    subdir: str,
    settings: Settings,
    store: ContentStore,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """The records of the packages, with sizes and digests."""
    told = {package.url: _told(package) for package in packages}
    unknown = [package for package in packages if not whole]
    indexed = _lookup(unknown, subdir, settings, store) if unknown else {}
    for package in unknown:
        if package.url in indexed:
            told[package.url] = indexed[package.url]
    archives = {}
    for package in packages:
        record = told[package.url]
        _check(package, record)
        archives[package.url] = Known(
            record.get("size") or package.size,
            package.sha256 or record.get("sha256"),
            package.md5 or record.get("md5"),
        )
    silent = [package for package in unknown if package.url not in indexed]
    here = {package.url for package in silent}
    wanted = {url: replace(known, size=None) if url in here else known for url, known in archives.items()}
    known = complete(wanted, settings=settings, store=store, quiet=quiet)
    for package in silent:
        told[package.url] |= _from_archive(package, known[package.url], store)
    return [
        {
            **told[package.url],
            "url": package.url,
            "size": known[package.url].size,
            "sha256": known[package.url].sha256,
            "md5": known[package.url].md5,
        }
        for package in packages
    ]


def _told(package: ForeignPackage) -> dict[str, Any]:
    """The record as far as the lock itself tells."""
    name = archive_name(package.url, package.url)
    return {
        "build": name.build,
        "build_number": 0,
        "subdir": name.subdir,
        **package.record,
        "name": package.name,
        "version": package.version,
        "depends": list(package.depends),
        "size": package.size,
    }


def _lookup(
    packages: Sequence[ForeignPackage], subdir: str, settings: Settings, store: ContentStore
) -> dict[str, dict[str, Any]]:
    """The records that the channels' indexes have, by URL."""
    cache = store.folder / "rattler"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, cache) from error
    on_host = {settings.rewrite(package.url): package.url for package in packages}
    channels = {
        settings.rewrite(archive_name(package.url, package.url).channel + "/").rstrip("/")
        for package in packages
    }
    answer = ask(
        {
            "op": "lookup",
            "channels": sorted(channels),
            "subdir": subdir,
            "specs": [],
            "virtual": [],
            "newest": None,
            "keep": [],
            "names": sorted({package.name for package in packages}),
            "urls": sorted(on_host),
            "cache": str(cache),
            "offline": settings.offline,
        }
    )
    return {on_host[record["url"]]: record for record in answer.get("records", ())}


def _check(package: ForeignPackage, record: Mapping[str, Any]) -> None:
    """E301 if an index and the lock name different bytes."""
    for name in ("sha256", "md5"):
        stated, has = getattr(package, name), record.get(name)
        if stated and has and stated != has:
            raise AfenvError(
                "E301",
                f"the channel has a file with {name} {has}, the lock names {stated}",
                place=without_secrets(package.url),
            )


def _from_archive(package: ForeignPackage, known: Known, store: ContentStore) -> dict[str, Any]:
    """The record that an archive has of itself."""
    file = package.url.rpartition("/")[2]
    archive = open_conda(store.path(f"sha256:{known.sha256}"), file)
    index = json.loads(archive.info()["index.json"])
    if not isinstance(index, dict):
        raise AfenvError("E303", "info/index.json is not an object", place=file)
    keep = (
        *("build", "build_number", "noarch", "depends", "constrains", "arch", "platform", "features"),
        *("track_features", "license", "license_family", "timestamp", "python_site_packages_path"),
    )
    return {key: index[key] for key in keep if index.get(key) is not None}


def check_virtual(packages: Iterable[LockedConda], virtual: Mapping[str, str], place: str) -> None:
    """E102 for every package that needs other virtual packages than these."""
    questions = [
        (package, spec, always)
        for package in packages
        for specs, always in ((package.depends, True), (package.constrains, False))
        for spec in specs
        if spec.startswith("__") and (always or name_of(spec) in virtual)
    ]
    if not questions:
        return
    pairs = [
        (spec, as_triple(name_of(spec), virtual[name_of(spec)]))
        for _, spec, _ in questions
        if name_of(spec) in virtual
    ]
    matches = iter(ask({"op": "match", "pairs": pairs})["matches"])
    problems = []
    for package, spec, _ in questions:
        name = name_of(spec)
        if name in virtual and next(matches):
            continue
        state = f"is {virtual[name]}" if name in virtual else "is absent"
        problems.append(
            Problem(
                "E102",
                f"{package.name} {package.version} needs {spec}, which {state} in this environment",
                place=place,
                remedy=GPU_REMEDY if name == "__cuda" else None,
            )
        )
    if problems:
        raise AfenvError.many(problems)
