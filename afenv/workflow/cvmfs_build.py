"""The part of CVMFS that needs something of the image to run: setup scripts of views, and traces.

What comes out is written into the lock by the first build, with the digest of what went in, as for build
commands. A later build with the same inputs takes it from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.closure import contents
from afenv.documents.cvmfs import TRACE, LockedCvmfs
from afenv.documents.lock import Lock, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.model import Layer
from afenv.oci.image import assemble
from afenv.record import replace
from afenv.workflow.build_commands import bring_base_layers, work_on
from afenv.workflow.cvmfs_setup import evaluate, setup_inputs
from afenv.workflow.cvmfs_trace import result_of, trace, trace_inputs
from afenv.workflow.lock_cvmfs import embedded_parts, snapshot_of
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work

Write = Callable[[LockedEnvironment], list[Layer]]


def runs_for_cvmfs(environment: LockedEnvironment) -> bool:
    """Whether the image has to run something before it is complete."""
    return any(one.view or one.delivery == TRACE for one in environment.cvmfs)


def with_results(
    project: Project,
    lock: Lock,
    name: str,
    created: int,
    write: Write,
    *,
    keep: bool,
    command: str | None = None,
) -> Lock:
    """The lock with what setup scripts set and what traces found; ``write`` writes an environment's layers.

    With ``keep`` it is said if the lock has no results for these inputs. ``command`` is traced instead of
    those of the manifest, and what it reads is added to what was traced before. E145 to E147, E149, and those
    of the sandbox.
    """
    environment = lock.environments[name]
    bare = replace(environment, cvmfs=tuple(_without_trace(one) for one in environment.cvmfs))
    layers = write(bare)
    project.store.sync()
    entries = list(environment.cvmfs)
    for number, entry in enumerate(entries):
        if entry.view:
            entries[number] = _set_up(project, lock, name, bare, entry, layers, created)
            bare = _with(bare, number, replace(bare.cvmfs[number], setup=entries[number].setup))
    for number, entry in enumerate(entries):
        if entry.delivery == TRACE:
            entries[number] = _traced(project, lock, name, bare, entry, layers, created, keep, command)
    done = replace(environment, cvmfs=tuple(entries))
    return replace(lock, environments={**lock.environments, name: done})


def _without_trace(entry: LockedCvmfs) -> LockedCvmfs:
    return replace(entry, parts=()) if entry.delivery == TRACE else entry


def _with(environment: LockedEnvironment, number: int, entry: LockedCvmfs) -> LockedEnvironment:
    entries = list(environment.cvmfs)
    entries[number] = entry
    return replace(environment, cvmfs=tuple(entries))


def _work(
    project: Project,
    lock: Lock,
    name: str,
    environment: LockedEnvironment,
    layers: Sequence[Layer],
    created: int,
    code: int,
) -> Work:
    """The image so far as a place to run in, with nothing to run yet."""
    bring_base_layers(project, environment)
    there = replace(lock, environments={**lock.environments, name: environment})
    image = assemble(there, name, layers, created, project.store)
    before = [word for layer in layers for word in layer.entrypoint]
    work = work_on(project, image, code, created, (), ())
    return replace(work, commands=(tuple(before),)) if before else work


def _log(project: Project, name: str, what: str) -> Path:
    return project.work_folder() / f"{name}-cvmfs-{what}.log"


def _set_up(
    project: Project,
    lock: Lock,
    name: str,
    bare: LockedEnvironment,
    entry: LockedCvmfs,
    layers: Sequence[Layer],
    created: int,
) -> LockedCvmfs:
    count = len(lock.code)  # the code is above, and no part of what a view is set up on
    below = layers[: len(layers) - count] if count else layers
    others = tuple(replace(one, setup=None) if one.path == entry.path else one for one in bare.cvmfs)
    work = _work(project, lock, name, replace(bare, cvmfs=others), below, created, 0)
    work = replace(work, folder="/")
    if entry.setup is not None and entry.setup.inputs == setup_inputs(entry, work):
        return entry
    log = _log(project, name, "setup")
    log.write_bytes(b"")
    snapshot = snapshot_of(project, entry)
    try:
        return replace(entry, setup=evaluate(project, entry, snapshot, work, log))
    finally:
        snapshot.close()


def _traced(
    project: Project,
    lock: Lock,
    name: str,
    bare: LockedEnvironment,
    entry: LockedCvmfs,
    layers: Sequence[Layer],
    created: int,
    keep: bool,
    command: str | None,
) -> LockedCvmfs:
    work = _work(project, lock, name, bare, layers, created, len(lock.code))
    inputs = trace_inputs(entry, work)
    known = entry.traced.paths if entry.traced is not None else ()
    if command is None and entry.traced is not None and entry.traced.inputs == inputs:
        return entry
    if keep and not project.quiet:
        which = "no result" if entry.traced is None else "the result of other inputs"
        sys.stderr.write(f"warning: the lock records {which} for the trace of {entry.path}\n")
    snapshot = snapshot_of(project, entry)
    try:
        also: dict[str, Entry] = {}
        for one in bare.cvmfs:
            if one.repository == entry.repository and one.parts:
                also |= contents(snapshot, one).entries
        asked = command or entry.run
        if asked is None:
            raise AfenvError("E012", f"{entry.path} is to be traced, and no command is named")
        paths = trace(
            project,
            entry,
            snapshot,
            work,
            asked,
            _log(project, name, "trace"),
            known=known if command is not None else (),
            also=also,
        )
        done = replace(entry, traced=result_of(entry, work, paths))
        return replace(done, parts=embedded_parts(project, snapshot, done))
    finally:
        snapshot.close()
