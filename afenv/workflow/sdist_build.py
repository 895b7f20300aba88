"""One wheel, built from its source archive in the sandbox.

The source and the build requirements lie in a folder of their own, which is laid over the environment for
the time of the build; so nothing of them is in the environment. The build system's hooks (PEP 517) are
called by a few lines that the environment's Python runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import Lock, LockedEnvironment, LockedFile, LockedPython, LockedWheel
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError
from afenv.layers.model import PACKAGE_MTIME, Layer
from afenv.layers.write import write_layers
from afenv.oci.blobs import decompressed
from afenv.oci.image import assemble
from afenv.oci.unpack import unpack_tar, unpacked_root
from afenv.record import record, replace
from afenv.resolve.pypi_sdist import BuildSystem, build_system, fixed_wheel
from afenv.store.fetch import Fetcher
from afenv.store.trees import cached_tree
from afenv.workflow.base import base_opener
from afenv.workflow.build_commands import bring_base_layers, work_on
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work, run_commands

PLACE = "/opt/afenv-build"

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
class Place:
    """Where something is built: the project, what is there without wheels, and the environment's Python."""

    project: Project
    environment: LockedEnvironment
    python: LockedPython
    glibc: tuple[int, int]
    as_of: datetime


def source_of(place: Place, file: LockedFile) -> tuple[BuildSystem, Path]:
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


def unpack_sdist(path: Path, folder: Path) -> Path:
    """Unpack a source archive into an empty folder, and return its one folder there; E303 or E304."""
    try:
        with path.open("rb") as file, decompressed(file) as stream:
            unpack_tar(stream, folder, path.name)
    except AfenvError as error:
        if error.code != "E510":
            raise
        raise AfenvError("E303", "this is not a source archive, or it is damaged", place=path.name) from None
    found = list(folder.iterdir())
    if len(found) != 1 or found[0].is_symlink() or not found[0].is_dir():
        raise AfenvError("E303", "a source archive holds one folder; this one does not", place=path.name)
    return found[0]


def resolve_requirements(place: Place, requirements: Sequence[str]) -> tuple[LockedWheel, ...]:
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


def more_requirements(
    place: Place, title: str, system: BuildSystem, tree: Path, requires: Sequence[LockedWheel]
) -> list[str]:
    """What the build system asks for beyond its static requirements (PEP 517)."""
    work = _work(place, title, "requires", system, tree, requires)
    log = place.project.work_folder() / "sdist.log"
    with run_commands(place.project, work, log) as root:
        found = json.loads((root.changed / PLACE.strip("/") / "out/requires.json").read_bytes())
    return [str(text) for text in found]


def build_wheel(
    place: Place,
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
    place: Place,
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


def _requirement_layers(place: Place, requires: Sequence[LockedWheel]) -> list[Layer]:
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
