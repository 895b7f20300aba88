"""From a ``conda`` section to the packages of a lock."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afenv.documents.lock import LockedConda, LockedWheel
from afenv.documents.manifest import CondaSection
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.resolve.conda.asked import CondaFile
from afenv.resolve.conda.channels import (
    CondaChannel,
    channels_of,
    spec_for_host,
    subdir_of,
    without_secrets,
)
from afenv.resolve.conda.hashes import Known, complete
from afenv.resolve.conda.process import ask
from afenv.resolve.conda.records import locked_conda, name_of
from afenv.resolve.conda.virtual import as_triple, virtual_packages
from afenv.settings import Settings
from afenv.store.content import ContentStore, write_error

PREFIX = "/opt/conda"


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaResult:
    """The packages of an environment, and what else its ``conda`` section asks for.

    ``wheels`` are those of a foreign lock. ``pip`` holds requirements of PyPI, ``pip_files`` requirements
    files, ``variables`` those of an environment.yml.
    """

    records: tuple[LockedConda, ...]
    virtual_packages: Mapping[str, str] = field(default_factory=dict)
    wheels: tuple[LockedWheel, ...] = ()
    pip: tuple[str, ...] = ()
    pip_files: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def resolve_conda(
    section: CondaSection,
    folder: Path,
    platform: str,
    glibc: tuple[int, int],
    cuda: str | None,
    as_of: datetime,
    *,
    settings: Settings,
    store: ContentStore,
    locked: Sequence[LockedConda] = (),
    update: frozenset[str] | None = None,
    solver: str = "rattler",
    base: str = "the base",
    cuda_architectures: Sequence[str] = (),
    quiet: bool = False,
) -> CondaResult:
    """The conda packages of an environment, sorted by name.

    ``folder`` is that of the manifest, ``glibc`` and ``cuda`` are versions of the base's C library and of the
    GPU need. With ``locked``, the packages of an earlier lock are kept where they still fit and their channel
    still has them, except those in ``update``. Packages newer than ``as_of`` do not exist.

    Raises E013, E014 for requirements, E101 for what does not exist, E102 for a conflict, E120, E201, E202,
    E203.
    """
    settings = settings.beside(folder)
    subdir = subdir_of(platform)
    virtual = virtual_packages(subdir, glibc, cuda, section.virtual_packages, cuda_architectures)
    if section.lock is not None:
        from afenv.resolve.conda.foreign import import_foreign

        imported = import_foreign(
            section, folder, subdir, virtual, settings=settings, store=store, quiet=quiet
        )
        return CondaResult(records=imported.conda, wheels=imported.wheels, virtual_packages=virtual)
    asked = _asked(section, folder)
    channels = channels_of(asked.channels, folder, settings)
    specs = list(dict.fromkeys(asked.dependencies))
    if not quiet and sys.stderr.isatty():
        sys.stderr.write("Solving conda packages …")  # taken back by the line that tells the result
        sys.stderr.flush()
    with Progress("Solving conda packages", 0, unit="package", quiet=quiet) as progress:
        if solver == "rattler":
            keep = _kept(locked, channels, update, settings)
            found = _by_rattler(
                specs,
                channels,
                section.channel_priority,
                subdir,
                virtual,
                as_of,
                keep,
                folder,
                settings,
                store,
                base=base,
            )
        elif solver == "conda-lock":
            from afenv.formats.model import DEFAULT
            from afenv.resolve.conda.conda_lock_solver import solve_with_conda_lock
            from afenv.resolve.conda.foreign import import_lock

            foreign = solve_with_conda_lock(
                specs, channels, section.channel_priority, subdir, virtual, settings, store
            )
            imported = import_lock(
                foreign, DEFAULT, "conda-lock", subdir, virtual, settings=settings, store=store, quiet=quiet
            )
            return _with_names(imported.conda, specs, channels, virtual, asked, settings)
        else:
            raise AfenvError("E030", f"there is no conda solver {solver!r}; there are: rattler, conda-lock")
        progress.total = len(found)
        progress.advance(len(found))
    requested = {name_of(spec) for spec in specs}
    return CondaResult(
        records=_locked(found, channels, requested, settings, store, quiet=quiet),
        virtual_packages=virtual,
        pip=asked.pip,
        pip_files=asked.pip_files,
        variables=asked.variables,
    )


def _with_names(
    packages: Sequence[LockedConda],
    specs: Sequence[str],
    channels: Sequence[CondaChannel],
    virtual: Mapping[str, str],
    asked: CondaFile,
    settings: Settings,
) -> CondaResult:
    """What conda-lock chose, with channels and requests as the manifest names them."""
    requested = {name_of(spec) for spec in specs}
    named = []
    for package in packages:
        url = package.file.urls[0]
        channel = next((channel for channel in channels if url.startswith(channel.source + "/")), None)
        if channel is not None:
            file = replace(package.file, urls=(channel.canonical(url, settings),))
            package = replace(package, channel=channel.name, file=file)
        named.append(replace(package, requested=package.name in requested))
    return CondaResult(
        records=tuple(named),
        virtual_packages=virtual,
        pip=asked.pip,
        pip_files=asked.pip_files,
        variables=asked.variables,
    )


def _asked(section: CondaSection, folder: Path) -> CondaFile:
    """What a section without a lock asks for; E012 if there is no channel."""
    if section.file is None:
        return CondaFile(channels=section.channels, dependencies=section.dependencies)
    from afenv.resolve.conda.environment_yml import read_environment_yml

    path = folder / section.file
    asked = read_environment_yml(path)
    channels = section.channels or asked.channels
    if not channels and asked.dependencies:
        raise AfenvError(
            "E012",
            "no channel is named",
            place=str(path),
            path="channels",
            remedy="Write the channels, such as conda-forge, into the file or under conda.channels.",
        )
    return CondaFile(
        channels=channels,
        dependencies=asked.dependencies,
        pip=asked.pip,
        pip_files=tuple(str(Path(section.file).parent / name) for name in asked.pip_files),
        variables=asked.variables,
    )


def _kept(
    locked: Sequence[LockedConda],
    channels: Sequence[CondaChannel],
    update: frozenset[str] | None,
    settings: Settings,
) -> list[tuple[str, str]]:
    """Name and URL on this host of the packages that are preferred."""
    result = []
    for package in locked:
        url = package.file.urls[0]
        base = next((one for one in channels if url.startswith(one.url + "/")), None)
        if package.name in (update or ()):
            continue
        if base is not None:
            result.append((package.name, base.source + url[len(base.url) :]))
        elif package.channel in {channel.name for channel in channels}:  # its archives lie elsewhere
            result.append((package.name, settings.rewrite(url)))
    return sorted(result)


def _by_rattler(
    specs: Sequence[str],
    channels: Sequence[CondaChannel],
    priority: str,
    subdir: str,
    virtual: Mapping[str, str],
    as_of: datetime,
    keep: Sequence[tuple[str, str]],
    folder: Path,
    settings: Settings,
    store: ContentStore,
    *,
    base: str,
) -> list[dict[str, Any]]:
    """The records that py-rattler chooses."""
    if not specs:
        return []
    cache = store.folder / "rattler"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, cache) from error
    on_host = {spec_for_host(spec, channels, folder, settings): spec for spec in specs}
    answer = ask(
        {
            "channels": [channel.source for channel in channels],
            "priority": priority,
            "subdir": subdir,
            "specs": list(on_host),
            "virtual": [as_triple(name, version) for name, version in virtual.items()],
            "newest": int(as_of.timestamp() * 1000),
            "keep": keep,
            "cache": str(cache),
            "offline": settings.offline,
        }
    )
    if "records" in answer:
        records: list[dict[str, Any]] = answer["records"]
        return records
    from afenv.resolve.conda.explain import failed, no_solution

    if "failure" in answer:
        failure = answer["failure"]
        if "collide" in failure:
            failure["collide"] = [on_host[spec] for spec in failure["collide"]]
        time = as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        names = [channel.name for channel in channels]
        raise no_solution(failure, virtual, base=base, as_of=time, channels=names)
    problem = answer.get("error", {})
    if "spec" in problem:
        problem["spec"] = on_host[problem["spec"]]
    raise failed(problem, offline=settings.offline)


def _locked(
    found: Sequence[Mapping[str, Any]],
    channels: Sequence[CondaChannel],
    requested: set[str],
    settings: Settings,
    store: ContentStore,
    *,
    quiet: bool,
) -> tuple[LockedConda, ...]:
    """The records as the lock has them: with URLs for everyone, sizes and digests."""
    from_channel = [(record, _channel_of(record, channels)) for record in found]
    archives = {
        channel.on_host(record["url"]): Known(record.get("size"), record.get("sha256"), record.get("md5"))
        for record, channel in from_channel
    }
    known = complete(archives, settings=settings, store=store, quiet=quiet)
    packages = []
    for record, channel in from_channel:
        archive = known[channel.on_host(record["url"])]
        packages.append(
            locked_conda(
                {**record, "size": archive.size, "sha256": archive.sha256},
                channel=channel.name,
                url=channel.canonical(record["url"], settings),
                requested=record["name"] in requested,
            )
        )
    return tuple(sorted(packages, key=lambda package: package.name))


def _channel_of(record: Mapping[str, Any], channels: Sequence[CondaChannel]) -> CondaChannel:
    base = without_secrets(str(record.get("channel", ""))).rstrip("/")
    for channel in channels:
        if base == without_secrets(channel.source + "/").rstrip("/"):
            return channel
    raise AfenvError(
        "E120",
        f"the conda solver chose {record['name']} from {record.get('channel')}, which was not asked for",
    )
