"""PyPI packages: from requirements to exact wheels, by uv, or out of a pylock.toml.

The answer depends on the requirements, the time that is locked as of, the index, and the environment's
own Python, C library and platform: not on the host's. uv is run twice, first for the versions and files,
then, with these versions fixed and from its cache alone, for who depends on whom. Its output is not kept:
sizes in it vary between runs and its form between versions.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from afenv.documents.lock import LockedFile, LockedPython, LockedWheel
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError
from afenv.resolve.pypi_explain import explain, warnings_of
from afenv.resolve.pypi_inputs import (
    normalised,
    parse_requirement,
    referred_files,
)
from afenv.resolve.pypi_provided import explain_provided, is_provided, plain, write_provided
from afenv.resolve.pypi_pylock import ChosenWheel, choose_wheels, pins
from afenv.resolve.pypi_pyproject import pyproject_requirements, read_toml
from afenv.resolve.pypi_sizes import sizes_of
from afenv.resolve.pypi_target import Target, target_of
from afenv.resolve.pypi_uv import compile_arguments, ignores_upload_times, run_uv
from afenv.settings import Settings
from afenv.store.content import ContentStore, write_error

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*(?:==|@)\s*\S+")


def _to_stderr(message: str) -> None:
    sys.stderr.write(f"warning: {message}\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What uv is given: requirements as text, and at most one requirements file."""

    requirements: tuple[str, ...] = ()
    file: Path | None = None
    place: str | None = None  # for errors


def resolve_pypi(
    section: PypiSection,
    folder: Path,
    python: LockedPython,
    glibc: tuple[int, int],
    platform: str,
    as_of: datetime,
    *,
    settings: Settings,
    store: ContentStore,
    locked: Sequence[LockedWheel] = (),
    update: frozenset[str] | None = None,
    provided: Mapping[str, str] | None = None,
    provider: str = "conda",
    built: Mapping[str, LockedWheel] | None = None,
    warn: Callable[[str], None] = _to_stderr,
) -> tuple[LockedWheel, ...]:
    """The wheels of an environment, sorted by name.

    ``folder`` is that of the manifest. With ``locked``, the versions of an earlier lock are kept where they
    still fit, except those of the packages in ``update``. Files that were uploaded after ``as_of`` do not
    exist. ``provided`` has the versions of distributions that are there already, by normalised name: no
    wheel is chosen for them, and a requirement that they do not fit is E102; ``provider`` is what brings
    them, for messages. ``built`` are wheels that were built from source, by name, which are as good as those
    of the index. ``warn`` is given what a user
    should know although it is no error, such as a yanked release that was asked for by its exact version.

    Raises E013, E014, E016 for requirements, E101 for what does not exist, E102 for a conflict, E103 for
    what was yanked, E107 where there is no wheel, E120, E201, E202, E203.
    """
    target = target_of(python.version, glibc, platform)
    if section.lock is not None:
        chosen, requested = _from_pylock(section, folder / section.lock, target, provided or {}, provider)
        dependencies = {wheel.name: wheel.dependencies for wheel in chosen}
    else:
        wanted = _wanted(section, folder, python)
        if not wanted.requirements and wanted.file is None:
            return ()
        keep = [
            (wheel.name, wheel.version)
            for wheel in locked
            if wheel.name not in {normalised(name) for name in update or ()} | set(provided or ())
        ]
        solver = _Solver(
            target=target,
            as_of=as_of,
            settings=settings,
            store=store,
            folder=folder,
            warn=warn,
            provided=provided or {},
            provider=provider,
            built=built or {},
        )
        chosen, dependencies, requested = solver.solve(wanted, keep)
    sizes = sizes_of(chosen, store, settings)
    names = {wheel.name for wheel in chosen}
    sources = {wheel.file.sha256: wheel for wheel in (built or {}).values()}
    return tuple(
        LockedWheel(
            name=wheel.name,
            version=wheel.version,
            file=sources[wheel.sha256].file
            if wheel.sha256 in sources
            else LockedFile(urls=(canonical_url(wheel.url, settings),), size=size, sha256=wheel.sha256),
            requested=wheel.name in requested,
            dependencies=tuple(sorted(set(dependencies.get(wheel.name, ())) & names - {wheel.name})),
            built_from=sources[wheel.sha256].built_from if wheel.sha256 in sources else None,
        )
        for wheel, size in zip(chosen, sizes, strict=True)
    )


def canonical_url(url: str, settings: Settings) -> str:
    """The URL as the world reaches it, where a mirror rule of this host led to another."""
    for prefix, replacement in settings.mirrors:
        if url.startswith(replacement):
            return prefix + url[len(replacement) :]
    return url


def _wanted(section: PypiSection, folder: Path, python: LockedPython) -> Wanted:
    """What a section without a lock asks for, checked."""
    requirements = list(section.dependencies)
    for text in requirements:
        parse_requirement(text, "pypi.dependencies")
    if section.file is None:
        return Wanted(requirements=tuple(requirements))
    path = folder / section.file
    referred_files(section, folder)  # for its errors
    if path.suffix == ".toml":
        more = pyproject_requirements(path, section.extras, section.groups, python.version)
        return Wanted(requirements=(*requirements, *more), place=str(path))
    if section.extras or section.groups:
        raise AfenvError("E014", "extras and groups are of a pyproject.toml", place=str(path))
    return Wanted(requirements=tuple(requirements), file=path, place=str(path))


def _from_pylock(
    section: PypiSection, path: Path, target: Target, provided: Mapping[str, str], provider: str
) -> tuple[tuple[ChosenWheel, ...], frozenset[str]]:
    """The wheels of a pylock.toml, and which of them are asked for: those that no other needs."""
    place = str(path)
    groups = section.groups or None
    chosen = choose_wheels(read_toml(path), target, place, extras=section.extras, groups=groups)
    versions = {wheel.name: wheel.version for wheel in chosen}
    markers = cast("dict[str, str]", target.markers())
    named = set()
    for text in section.dependencies:
        requirement = parse_requirement(text, "pypi.dependencies")
        name = normalised(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(markers):
            continue
        if name not in versions or not requirement.specifier.contains(versions[name], prereleases=True):
            has = f"has {name} {versions[name]}" if name in versions else f"lacks {name}"
            raise AfenvError(
                "E102",
                f"pypi.dependencies asks for {text!r}, and the lock file {has}",
                place=place,
                remedy="Lock the file again with this requirement, or remove it from pypi.dependencies.",
            )
        named.add(name)
    chosen = tuple(
        wheel for wheel in chosen if not is_provided(wheel.name, wheel.version, provided, place, provider)
    )
    versions = {name: version for name, version in versions.items() if name not in provided}
    needed = {name for wheel in chosen for name in wheel.dependencies}
    return chosen, frozenset(named | (set(versions) - needed))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Solver:
    """One question to uv."""

    target: Target
    as_of: datetime
    settings: Settings
    store: ContentStore
    folder: Path
    warn: Callable[[str], None]
    provided: Mapping[str, str] = field(default_factory=dict)
    provider: str = "conda"
    built: Mapping[str, LockedWheel] = field(default_factory=dict)

    def solve(
        self, wanted: Wanted, keep: Sequence[tuple[str, str]]
    ) -> tuple[tuple[ChosenWheel, ...], dict[str, tuple[str, ...]], frozenset[str]]:
        """The wheels, their dependencies by name, and the names that were asked for."""
        try:
            with tempfile.TemporaryDirectory(prefix="pypi-", dir=self.store.temporary_folder()) as name:
                work = Path(name)
                inputs = [str(wanted.file.absolute())] if wanted.file is not None else []
                if wanted.requirements:
                    (work / "manifest.in").write_text("\n".join(wanted.requirements) + "\n", encoding="utf-8")
                    inputs.append(str(work / "manifest.in"))
                if self.provided:
                    inputs += ["--constraints", str(write_provided(work, self.provided))]
                self._link_built(work / "built")
                data, chosen = self._versions(wanted, inputs, keep, work / "pylock.toml")
                by_url = any("archive" in package for package in data.get("packages", ()))
                dependencies, requested = edges(
                    self._edges(wanted, inputs, chosen, by_url, work / "edges.txt")
                )
                dependencies = {
                    name: children for name, children in dependencies.items() if name not in self.provided
                }
        except OSError as error:
            raise write_error(error, self.store.folder) from error
        if set(dependencies) != {wheel.name for wheel in chosen}:
            raise AfenvError("E120", "uv gave two answers to one question", place=wanted.place)
        return chosen, dependencies, requested

    def _versions(
        self, wanted: Wanted, inputs: Sequence[str], keep: Sequence[tuple[str, str]], output: Path
    ) -> tuple[dict[str, Any], tuple[ChosenWheel, ...]]:
        """The first question: which files. uv prefers the versions that its output file has already."""
        if keep:
            output.write_text(pins(keep), encoding="utf-8")
        question = [*self._arguments(output.parent), "--format", "pylock.toml", "--output-file", str(output)]
        for warning in warnings_of(self._run([*question, *inputs], wanted)):
            self.warn(plain(warning, self.provider))
        data = tomllib.loads(output.read_text(encoding="utf-8"))
        data["packages"] = [
            package for package in data.get("packages", ()) if package["name"] not in self.provided
        ]
        for package in data["packages"]:
            for wheel in package.get("wheels", ()) if package["name"] in self.built else ():
                if wheel.get("url", "").startswith("file:"):  # one of ours
                    wheel["url"] = "https://built.invalid/" + wheel["url"].rpartition("/")[2]
        return data, choose_wheels(data, self.target, wanted.place or "pypi.dependencies")

    def _edges(
        self, wanted: Wanted, inputs: Sequence[str], chosen: Sequence[ChosenWheel], by_url: bool, output: Path
    ) -> str:
        """The second question, for the same versions: who needs whom.

        It is answered from uv's cache, so that nothing can have changed since the first; only a wheel that
        is asked for by its URL is cached as its server allows.
        """
        output.write_text("".join(f"{wheel.name}=={wheel.version}\n" for wheel in chosen), encoding="utf-8")
        question = [item for item in self._arguments(output.parent) if item not in ("--refresh", "--offline")]
        if self.settings.offline or not by_url:
            question.append("--offline")
        question += ["--format", "requirements.txt", "--annotation-style", "split", "--no-header"]
        self._run([*question, "--output-file", str(output), *inputs], wanted)
        return output.read_text(encoding="utf-8")

    def _link_built(self, folder: Path) -> None:
        """Offer the wheels that were built here, in a folder that uv looks into."""
        for wheel in self.built.values():
            folder.mkdir(exist_ok=True)
            self.store.link_or_copy(wheel.file.digest, folder / wheel.file.file_name)

    def _arguments(self, work: Path) -> list[str]:
        links = ["--find-links", str(work / "built")] if self.built else []
        arguments = compile_arguments(
            self.target,
            self.as_of,
            self.settings,
            now=datetime.now(UTC),
            ignore_upload_times=ignores_upload_times(os.environ),
        )
        return arguments + links

    def _run(self, arguments: Sequence[str], wanted: Wanted) -> str:
        """Run uv; what it wrote to standard error."""
        status, report = run_uv(arguments, self.folder, self.settings)
        if status:
            as_of = self.as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            error = explain(report, as_of, offline=self.settings.offline, place=wanted.place)
            raise explain_provided(error, self.provided, self.provider)
        return report


def edges(text: str) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Dependencies by name, and the names asked for, out of the comments of uv's requirements.txt.

    Each pin is followed by ``# via`` and those that need it: packages, or ``-r FILE`` for a requirement of
    the user.
    """
    parents: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            entry = stripped.lstrip("#").strip().removeprefix("via").strip()
            if current and entry:
                parents[current].append(entry)
        elif match := _PIN.match(stripped):
            current = normalised(match["name"])
            parents[current] = []
    dependencies: dict[str, list[str]] = {name: [] for name in parents}
    requested = set()
    for name, needed_by in parents.items():
        for parent in needed_by:
            if parent.startswith("-r "):
                requested.add(name)
            elif normalised(parent) in dependencies:
                dependencies[normalised(parent)].append(name)
    return {name: tuple(sorted(children)) for name, children in dependencies.items()}, frozenset(requested)
