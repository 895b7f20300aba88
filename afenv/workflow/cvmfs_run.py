"""Running something of an environment's image with a part of CVMFS at its place, in the sandbox."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.configuration import configure
from afenv.cvmfs.materialise import materialise
from afenv.cvmfs.mounted import attributes
from afenv.cvmfs.repository import mounted_state
from afenv.cvmfs.tree import Snapshot
from afenv.documents.cvmfs import LockedCvmfs
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record
from afenv.run import shrinkwrap
from afenv.run.sandbox import Inside, run_inside, sandbox_root
from afenv.run.sandbox_limits import load_limits
from afenv.run.sandbox_watch import Output
from afenv.store.trees import remove_tree
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work


@record
class Ran:
    """How a command ended: its exit status, the end of its output, and files that it left in ``/tmp``."""

    status: int
    said: str
    left: Mapping[str, bytes]


def run_with(
    project: Project,
    work: Work,
    command: Sequence[str],
    *,
    binds: Sequence[tuple[Path, str]],
    log: Path,
    around: Sequence[str] = (),
    keep: str | None = None,
) -> Ran:
    """Run one command on the files of an image, with folders of the host at some places.

    If ``work`` has a command, its words come first: those that activate an environment.
    What it changes is dropped; ``keep`` names a file in ``/tmp`` whose content is wanted. E411, E520, E521.
    """
    inside = Inside(
        variables=work.variables,
        folder=work.folder,
        user=work.user,
        group=work.group,
        binds=tuple(binds),
        around=tuple(around),
    )
    folders = [work.folder, work.variables["HOME"], *(target for _, target in binds)]
    with sandbox_root(work.lowers, project.store, folders=folders) as root, log.open("ab") as file:
        output = Output(log=file)
        words = (*(work.commands[0] if work.commands else ()), *command)
        outcome = run_inside(root, words, inside, load_limits(root.work), output)
        if outcome.broken:
            raise AfenvError("E411", f"{command[-1][:80]!r} was stopped: {outcome.broken}", place=str(log))
        left = {}
        if keep is not None:
            with contextlib.suppress(OSError):
                left[keep] = (root.work / "tmp" / keep).read_bytes()
        return Ran(status=outcome.status or 0, said=bytes(output.tail).decode("utf-8", "replace"), left=left)


@contextlib.contextmanager
def tree_of(
    project: Project, snapshot: Snapshot, entries: Mapping[str, Entry], *, stubs: bool = False
) -> Iterator[Path]:
    """A folder of this host with paths of a repository, for the time of the block.

    ``cvmfs_shrinkwrap`` writes it where it is large and that program is there.
    """
    folder = project.store.temporary_folder() / f"cvmfs-{os.urandom(6).hex()}"
    size = sum(entry.size for entry in entries.values())
    program = shrinkwrap.find() if size >= shrinkwrap.LARGE and not stubs else ()
    try:
        if program:
            found = configure(snapshot.repository, os.environ, mount=attributes(snapshot.repository))
            source = shrinkwrap.Source(
                repository=snapshot.repository,
                root_hash=str(snapshot.root),
                strata=found.strata,
                proxies=found.proxies,
                keys=found.keys,
            )
            jobs = max(1, project.settings.jobs)
            yield shrinkwrap.shrinkwrap(program, source, entries, folder, jobs=jobs)
            return
        with Progress(f"writing {snapshot.mount}", size, quiet=project.quiet or stubs) as progress:
            yield materialise(snapshot, entries, folder, stubs=stubs, done=progress.advance)
    finally:
        if folder.exists():
            remove_tree(folder)


def is_mounted(entry: LockedCvmfs) -> Path | None:
    """The mounted repository, if it is at the revision of the lock."""
    here = mounted_state(entry.repository)
    return Path("/cvmfs") / entry.repository if here and here.root_hash == entry.root_hash else None


def find_strace() -> str | None:
    """The program strace, if it is installed."""
    return shutil.which("strace")
