"""``afenv rerun``: the steps of an analysis on this machine, with its own data and values or with others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.record import record
from afenv.rerun.places import RunFolder
from afenv.steps.choices import Values, choose_data, choose_parameters
from afenv.steps.graph import StepGraph
from afenv.workflow.lock import existing_lock, load
from afenv.workflow.project import Project

if TYPE_CHECKING:
    from afenv.oci.model import Image
    from afenv.rerun.run import Plan

RUNS = "runs"
SAME = "default"  # the run for which nothing is chosen


@record
class RerunOptions:
    """What is asked of a rerun: ``steps`` (all if empty) and what is chosen for it.

    ``data`` are texts ``NAME=URI``, ``parameters`` ``NAME=VALUE`` or ``STEP.NAME=VALUE``; ``output`` is the
    folder of the run, ``jobs`` how many processor cores may be used (0: all).
    """

    steps: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    output: Path | None = None
    jobs: int = 0
    runtime: str | None = None
    network: bool = False
    locked: bool = False
    allow_dirty: bool = False


@record
class _Choice:
    """What runs, on which values and data."""

    graph: StepGraph
    names: tuple[str, ...]
    values: Values
    uris: Mapping[str, str]


@contextlib.contextmanager
def planned(project: Project, options: RerunOptions) -> Iterator[tuple[Plan, int]]:
    """The plan of a rerun, and what holds its folder until the end; images are built.

    Errors: E750 and E751 for what is chosen, E754 and E755 for the folder, E757 without Snakemake, E758
    without steps, E759 for a machine that is too small; those of building and running images.
    """
    manifest = load(project)
    choice = _choose(manifest, options)
    from afenv.rerun.engine import check_engine
    from afenv.rerun.run import check_resources, make_plan, step_images

    check_engine()
    cores = options.jobs or os.cpu_count() or 1
    check_resources(choice.graph, choice.names, cores)
    folder = RunFolder(path=_folder(project, manifest, options))
    folder.make()
    with folder.held() as lock, project.store.in_use():
        images = _images(project, choice, options)
        from afenv.run.container import request_of
        from afenv.workflow.rerun_data import Checksums, data_of_run

        checksums = Checksums(folder.path / "steps" / ".checksums.json")
        old = existing_lock(project)
        data = data_of_run(
            project,
            manifest.data,
            old.data if old is not None else (),
            choice.graph.data(choice.names),
            choice.uris,
            checksums,
        )
        checksums.save()
        request = request_of((), workdir=folder.path, network=options.network, entrypoint=False)
        plan = make_plan(
            graph=choice.graph,
            names=choice.names,
            folder=folder,
            images=step_images(images, project.store, request, runtime=options.runtime, quiet=project.quiet),
            data=data,
            values=choice.values,
            request=request,
            mounts={name: _mounts(image) for name, image in images.items()},
            cores=cores,
            identity=_identity(project, manifest),
            chosen={
                "data": dict(choice.uris),
                "parameters": sorted(options.parameters),
                "network": options.network,
            },
            metadata=_metadata(manifest),
        )
        yield plan, lock


def _choose(manifest: AnalysisManifest, options: RerunOptions) -> _Choice:
    if not manifest.steps:
        raise AfenvError("E758", f"the analysis {manifest.name} has no steps")
    graph = StepGraph.of(manifest)
    names = graph.closure(options.steps or graph.order())
    values = choose_parameters(graph, names, options.parameters)
    uris = choose_data([data.name for data in manifest.data], options.data, Path.cwd())
    return _Choice(graph=graph, names=names, values=values, uris=uris)


def _images(project: Project, choice: _Choice, options: RerunOptions) -> dict[str, Image]:
    from afenv.workflow.running import image_to_run

    needed = dict.fromkeys(choice.graph.steps[name].environment for name in choice.names)
    return {
        name: image_to_run(project, name, locked=options.locked, allow_dirty=options.allow_dirty)
        for name in needed
    }


def _mounts(image: Image) -> Any:
    from afenv.run.cvmfs import cvmfs_mounts

    labels = (image.configuration().get("config") or {}).get("Labels") or {}
    return cvmfs_mounts(labels)


def _folder(project: Project, manifest: AnalysisManifest, options: RerunOptions) -> Path:
    """The folder of the run: the one asked for, else one below ``.afenv`` that is named by what is chosen."""
    if options.output is not None:
        folder = Path(os.path.abspath(options.output))  # noqa: PTH100 - without the dots
        _check_outside_code(project, manifest, folder)
        return folder
    name = SAME
    if options.data or options.parameters:
        from afenv import canonical
        from afenv.digest import hex_of, sha256_bytes

        chosen = canonical.compact([sorted(options.data), sorted(options.parameters)])
        name = f"recast-{hex_of(sha256_bytes(chosen))[:8]}"
    return project.work_folder() / RUNS / name


def _check_outside_code(project: Project, manifest: AnalysisManifest, folder: Path) -> None:
    """E755 for a folder that would become part of the code, and so change the images."""
    for source in manifest.code:
        code = (project.folder / (source.folder or ".")).absolute()
        if source.folder is None or not folder.is_relative_to(code):
            continue
        if not any((place / ".git").exists() for place in (code, *code.parents)):
            message = f"the folder is inside the code {code}, and no git repository tells what is ignored"
            remedy = "Choose one outside the code, or leave out -o."
            raise AfenvError("E755", message, place=str(folder), remedy=remedy)


def _identity(project: Project, manifest: AnalysisManifest) -> dict[str, Any]:
    from afenv.digest import sha256_bytes

    found = {"name": manifest.name, "version": manifest.version}
    found["manifest"] = sha256_bytes(project.manifest_path.read_bytes())
    with contextlib.suppress(OSError):
        found["lock"] = sha256_bytes(project.lock_path.read_bytes())
    return found


def _metadata(manifest: AnalysisManifest) -> dict[str, Any]:
    values = manifest.metadata
    return {key: getattr(values, key) for key in ("title", "description", "license") if getattr(values, key)}
