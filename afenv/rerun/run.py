"""A run from beginning to end: what has to run, the jobs, the scheduler, the record."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError, Problem
from afenv.oci.model import Image
from afenv.progress import Progress
from afenv.record import record
from afenv.rerun.crate import write_crate
from afenv.rerun.engine import LOG, check_engine, engine_command, launcher_command, run_engine
from afenv.rerun.failures import engine_failure, step_problem
from afenv.rerun.fresh import Verdict, verdicts
from afenv.rerun.jobs import StepImage, job_of, limits_kept
from afenv.rerun.launcher import SCHEDULERS_OWN, remove_folder
from afenv.rerun.places import Data, RunFolder
from afenv.rerun.record import read_record, run_record, write_record
from afenv.rerun.snakefile import rule_names, snakefile
from afenv.run.choose import Host, choose, module_of, preference
from afenv.run.request import Mount, RunRequest
from afenv.steps.choices import Values
from afenv.steps.graph import StepGraph
from afenv.store.content import ContentStore, write_error

MEGABYTE = 1_000_000


@record
class Plan:
    """A run that is ready to start: its steps in order, the job of each, and the verdict on each."""

    graph: StepGraph
    names: tuple[str, ...]
    folder: RunFolder
    images: Mapping[str, StepImage]
    data: Mapping[str, Data]
    values: Values
    jobs: Mapping[str, dict[str, Any]]
    verdicts: Mapping[str, Verdict]
    cores: int
    identity: Mapping[str, Any]
    chosen: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def stale(self) -> tuple[str, ...]:
        """The steps that have to run, or may have to."""
        return tuple(name for name in self.names if self.verdicts[name].reason)


def step_images(
    images: Mapping[str, Image],
    store: ContentStore,
    request: RunRequest,
    *,
    runtime: str | None = None,
    quiet: bool = False,
) -> dict[str, StepImage]:
    """The images of environments, brought into the runtime that is found, or asked for.

    Errors: those of :func:`~afenv.run.choose.find_runtime`; E030 if only virtual machines are asked for,
    which afenv itself attends to while they run; E502 if an image cannot be brought in.
    """
    wanted = tuple(name for name in preference(runtime) if name != "qemu")
    if not wanted:
        remedy = "Choose another runtime; `afenv run --vm` runs a command in a virtual machine."
        raise AfenvError("E030", "steps do not run in virtual machines", remedy=remedy)
    chosen = choose(Host(), wanted)
    return {
        name: StepImage(
            image=image,
            runtime=chosen,
            prepared=module_of(chosen).prepare(chosen, image, store, request, load=True, quiet=quiet),
        )
        for name, image in images.items()
    }


def check_resources(graph: StepGraph, names: Iterable[str], cores: int) -> None:
    """E759 for steps that need more memory than the machine has, or more cores than may be used."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    problems = []
    for name in names:
        asked = graph.steps[name].resources
        if (asked.cores or 1) > cores:
            message = f"the step {name} needs {asked.cores} cores, and {cores} may be used"
            problems.append(Problem("E759", message))
        if (asked.memory or 0) > memory:
            message = f"the step {name} needs {(asked.memory or 0) / 1e9:.1f} GB of memory"
            problems.append(Problem("E759", f"{message}, and the machine has {memory / 1e9:.1f} GB"))
    if problems:
        raise AfenvError.many(problems)


def make_plan(
    *,
    graph: StepGraph,
    names: tuple[str, ...],
    folder: RunFolder,
    images: Mapping[str, StepImage],
    data: Mapping[str, Data],
    values: Values,
    request: RunRequest,
    mounts: Mapping[str, Sequence[Mount]],
    cores: int,
    identity: Mapping[str, Any],
    chosen: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> Plan:
    """The jobs of the steps ``names``, which are in order, and what of them is out of date.

    ``mounts`` are more mounts by environment.
    """
    prmon = shutil.which("prmon")
    jobs = {}
    for name in names:
        step = graph.steps[name]
        image = images[step.environment]
        asked = RunRequest(
            command=(),
            workdir=request.workdir,
            uid=request.uid,
            gid=request.gid,
            groups=request.groups,
            hostname=request.hostname,
            mounts=tuple(mounts.get(step.environment, ())),
            network=request.network,
            entrypoint=False,
        )
        jobs[name] = job_of(step, graph, folder, image, data, values[name], asked, prmon)
    return Plan(
        graph=graph,
        names=names,
        folder=folder,
        images=images,
        data=data,
        values=values,
        jobs=jobs,
        verdicts=verdicts(graph, names, folder, jobs),
        cores=cores,
        identity=identity,
        chosen=chosen,
        metadata=metadata,
    )


def not_enforced(plan: Plan) -> list[str]:
    """One sentence for each limit that a step states and its runtime does not keep."""
    found = []
    for name in plan.names:
        step = plan.graph.steps[name]
        runtime = plan.images[step.environment].runtime.name
        lost = [key for key, kept in limits_kept(step, runtime).items() if not kept]
        if lost:
            found.append(f"{runtime} does not limit {' and '.join(lost)}: the step {name} may use more")
    return found


def execute(plan: Plan, lock: int, *, quiet: bool = False) -> dict[str, Any]:
    """Run what is out of date, and return the record, which is written in any case.

    ``lock`` is the file descriptor that holds the folder. Errors: E752, E753, E756 for steps that did not end
    well, all at once; E757 for Snakemake; E402 for a folder that cannot be written.
    """
    version = check_engine()
    folder = plan.folder
    times = [time.time()]
    try:
        _write_jobs(plan)
    except OSError as error:
        raise write_error(error, folder.path) from error
    try:
        if plan.stale:
            _run_stale(plan, lock, quiet=quiet)
    finally:
        for output in plan.folder.path.joinpath("outputs").rglob(SCHEDULERS_OWN):
            output.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            remove_folder(str(folder.path / "work" / "kept"))
        found = _note_record(plan, version, (times[0], time.time()))
    return found


def _note_record(plan: Plan, version: str, times: tuple[float, float]) -> dict[str, Any]:
    commands = {name: plan.jobs[name]["command"] for name in plan.names}
    found = run_record(
        identity=plan.identity,
        graph=plan.graph,
        folder=plan.folder,
        images=plan.images,
        commands=commands,
        values=plan.values,
        data=plan.data,
        chosen=plan.chosen,
        scheduler=version,
        times=times,
    )
    found["steps"] = _with_others(plan, found["steps"])
    try:
        write_record(plan.folder, found)
        write_crate(plan.folder, found, plan.metadata)
    except OSError as error:
        raise write_error(error, plan.folder.path) from error
    return found


def _with_others(plan: Plan, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of this run, and those of earlier runs in this folder that were not asked for now."""
    try:
        before = read_record(plan.folder.path)["steps"]
    except AfenvError:
        before = []
    known = {step["name"]: step for step in [*before, *steps]}
    others = {name for name in known if name not in plan.names and plan.folder.note(name) is not None}
    return [known[name] for name in plan.graph.order() if name in others or name in plan.names]


def _write_jobs(plan: Plan) -> None:
    """Jobs and Snakefile; outputs that may stay are linked to where Snakemake does not remove them."""
    folder = plan.folder.path
    kept = folder / "work" / "kept"
    if kept.exists():
        remove_folder(str(kept))
    for name in plan.names:
        job = {**plan.jobs[name], "kept": plan.verdicts[name].key}
        (folder / "steps" / f"{name}.job.json").write_text(json.dumps(job, indent=1) + "\n")
        if job["kept"] is not None:
            for output in job["outputs"]:
                _link(folder / "outputs" / output["path"], kept / output["path"])
            continue
        for output in job["outputs"]:  # they are of something else
            _remove(folder / "outputs" / output["path"])
        _remove(folder / "steps" / f"{name}.json")
    text = snakefile(plan.graph, plan.names, plan.data, plan.jobs, launcher_command())
    (folder / "Snakefile").write_text(text)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(str(path))
    else:
        path.unlink(missing_ok=True)


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place, copy_function=os.link, symlinks=True)
    else:
        os.link(source, place)


def _run_stale(plan: Plan, lock: int, *, quiet: bool) -> None:
    rules = rule_names(plan.names)
    ended: dict[str, str] = {}
    with Progress("running", len(plan.stale), unit="step", quiet=quiet) as progress:
        happened = _teller(progress, plan, ended)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEGABYTE
        forced = [rules[name] for name in plan.stale]
        status = run_engine(plan.folder, engine_command(plan.cores, memory, forced), lock, happened)
        if status:
            raise _failure(plan, ended, status)


def _teller(progress: Progress, plan: Plan, ended: dict[str, str]) -> Callable[[dict[str, Any]], None]:
    started: dict[str, float] = {}

    def happened(event: dict[str, Any]) -> None:
        step, kind = event["step"], event["event"]
        if kind == "start":
            started[step] = event["time"]
            progress.note(f"{step}: started, {plan.verdicts[step].reason or 'its inputs have changed'}")
            return
        ended[step] = kind
        seconds = event["time"] - started.get(step, event["time"])
        words = {"done": f"done in {seconds:.1f} s", "kept": "as before: what it reads has not changed"}
        progress.note(f"{step}: {words.get(kind, 'did not end well')}")
        progress.advance(1)

    return happened


def _failure(plan: Plan, ended: Mapping[str, str], status: int) -> AfenvError:
    problems = []
    for name, kind in ended.items():
        if kind in ("done", "kept"):
            continue
        step = plan.graph.steps[name]
        note = plan.folder.note(name) or {}
        kept = limits_kept(step, plan.images[step.environment].runtime.name)
        problems.append(step_problem(step, note, plan.folder, bool(kept.get("memory"))))
    return AfenvError.many(problems) if problems else engine_failure(plan.folder, LOG, status)
