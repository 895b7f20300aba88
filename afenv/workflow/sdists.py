"""Wheels that are built from source archives, in the sandbox, with the environment's own Python.

When an environment is locked, each package that the manifest allows is built once; the lock has the wheel's
digest, the source archive, and the build requirements as wheels. Where a later build does not find the
wheel in its cache, it is built again from these, and must come out the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedEnvironment, LockedFile, LockedSource, LockedWheel
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError, Problem
from afenv.record import replace
from afenv.resolve.pypi_inputs import normalised
from afenv.resolve.pypi_sdist import Sdist, choose_sdist, different_members
from afenv.store.fetch import Fetcher
from afenv.workflow.project import Project
from afenv.workflow.sdist_build import Place, build_wheel, more_requirements, resolve_requirements, source_of

URL = "built:///"  # before the file name of a wheel that is nowhere to be downloaded


def lock_sdists(
    project: Project,
    section: PypiSection,
    environment: LockedEnvironment,
    glibc: tuple[int, int],
    as_of: datetime,
    locked: Sequence[LockedWheel],
    update: frozenset[str],
) -> dict[str, LockedWheel]:
    """The wheels that are built for the packages under ``sdists``, by name.

    ``environment`` is that of the lock without its wheels. What ``locked`` has is kept where it still fits,
    unless ``update`` names it. Raises as resolving and building do.
    """
    assert environment.python is not None
    place = Place(
        project=project, environment=environment, python=environment.python, glibc=glibc, as_of=as_of
    )
    with project.store.in_use():
        return _lock_sdists(place, section, locked, update)


def _lock_sdists(
    place: Place, section: PypiSection, locked: Sequence[LockedWheel], update: frozenset[str]
) -> dict[str, LockedWheel]:
    known = {
        wheel.name: wheel for wheel in locked if wheel.built_from is not None and wheel.name not in update
    }
    found = {}
    for name in sorted({normalised(name) for name in section.sdists}):
        asked = _asked(section, name)
        wheel = known.get(name)
        if wheel is None or not _fits(wheel, asked) or wheel.file.digest != _ensure(place, wheel):
            sdist = _choose(place, name, asked)
            wheel = _lock(place, sdist) if sdist is not None else None
        if wheel is not None:
            found[name] = wheel
    return found


def check_names(section: PypiSection, wheels: Sequence[LockedWheel]) -> None:
    """E101 if ``sdists`` names what is not among the packages, such as a name that is misspelt."""
    unknown = sorted({normalised(name) for name in section.sdists} - {wheel.name for wheel in wheels})
    if unknown:
        raise AfenvError(
            "E101",
            f"pypi.sdists names {', '.join(unknown)}, which nothing needs",
            remedy="Name it under `pypi.dependencies` too, or remove it from `pypi.sdists`.",
        )


def ensure_built(project: Project, environment: LockedEnvironment) -> None:
    """Build again what the lock has from source and the cache lacks; E412 if it comes out otherwise."""
    missing = [
        wheel
        for wheel in environment.wheels
        if wheel.built_from is not None and not project.store.trusted(wheel.file.digest, wheel.file.size)
    ]
    if not missing:
        return
    place = _place_of(project, environment)
    for wheel in missing:
        digest = _ensure(place, wheel)
        if digest != wheel.file.digest:
            raise AfenvError(
                "E412",
                f"{wheel.name} {wheel.version}, built from its source archive, is {digest}, and the lock "
                f"records {wheel.file.digest}",
                place=str(project.lock_path),
                remedy="Restore the wheel from a cache or an archive that has it, or lock the package again "
                f"with `afenv lock --update {wheel.name}`.",
            )


def check_built(project: Project, environment: LockedEnvironment) -> None:
    """Build each wheel that the lock has from source once more, and name what differs; E406."""
    place = _place_of(project, environment)
    problems = []
    for wheel in environment.wheels:
        if wheel.built_from is None:
            continue
        system, tree = source_of(place, wheel.built_from.file)
        title = f"{wheel.name} {wheel.version}"
        _, data = build_wheel(place, title, system, tree, wheel.built_from.requires, again=True)
        problems += [
            Problem("E406", f"wheel of {title}: {path} differs in a second build")
            for path in different_members(project.store.read(wheel.file.digest), data)
        ]
    if problems:
        raise AfenvError.many(problems)


def _place_of(project: Project, environment: LockedEnvironment) -> Place:
    """Where wheels of a lock are built again: nothing is resolved there."""
    assert environment.python is not None
    return Place(
        project=project,
        environment=replace(environment, wheels=(), owners={}),
        python=environment.python,
        glibc=(0, 0),
        as_of=datetime.fromisoformat(environment.as_of),
    )


def _asked(section: PypiSection, name: str) -> list[str]:
    from packaging.requirements import Requirement

    return [text for text in section.dependencies if normalised(Requirement(text).name) == name]


def _fits(wheel: LockedWheel, asked: Sequence[str]) -> bool:
    from packaging.requirements import Requirement

    return all(Requirement(text).specifier.contains(wheel.version, prereleases=True) for text in asked)


def _choose(place: Place, name: str, asked: Sequence[str]) -> Sdist | None:
    from afenv.resolve.pypi_sdist import ACCEPT
    from afenv.resolve.pypi_target import target_of
    from afenv.resolve.pypi_uv import INDEX

    project = place.project
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or INDEX
    url = f"{index.rstrip('/')}/{name}/"
    try:
        page = Fetcher(project.store, project.settings, quiet=project.quiet).get(url, accept=ACCEPT)
    except AfenvError as error:
        if error.code != "E103":
            raise
        text = f"the package index has no {name}, which pypi.sdists names"
        raise AfenvError("E101", text, place=url, remedy="Check the name.") from None
    target = target_of(place.python.version, place.glibc, place.environment.platform)
    return choose_sdist(page, project.settings.rewrite(url), name, asked, target, place.as_of)


def _lock(place: Place, sdist: Sdist) -> LockedWheel:
    """Find the build requirements, and build the wheel for the first time."""
    from afenv.resolve.pypi import canonical_url
    from afenv.resolve.pypi_pylock import ChosenWheel
    from afenv.resolve.pypi_sizes import sizes_of

    settings, store = place.project.settings, place.project.store
    size = sdist.size
    if size is None:
        asked = ChosenWheel(
            name=sdist.name, version=sdist.version, url=sdist.url, size=None, sha256=sdist.sha256
        )
        (size,) = sizes_of([asked], store, settings)
    file = LockedFile(urls=(canonical_url(sdist.url, settings),), size=size, sha256=sdist.sha256)
    title = f"{sdist.name} {sdist.version}"
    system, tree = source_of(place, file)
    requires = resolve_requirements(place, system.requires)
    more = more_requirements(place, title, system, tree, requires)
    if more:
        requires = resolve_requirements(place, (*system.requires, *more))
    name, data = build_wheel(place, title, system, tree, requires)
    wheel = LockedFile(urls=(URL + name,), size=len(data), sha256=sha256_bytes(data).removeprefix("sha256:"))
    from packaging.utils import parse_wheel_filename

    return LockedWheel(
        name=sdist.name,
        version=str(parse_wheel_filename(name)[1]),
        file=wheel,
        built_from=LockedSource(file=file, requires=requires),
    )


def _ensure(place: Place, wheel: LockedWheel) -> str:
    """The digest of a locked wheel: its own if the store has it, else of what is built again."""
    if place.project.store.trusted(wheel.file.digest, wheel.file.size):
        return wheel.file.digest
    assert wheel.built_from is not None
    system, tree = source_of(place, wheel.built_from.file)
    title = f"{wheel.name} {wheel.version}"
    _, data = build_wheel(place, title, system, tree, wheel.built_from.requires)
    return sha256_bytes(data)
