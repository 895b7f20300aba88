"""The setup script of a view, evaluated once: what it sets becomes the image's environment.

It is sourced in the sandbox, by the image's shell, with the variables of the image. So starting a command in
the image costs nothing, and needs no shell.
"""

from __future__ import annotations

from pathlib import Path

from afenv import canonical
from afenv.cvmfs.closure import SETUP, closure
from afenv.cvmfs.tree import Snapshot
from afenv.digest import sha256_bytes
from afenv.documents.cvmfs import MOUNT, LockedCvmfs, LockedCvmfsResult
from afenv.errors import AfenvError
from afenv.record import replace
from afenv.workflow.cvmfs_run import is_mounted, run_with, tree_of
from afenv.workflow.project import Project
from afenv.workflow.sandbox import Work

FORM = 1  # of how a script is evaluated; counted up when that changes
_RESULT = "afenv-environment"
_SHELL = 'if command -v bash >/dev/null; then exec bash -c "$0" "$@"; else exec /bin/sh -c "$0" "$@"; fi'
_SOURCE = f'set --; . "$AFENV_SETUP" || exit; unset AFENV_SETUP; cat /proc/self/environ >/tmp/{_RESULT}'
_PLAIN = f"unset AFENV_SETUP; cat /proc/self/environ >/tmp/{_RESULT}"
# what a shell sets by itself, and what differs between places
_PASSED_OVER = ("_", "PWD", "OLDPWD", "SHLVL", "HOME", "TMPDIR", "HOSTNAME", "AFENV_SETUP", "BASH_ENV", "ENV")


def setup_inputs(entry: LockedCvmfs, work: Work) -> str:
    """The digest of all that a setup script's result depends on."""
    value = [FORM, entry.path, entry.root_hash, entry.delivery == MOUNT, list(work.below)]
    return sha256_bytes(canonical.compact([*value, dict(work.variables), work.user]))


def evaluate(
    project: Project, entry: LockedCvmfs, snapshot: Snapshot, work: Work, log: Path
) -> LockedCvmfsResult:
    """What the view's setup script sets, beyond the variables that the image has; none without a script.

    E146 if it fails, or if the image has no shell.
    """
    inputs = setup_inputs(entry, work)
    place = snapshot.resolve(snapshot.inside(entry.path))
    if snapshot.find(f"{place.path}/{SETUP}") is None:
        return LockedCvmfsResult(inputs=inputs)
    before, after = _environments(project, entry, snapshot, work, log)
    found = {
        name: value
        for name, value in sorted(after.items())
        if before.get(name) != value and name not in _PASSED_OVER and not name.startswith("BASH_FUNC_")
    }
    return LockedCvmfsResult(inputs=inputs, variables=found)


def _environments(
    project: Project, entry: LockedCvmfs, snapshot: Snapshot, work: Work, log: Path
) -> tuple[dict[str, str], dict[str, str]]:
    target = snapshot.mount
    here = is_mounted(entry)
    if here is not None:
        binds = [(here, target)]
        return _run(project, entry, work, log, binds, _PLAIN), _run(project, entry, work, log, binds, _SOURCE)
    found = closure(snapshot, snapshot.inside(entry.path), view=True)
    # scripts look at links and at whether files are there, hardly ever into them
    with tree_of(project, snapshot, found.entries, stubs=True) as tree:
        binds = [(tree, target)]
        return _run(project, entry, work, log, binds, _PLAIN), _run(project, entry, work, log, binds, _SOURCE)


def _run(
    project: Project,
    entry: LockedCvmfs,
    work: Work,
    log: Path,
    binds: list[tuple[Path, str]],
    script: str,
) -> dict[str, str]:
    path = f"{entry.path}/{SETUP}"
    with_path = replace(work, variables={**work.variables, "AFENV_SETUP": path})
    ran = run_with(project, with_path, ("/bin/sh", "-c", _SHELL, script), binds=binds, log=log, keep=_RESULT)
    content = ran.left.get(_RESULT)
    if ran.status or content is None:
        lines = ran.said.strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        raise AfenvError("E146", f"{path} failed with exit status {ran.status}{last}", place=str(log))
    pairs = (item.partition(b"=") for item in content.split(b"\0"))
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, equals, value in pairs
        if equals and name
    }
