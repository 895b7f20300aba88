"""What a command reads of CVMFS, found by running it, closed, and proven by running it with that alone.

Where the repository is not mounted, the command runs on files that were written from a stratum, and the file
system itself tells by access times which of them it read. Where it is mounted, the client's own trace file
tells if the host keeps one (``AFENV_CVMFS_TRACEFILE``), else strace.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from afenv import canonical
from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.closure import closure, closure_of_files
from afenv.cvmfs.materialise import tells_reads, was_read
from afenv.cvmfs.tree import Snapshot
from afenv.digest import sha256_bytes
from afenv.documents.cvmfs import LockedCvmfs, LockedCvmfsResult
from afenv.errors import AfenvError
from afenv.run.tracing import Traced, named_in, parse_client_trace, parse_strace, strace_command
from afenv.workflow.cvmfs_closing import close_over
from afenv.workflow.cvmfs_run import Ran, find_strace, is_mounted, run_with, tree_of
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work

FORM = 1  # of how a command is traced; counted up when that changes
ROUNDS = 8  # how often what was missing is added
SHOWN = 10  # paths that are named


def trace_inputs(entry: LockedCvmfs, work: Work) -> str:
    """The digest of all that a trace depends on."""
    value = [FORM, entry.path, entry.root_hash, entry.run, list(work.below), dict(work.variables)]
    return sha256_bytes(canonical.compact([*value, work.folder, work.user]))


def trace(
    project: Project,
    entry: LockedCvmfs,
    snapshot: Snapshot,
    work: Work,
    command: str,
    log: Path,
    *,
    known: Iterable[str] = (),
    also: Mapping[str, Entry] | None = None,
) -> tuple[str, ...]:
    """The paths that ``command`` reads below the entry's path, and the ``known`` ones, sorted.

    ``also`` is what of the repository is in the image anyway. E147 if the command fails, with all of the path
    or with what was traced; E149 if nothing here can trace.
    """
    log.write_bytes(b"")
    there = dict(also or {})
    words = ("/bin/sh", "-c", command)
    read = _first(project, entry, snapshot, work, words, log, there) | set(known)
    paths = close_over(snapshot, _present(snapshot, read))
    for _ in range(ROUNDS):
        ran, missed = _alone(project, snapshot, work, words, log, paths, there)
        missing = _present(snapshot, missed) - paths - _covered(snapshot, paths) - set(there)
        if not missing:
            if ran.status:
                raise _failed(command, ran, log, "with what was traced alone")
            break
        _tell(project, snapshot, missing)
        paths |= close_over(snapshot, missing)
    else:
        message = f"after {ROUNDS} runs of {command!r} something is still missing"
        raise AfenvError("E147", message, place=str(log))
    return tuple(sorted(snapshot.mount + path for path in paths))


def _first(
    project: Project,
    entry: LockedCvmfs,
    snapshot: Snapshot,
    work: Work,
    words: tuple[str, ...],
    log: Path,
    there: dict[str, Entry],
) -> set[str]:
    """What is read of the whole, as absolute paths."""
    target = snapshot.mount
    here = is_mounted(entry)
    if here is not None:
        return _on_mount(project, entry, work, words, log, here)
    entries = dict(
        sorted((closure(snapshot, snapshot.inside(entry.path), view=entry.view).entries | there).items())
    )
    with tree_of(project, snapshot, entries) as tree:
        if tells_reads(tree.parent) and os.environ.get("AFENV_CVMFS_TRACER") != "strace":
            ran = run_with(project, work, words, binds=[(tree, target)], log=log)
            read = {target + path for path in was_read(tree, entries)}
        else:
            ran, traced = _under_strace(project, work, words, [(tree, target)], log)
            read = traced.read
    if ran.status:
        raise _failed(words[-1], ran, log, "with all of the path")
    return read


def _on_mount(
    project: Project, entry: LockedCvmfs, work: Work, words: tuple[str, ...], log: Path, here: Path
) -> set[str]:
    binds = [(here, f"/cvmfs/{entry.repository}")]
    file = os.environ.get("AFENV_CVMFS_TRACEFILE", "").replace("@fqrn@", entry.repository)
    if file:
        start = _flushed(entry.repository, file)
        ran = run_with(project, work, words, binds=binds, log=log)
        end = _flushed(entry.repository, file)
        with open(file, "rb") as opened:  # noqa: PTH123
            opened.seek(start)
            text = opened.read(max(end - start, 0)).decode("utf-8", "replace")
        read = parse_client_trace(text, entry.repository)
    else:
        ran, traced = _under_strace(project, work, words, binds, log)
        read = traced.read
    if ran.status:
        raise _failed(words[-1], ran, log, "with CVMFS as it is mounted")
    return read


def _flushed(repository: str, file: str) -> int:
    """Let the client write its trace out; the size of the file then. E149."""
    try:
        subprocess.run(
            ("cvmfs_talk", "-i", repository, "tracebuffer", "flush"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        return Path(file).stat().st_size
    except (OSError, subprocess.SubprocessError) as error:
        raise AfenvError("E149", f"the client's trace cannot be read: {error}", place=file) from None


def _under_strace(
    project: Project, work: Work, words: tuple[str, ...], binds: list[tuple[Path, str]], log: Path
) -> tuple[Ran, Traced]:
    strace = find_strace()
    if strace is None:
        raise AfenvError("E149", "this host notes no reads, and strace is not installed")
    calls = project.store.temporary_folder() / f"strace-{os.urandom(6).hex()}"
    try:
        ran = run_with(project, work, words, binds=binds, log=log, around=strace_command(strace, str(calls)))
        with calls.open("r", encoding="utf-8", errors="surrogateescape") as lines:
            return ran, parse_strace(lines)
    except FileNotFoundError:
        raise AfenvError("E149", "strace left no log; see its words", place=str(log)) from None
    finally:
        calls.unlink(missing_ok=True)


def _alone(
    project: Project,
    snapshot: Snapshot,
    work: Work,
    words: tuple[str, ...],
    log: Path,
    paths: set[str],
    there: dict[str, Entry],
) -> tuple[Ran, set[str]]:
    """Run with what was traced, where there is no CVMFS; and what was looked for in vain."""
    entries = closure_of_files(snapshot, sorted(paths)).entries | there
    with tree_of(project, snapshot, dict(sorted(entries.items()))) as tree:
        binds = [(tree, snapshot.mount)]
        if find_strace() is not None:
            ran, traced = _under_strace(project, work, words, binds, log)
            return ran, traced.missed
        ran = run_with(project, work, words, binds=binds, log=log)
    return ran, named_in(ran.said) if ran.status else set()


def _present(snapshot: Snapshot, paths: Iterable[str]) -> set[str]:
    """Those of the absolute paths that are files or links of the repository, as paths in it."""
    found = set()
    for path in paths:
        if not path.startswith(snapshot.mount + "/"):
            continue
        inside = path[len(snapshot.mount) :]
        try:
            entry = None if "/.." in inside else snapshot.find(inside)
            if entry is not None and entry.kind == "f":
                found.add(inside)
                continue
            if entry is not None and entry.kind == "l":
                found.add(inside)
            if entry is None or entry.kind == "l":  # there may be other links on the way
                place = snapshot.resolve(inside)
                if place.entry.kind == "f":
                    found |= {place.path, *place.links}
        except AfenvError as error:
            if error.code != "E142":
                raise
    return found


def _covered(snapshot: Snapshot, paths: Iterable[str]) -> set[str]:
    return set(closure_of_files(snapshot, sorted(paths)).entries)


def _tell(project: Project, snapshot: Snapshot, missing: set[str]) -> None:
    if project.quiet:
        return
    names = [snapshot.mount + path for path in sorted(missing)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    sys.stderr.write(f"missing without CVMFS, and added: {', '.join(names[:SHOWN])}{more}\n")


def _failed(command: str, ran: Ran, log: Path, when: str) -> AfenvError:
    lines = ran.said.strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    message = f"{shlex.quote(command)[:120]} failed {when}, with exit status {ran.status}{last}"
    return AfenvError("E147", message, place=str(log))


def result_of(entry: LockedCvmfs, work: Work, paths: tuple[str, ...]) -> LockedCvmfsResult:
    """What the lock has of a trace."""
    return LockedCvmfsResult(inputs=trace_inputs(entry, work), paths=paths)
