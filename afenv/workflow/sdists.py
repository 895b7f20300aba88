"""Wheels that are built from source archives, in the sandbox, with the environment's own Python.

When an environment is locked, each package that the manifest allows is built once; the lock has the wheel's
digest, the source archive, and the build requirements as wheels. Where a later build does not find the
wheel in its cache, it is built again from these, and must come out the same. During a build the
requirements lie in a folder of their own, not in the environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import (
    Lock,
    LockedEnvironment,
    LockedFile,
    LockedPython,
    LockedSource,
    LockedWheel,
)
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError, Problem
from afenv.layers.model import PACKAGE_MTIME, Layer
from afenv.layers.write import write_layers
from afenv.oci.image import assemble
from afenv.oci.unpack import unpacked_root
from afenv.record import record, replace
from afenv.resolve.pypi_inputs import normalised
from afenv.resolve.pypi_sdist import (
    BuildSystem,
    Sdist,
    build_system,
    choose_sdist,
    different_members,
    fixed_wheel,
    unpack_sdist,
)
from afenv.store.fetch import Fetcher
from afenv.store.trees import cached_tree
from afenv.workflow.build_commands import bring_base_layers, work_on
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work, run_commands

PLACE = "/opt/afenv-build"
URL = "built:///"  # before the file name of a wheel that is nowhere to be downloaded

_RUN = """\
import importlib, json, sys
told = json.loads(sys.argv[1])
sys.path[:] = [*told["path"], *(place for place in sys.path if place)]
module, _, rest = told["backend"].partition(":")
backend = importlib.import_module(module)
for name in filter(None, rest.split(".")):
    backend = getattr(backend, name)
if told["hook"] == "requires":
    ask = getattr(backend, "get_requires_for_build_wheel", None)
    with open(told["out"] + "/requires.json", "w") as file:
        json.dump(list(ask(None)) if ask else [], file)
else:
    backend.build_wheel(told["out"], None, None)
"""


@record
class _Place:
    """Where something is built: the project, what is there without wheels, and the environment's Python."""

    project: Project
    environment: LockedEnvironment
    python: LockedPython
    glibc: tuple[int, int]
    as_of: datetime


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
    place = _Place(
        project=project, environment=environment, python=environment.python, glibc=glibc, as_of=as_of
    )
    with project.store.in_use():
        return _lock_sdists(place, section, locked, update)


def _lock_sdists(
    place: _Place, section: PypiSection, locked: Sequence[LockedWheel], update: frozenset[str]
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
        system, tree = _source(place, wheel.built_from.file)
        title = f"{wheel.name} {wheel.version}"
        _, data = _build(place, title, system, tree, wheel.built_from.requires, again=True)
        problems += [
            Problem("E406", f"wheel of {title}: {path} differs in a second build")
            for path in different_members(project.store.read(wheel.file.digest), data)
        ]
    if problems:
        raise AfenvError.many(problems)


def _place_of(project: Project, environment: LockedEnvironment) -> _Place:
    """Where wheels of a lock are built again: nothing is resolved there."""
    assert environment.python is not None
    return _Place(
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


def _choose(place: _Place, name: str, asked: Sequence[str]) -> Sdist | None:
    import os

    from afenv.resolve.pypi_sdist import ACCEPT
    from afenv.resolve.pypi_target import target_of
    from afenv.resolve.pypi_uv import INDEX

    project = place.project
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or INDEX
    url = f"{index.rstrip('/')}/{name}/"
    page = Fetcher(project.store, project.settings, quiet=project.quiet).get(url, accept=ACCEPT)
    target = target_of(place.python.version, place.glibc, place.environment.platform)
    return choose_sdist(page, project.settings.rewrite(url), name, asked, target, place.as_of)


def _lock(place: _Place, sdist: Sdist) -> LockedWheel:
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
    system, tree = _source(place, file)
    requires = _resolve(place, system.requires)
    more = _more_requires(place, title, system, tree, requires)
    if more:
        requires = _resolve(place, (*system.requires, *more))
    name, data = _build(place, title, system, tree, requires)
    wheel = LockedFile(urls=(URL + name,), size=len(data), sha256=sha256_bytes(data).removeprefix("sha256:"))
    from packaging.utils import parse_wheel_filename

    return LockedWheel(
        name=sdist.name,
        version=str(parse_wheel_filename(name)[1]),
        file=wheel,
        built_from=LockedSource(file=file, requires=requires),
    )


def _ensure(place: _Place, wheel: LockedWheel) -> str:
    """The digest of a locked wheel: its own if the store has it, else of what is built again."""
    if place.project.store.trusted(wheel.file.digest, wheel.file.size):
        return wheel.file.digest
    assert wheel.built_from is not None
    system, tree = _source(place, wheel.built_from.file)
    title = f"{wheel.name} {wheel.version}"
    _, data = _build(place, title, system, tree, wheel.built_from.requires)
    return sha256_bytes(data)


def _source(place: _Place, file: LockedFile) -> tuple[BuildSystem, Path]:
    """The unpacked source archive, as a folder to lay over an image, and how it wants to be built."""
    project = place.project
    (path,) = Fetcher(project.store, project.settings, quiet=project.quiet).files(
        [file], title="Downloading source"
    )

    def fill(folder: Path) -> None:
        inside = folder / PLACE.strip("/")
        inside.mkdir(parents=True)
        (inside / "out").mkdir()
        (inside / "unpacked").mkdir()
        unpack_sdist(path, inside / "unpacked").rename(inside / "source")
        (inside / "unpacked").rmdir()

    tree = cached_tree(project.store, sha256_bytes(canonical.compact(["sdist", 1, file.sha256])), fill)
    return build_system(tree / PLACE.strip("/") / "source", file.file_name), tree


def _resolve(place: _Place, requirements: Sequence[str]) -> tuple[LockedWheel, ...]:
    """The wheels of build requirements; only name, version and file are kept of them."""
    from afenv.resolve.pypi import resolve_pypi

    if not requirements:
        return ()
    found = resolve_pypi(
        PypiSection(dependencies=tuple(requirements)),
        place.project.folder,
        place.python,
        place.glibc,
        place.environment.platform,
        place.as_of,
        settings=place.project.settings,
        store=place.project.store,
    )
    return tuple(LockedWheel(name=one.name, version=one.version, file=one.file) for one in found)


def _more_requires(
    place: _Place, title: str, system: BuildSystem, tree: Path, requires: Sequence[LockedWheel]
) -> list[str]:
    """What the build system asks for beyond its static requirements (PEP 517)."""
    work = _work(place, title, "requires", system, tree, requires)
    log = place.project.work_folder() / "sdist.log"
    with run_commands(place.project, work, log) as root:
        found = json.loads((root.changed / PLACE.strip("/") / "out/requires.json").read_bytes())
    return [str(text) for text in found]


def _build(
    place: _Place,
    title: str,
    system: BuildSystem,
    tree: Path,
    requires: Sequence[LockedWheel],
    *,
    again: bool = False,
) -> tuple[str, bytes]:
    """Build the wheel and put it into the store: its file name and content.

    With ``again``, it is built even if it is there, and not kept.
    """
    work = _work(place, title, "wheel", system, tree, requires)
    store = place.project.store
    known = None if again else store.load_key("sdist", work.inputs())
    if known is not None and store.trusted(known["digest"]):
        return str(known["name"]), store.read(known["digest"])
    log = place.project.work_folder() / "sdist.log"
    with run_commands(place.project, work, log) as root:
        built = sorted((root.changed / PLACE.strip("/") / "out").glob("*.whl"))
        if len(built) != 1:
            raise AfenvError("E410", f"building {title} gave {len(built)} wheels, not one", place=str(log))
        data = fixed_wheel(built[0].read_bytes(), title)
        name = built[0].name
    if not again:
        store.save_key("sdist", work.inputs(), {"name": name, "digest": store.put(data)})
    return name, data


def _work(
    place: _Place,
    title: str,
    hook: str,
    system: BuildSystem,
    tree: Path,
    requires: Sequence[LockedWheel],
) -> Work:
    """What is run: the build system's hook, on the environment without wheels, with the requirements."""
    project, environment = place.project, place.environment
    layers = write_environment(project, environment)
    lock = Lock(name="sdist", version="0", environments={"default": environment})
    bring_base_layers(project, environment)
    image = assemble(lock, "default", layers, PACKAGE_MTIME, project.store)
    before = [word for layer in layers for word in layer.entrypoint]
    told: Mapping[str, object] = {
        "hook": hook,
        "backend": system.backend,
        "path": [f"{PLACE}/source/{name}" for name in system.path],
        "out": f"{PLACE}/out",
    }
    command = (place.python.executable, "-c", _RUN, json.dumps(told, sort_keys=True))
    work = work_on(project, image, 0, PACKAGE_MTIME, before, [(f"build {title}: {hook}", command)])
    needed = _requirement_layers(place, requires)
    over = [tree, *([unpacked_root(needed, project.store, quiet=True, owners=False)] if needed else [])]
    path = f"{PLACE}/bin:{work.variables.get('PATH', '')}"
    return replace(
        work,
        below=(*work.below, tree.name, *(layer.diff_id for layer in needed)),
        lowers=(*over, *work.lowers),
        variables={**work.variables, "PATH": path, "PYTHONPATH": f"{PLACE}/lib"},
        folder=f"{PLACE}/source",
    )


def write_environment(project: Project, environment: LockedEnvironment) -> list[Layer]:
    """The layers of an environment without code; those that the store lacks are written."""
    from afenv.workflow.build import base_opener

    layers = write_layers(
        environment,
        (),
        project.store,
        project.settings,
        fetcher=Fetcher(project.store, project.settings, quiet=project.quiet),
        folder=project.folder,
        mtime=PACKAGE_MTIME,
        quiet=project.quiet,
        base=base_opener(project, environment),
    )
    project.store.sync()
    return layers


def _requirement_layers(place: _Place, requires: Sequence[LockedWheel]) -> list[Layer]:
    """The build requirements, installed into a folder of their own."""
    if not requires:
        return []
    python = replace(place.python, site_packages=f"{PLACE}/lib", scripts=f"{PLACE}/bin")
    wheels = LockedEnvironment(
        request=place.environment.request,
        platform=place.environment.platform,
        as_of=place.environment.as_of,
        python=python,
        wheels=tuple(replace(wheel, requested=True) for wheel in requires),
        bytecode=False,
    )
    return write_environment(place.project, wheels)
