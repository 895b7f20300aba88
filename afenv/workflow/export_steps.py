"""``afenv export`` of steps: what an exporter needs is gathered, and what it makes is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from afenv.documents.cvmfs import MOUNT
from afenv.documents.data import LockedData, locked_data
from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError, Problem
from afenv.export.plan import DATA, Exported, ExportFile, ExportImage, ExportPlan, pinned
from afenv.record import record
from afenv.steps.choices import choose_parameters
from afenv.steps.graph import StepGraph
from afenv.store.failures import write_error
from afenv.workflow.lock import check_lock, load
from afenv.workflow.project import Project
from afenv.workflow.pushed import pushed_to

if TYPE_CHECKING:
    from afenv.oci.model import Image

FOLDER = "export"
MARK = "Written by `afenv export"  # in the first lines of every file that is written


@record
class ExportOptions:
    """What is asked of an export.

    ``images`` are texts ``REF`` or ``ENV=REF``, ``parameters`` ``NAME=VALUE`` or ``STEP.NAME=VALUE``.
    """

    engine: str
    form: str = "serial"
    images: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    kerberos: bool = False
    output: Path | None = None


def export_steps(project: Project, options: ExportOptions) -> tuple[Path, tuple[str, ...]]:
    """Write the documents of an engine, and links to data; the folder, and what the engine cannot do.

    Errors: E020 and E021 where the lock does not fit, E758 without steps, E770 to E774.
    """
    folder = options.output.absolute() if options.output else project.work_folder() / FOLDER / options.engine
    plan = plan_of(project, options, folder)
    exporter = import_module(f"afenv.export.{options.engine}")
    given = (plan, options.form) if options.engine == "reana" else (plan,)
    exported: Exported = getattr(exporter, options.engine)(*given)
    _write(folder, exported.files)
    warnings = [*exported.warnings, *_link_data(folder, plan)]
    return folder, tuple(warnings)


def plan_of(project: Project, options: ExportOptions, folder: Path) -> ExportPlan:
    """The plan for an exporter that writes into ``folder``."""
    manifest = load(project)
    if not manifest.steps:
        raise AfenvError("E758", f"the analysis {manifest.name} has no steps")
    lock = check_lock(project, allow_dirty=True)
    graph = StepGraph.of(manifest)
    used = tuple(dict.fromkeys(graph.steps[name].environment for name in graph.order()))
    return ExportPlan(
        name=manifest.name,
        version=manifest.version,
        title=manifest.metadata.title,
        graph=graph,
        images=_images(project, lock, used, options.images),
        data=data_files(project, manifest, lock, graph.data()),
        values=choose_parameters(graph, graph.order(), options.parameters),
        kerberos=options.kerberos,
        folder=str(folder),
    )


def _images(
    project: Project, lock: Lock, used: Iterable[str], given: Iterable[str]
) -> dict[str, ExportImage]:
    chosen: dict[str, str] = {}
    general: str | None = None
    used = list(used)
    for text in given:
        name, equals, reference = text.partition("=")
        if not equals:
            general = text
        elif name not in used:
            message = f"no step uses an environment {name!r}; steps use: {', '.join(used)}"
            raise AfenvError("E031", message, place="--image")
        else:
            chosen[name] = reference
    if general is not None and len(set(used) - chosen.keys()) > 1:
        message = f"steps use several environments ({', '.join(used)}): say which one an image is for"
        raise AfenvError("E030", message, place="--image", remedy="Write --image ENV=REF.")
    found: dict[str, ExportImage] = {}
    problems: list[Problem] = []
    for name in used:
        try:
            found[name] = _image(project, lock, name, chosen.get(name, general))
        except AfenvError as error:
            problems += error.problems
    if problems:
        raise AfenvError.many(problems)
    return found


def _image(project: Project, lock: Lock, name: str, reference: str | None) -> ExportImage:
    environment = lock.environments[name]
    built = _built(project, lock, name)
    if reference is not None:
        reference = pinned(reference, name)
    elif built is not None and (found := pushed_to(project.folder, built[0])) is not None:
        reference = pinned(f"{found.partition('@')[0]}@{built[0]}", name)
    else:
        have = "was not pushed from here" if built is not None else "was not built and pushed from here"
        raise AfenvError("E770", f"the image of the environment {name} as it is locked {have}")
    workdir, entrypoint = _settings(lock, environment) if built is None else _config(built[1])
    return ExportImage(
        reference=reference, workdir=workdir, entrypoint=entrypoint, cvmfs=_mounted(environment)
    )


def image_settings(lock: Lock, name: str, image: Image) -> dict[str, Any]:
    """What an export says of an image besides where it is."""
    workdir, entrypoint = _config(image.configuration().get("config") or {})
    return {"workdir": workdir, "entrypoint": entrypoint, "cvmfs": _mounted(lock.environments[name])}


def _mounted(environment: LockedEnvironment) -> tuple[str, ...]:
    return tuple(sorted({one.repository for one in environment.cvmfs if one.delivery == MOUNT}))


def _built(project: Project, lock: Lock, name: str) -> tuple[str, Mapping[str, Any]] | None:
    """Manifest digest and configuration of the image that was built last, if it is what is locked."""
    from afenv.oci import media
    from afenv.oci.image import inputs_digest
    from afenv.oci.read import open_image

    with contextlib.suppress(AfenvError), open_image(project.folder / ".afenv" / f"{name}.oci") as opened:
        config = opened.image.configuration().get("config") or {}
        labels = config.get("Labels") or {}
        if labels.get(media.INPUTS) == inputs_digest(lock, lock.environments[name]):
            return opened.image.manifest_digest, config
    return None


def _config(config: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    return config.get("WorkingDir") or None, tuple(config.get("Entrypoint") or ())


def _settings(lock: Lock, environment: LockedEnvironment) -> tuple[str | None, tuple[str, ...]]:
    """What the lock alone tells of an image that is not here."""
    code = lock.code[0].into if lock.code and environment.builder is None else None
    return environment.workdir or code, environment.entrypoint


def data_files(
    project: Project, manifest: AnalysisManifest, lock: Lock, names: Iterable[str]
) -> dict[str, tuple[ExportFile, ...]]:
    """The files of data, by its names; E773 where they are not known."""
    wanted = set(names)
    entries = locked_data([one for one in manifest.data if one.name in wanted], lock.data, project.folder)
    return {entry.name: tuple(_files(project, entry)) for entry in entries}


def _files(project: Project, entry: LockedData) -> Iterator[ExportFile]:
    fetched = project.folder / ".afenv" / "data" / entry.name
    if not entry.files and entry.uri.startswith("file:"):
        folder = _local(entry.uri, project.folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        if not paths:
            raise AfenvError("E001", f"there are no files of the data {entry.name}", place=str(folder))
        for path in paths:
            yield ExportFile(path=path.relative_to(folder).as_posix(), source=path)
        return
    if not entry.files:
        message = f"which files the data {entry.name} has is not known"
        raise AfenvError("E773", message, place=entry.uri)
    for file in entry.files:
        places = [_local(uri, project.folder) for uri in file.uris if uri.startswith("file:")]
        places.append(fetched / file.path)
        source = next((place for place in places if place.is_file()), None)
        remote = tuple(uri for uri in file.uris if not uri.startswith("file:"))
        if source is None and not remote:
            raise AfenvError("E001", f"there is no file of the data {entry.name}", place=str(places[0]))
        yield ExportFile(path=file.path, uris=remote, source=source)


def _local(uri: str, folder: Path) -> Path:
    return folder / unquote(uri.removeprefix("file:").removeprefix("//"))


def _write(folder: Path, files: Mapping[str, str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise AfenvError("E774", "this is no folder", place=str(folder))
    for name in files:
        path = folder / name
        try:
            head = path.read_text(encoding="utf-8", errors="replace")[:400] if path.is_file() else MARK
        except OSError as error:
            raise write_error(error, path) from error
        if MARK not in head:
            raise AfenvError(
                "E774", f"{name} is there already, and was not written by an export", place=str(path)
            )
    for name, text in files.items():
        path = folder / name
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            if text.startswith("#!"):
                temporary.chmod(0o755)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise write_error(error, path) from error


def _link_data(folder: Path, plan: ExportPlan) -> Iterator[str]:
    """Link the files of data that are on this machine; a sentence for data of which some are not."""
    for name, files in plan.data.items():
        for file in files:
            if file.source is None:
                continue
            place = folder / DATA / name / file.path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                place.symlink_to(file.source)
            except OSError as error:
                raise write_error(error, place) from error
        if any(file.source is None for file in files):
            where = folder / DATA
            yield f"the data {name} is not on this machine: `afenv data fetch {name} -o {where}` brings it"
