"""``afenv cvmfs trace``: what a command reads is added to what the lock embeds of CVMFS."""

from __future__ import annotations

from typing import Any

from afenv.documents.cvmfs import TRACE, LockedCvmfs
from afenv.documents.lock import LockedEnvironment
from afenv.documents.lockfile import write_lock
from afenv.errors import AfenvError
from afenv.layers.model import Layer
from afenv.layers.write import write_layers
from afenv.record import record, replace
from afenv.store.fetch import Fetcher
from afenv.workflow.base import base_opener
from afenv.workflow.build import image_time
from afenv.workflow.cvmfs_build import with_results
from afenv.workflow.lock import Locking, load, lock_project
from afenv.workflow.project import Project, choose_environment


@record
class Tracing:
    """What is embedded by the trace of one entry: all paths, and those that were not traced before."""

    path: str
    paths: tuple[str, ...]
    added: tuple[str, ...]
    files: int
    size: int

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv cvmfs trace --json`` prints."""
        return {
            "path": self.path,
            "paths": list(self.paths),
            "added": list(self.added),
            "files": self.files,
            "size": self.size,
        }


def trace_project(
    project: Project, *, environment: str | None, command: str | None, allow_dirty: bool = False
) -> list[Tracing]:
    """Trace a command, or those of the manifest, in an environment's image, and write the lock.

    E014 if the environment traces nothing; E031; others as of
    :func:`afenv.workflow.cvmfs_build.with_results`.
    """
    name = choose_environment(load(project), environment)
    lock, _ = lock_project(project, Locking(allow_dirty=allow_dirty))
    before = lock.environments[name].cvmfs
    if not any(one.delivery == TRACE for one in before):
        raise AfenvError(
            "E014",
            f"environment {name} traces nothing",
            place=str(project.manifest_path),
            remedy="Add an entry with `delivery: trace` to its section cvmfs.",
        )
    created = image_time(project, lock)
    if command is None:  # again, whatever the lock has
        again = tuple(replace(one, traced=None, parts=()) if one.delivery == TRACE else one for one in before)
        changed = replace(lock.environments[name], cvmfs=again)
        lock = replace(lock, environments={**lock.environments, name: changed})

    def write(environment: LockedEnvironment) -> list[Layer]:
        return write_layers(
            environment,
            lock.code,
            project.store,
            project.settings,
            fetcher=Fetcher(project.store, project.settings, quiet=project.quiet),
            folder=project.folder,
            mtime=created,
            quiet=project.quiet,
            base=base_opener(project, environment),
        )

    with project.store.in_use():
        lock = with_results(project, lock, name, created, write, keep=False, command=command)
        project.store.sync()
    write_lock(project.lock_path, lock)
    return [
        _tracing(one, old)
        for one, old in zip(lock.environments[name].cvmfs, before, strict=True)
        if one.delivery == TRACE
    ]


def _tracing(entry: LockedCvmfs, old: LockedCvmfs) -> Tracing:
    paths = entry.traced.paths if entry.traced is not None else ()
    known = set(old.traced.paths) if old.traced is not None else set()
    return Tracing(
        path=entry.path,
        paths=paths,
        added=tuple(path for path in paths if path not in known),
        files=sum(part.files for part in entry.parts),
        size=sum(part.size for part in entry.parts),
    )
