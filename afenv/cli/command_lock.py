"""``afenv lock``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.digest import sha256_file
from afenv.documents.lock import Lock
from afenv.errors import AfenvError
from afenv.progress import counted
from afenv.workflow.lock import Locking, check_lock, lock_project, parse_time
from afenv.workflow.project import Project, open_project


def run(options: Namespace) -> int:
    """Check the lock or bring it up to date."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    if options.check:
        if options.update or options.upgrade or options.as_of:
            raise AfenvError(
                "E030", "--check changes nothing: it goes with none of --update, --upgrade, --as-of"
            )
        lock = check_lock(project, allow_dirty=options.allow_dirty)
        _show(options, project, lock, "fits the manifest and the code")
        return 0
    how = Locking(
        update=frozenset(options.update),
        upgrade=options.upgrade,
        as_of=parse_time(options.as_of) if options.as_of else None,
        allow_dirty=options.allow_dirty,
        solver=options.solver,
    )
    lock, changed = lock_project(project, how)
    _show(options, project, lock, "written" if changed else "is up to date")
    return 0


def _show(options: Namespace, project: Project, lock: Lock, verdict: str) -> None:
    environments = {
        name: {
            "base": environment.base.reference if environment.base else None,
            "debs": len(environment.debs),
            "conda": len(environment.conda),
            "wheels": len(environment.wheels),
            "as-of": environment.as_of,
        }
        for name, environment in lock.environments.items()
    }
    if options.json:
        print_json(
            {
                "lock": str(project.lock_path),
                "digest": sha256_file(project.lock_path),
                "environments": environments,
                "data": {data.name: {"files": len(data.files), "pinned": data.pinned} for data in lock.data},
            }
        )
        return
    say(f"{project.lock_path} {verdict}", quiet=options.quiet)
    loose = [data.name for data in lock.data if not data.pinned]
    if loose:
        say(f"  not pinned: {', '.join(loose)} (`afenv data pin` does that)", quiet=options.quiet)
    for name, one in lock.environments.items():
        base = f"on {one.base.reference}, " if one.base else ""
        conda = f"{counted(len(one.conda), 'conda package')}, " if one.conda else ""
        debs, wheels = counted(len(one.debs), "Debian package"), counted(len(one.wheels), "wheel")
        say(f"  {name}: {base}{debs}, {conda}{wheels}, as of {one.as_of}", quiet=options.quiet)
