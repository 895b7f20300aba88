"""``afenv cvmfs``."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from afenv.cli.output import print_json

if TYPE_CHECKING:
    from afenv.cvmfs.tree import Snapshot

PUBLISHING = ("publish", "list", "remove", "gc")


def run(options: Namespace) -> int:
    """Do what the action says."""
    if options.action in PUBLISHING:
        from afenv.cli import publishing

        return int(getattr(publishing, f"run_{options.action}")(options))
    if options.action == "trace":
        return _trace(options)
    return _look(options)


def _look(options: Namespace) -> int:
    """Show what a repository has published, what is in a folder, or a file's content."""
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow import cvmfs

    settings = load_settings(offline=options.offline)
    store = ContentStore(settings.cache_folder)
    if options.action == "info":
        found = cvmfs.info(options.target, store, settings)
        if options.json:
            print_json(found)
            return 0
        print(f"{found['repository']}: revision {found['revision']} of {found['timestamp']}")
        print(f"  root hash {found['root-hash']}")
        if found["mounted"]:
            print(f"  mounted here at revision {found['mounted']['revision']}")
        for tag in found["tags"]:
            print(f"  tag {tag['name']}: revision {tag['revision']}, {tag['root-hash']}")
        return 0
    snapshot = cvmfs.open_snapshot(
        options.target, store, settings, tag=options.tag, root_hash=options.root_hash
    )
    if options.action == "get":
        return _get(options, snapshot)
    entries = list(cvmfs.listing(snapshot, options.target))
    if options.json:
        print_json(entries)
        return 0
    marks = {"folder": "d", "file": "-", "link": "l", "special": "s"}
    for entry in entries:
        arrow = f" -> {entry['target']}" if "target" in entry else ""
        print(f"{marks[entry['kind']]} {entry['mode']} {entry['size']:>10} {entry['path']}{arrow}")
    return 0


def _trace(options: Namespace) -> int:
    """Trace a command, and put what it reads into the lock."""
    import shlex

    from afenv.progress import counted, human_size
    from afenv.workflow.cvmfs_tracing import trace_project
    from afenv.workflow.project import open_project

    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    command = shlex.join(options.arguments) if options.arguments else None
    found = trace_project(
        project, environment=options.environment, command=command, allow_dirty=options.allow_dirty
    )
    if options.json:
        print_json([entry.as_json() for entry in found])
        return 0
    for entry in found:
        found_of = f"{counted(len(entry.paths), 'path')}, {counted(entry.files, 'file')}"
        print(f"{entry.path}: {found_of}, {human_size(entry.size)}")
        for path in entry.added:
            print(f"  {path}")
    return 0


def _get(options: Namespace, snapshot: Snapshot) -> int:
    from afenv.errors import AfenvError
    from afenv.store.content import write_error

    found = snapshot.resolve(snapshot.inside(options.target))
    if found.entry.kind != "f":
        raise AfenvError("E142", f"{options.target} is not a file")
    if options.output is None:
        for piece in snapshot.read(found.entry):
            sys.stdout.buffer.write(piece)
        return 0
    output = options.folder_of_analysis / options.output
    try:
        with output.open("wb") as file:
            for piece in snapshot.read(found.entry):
                file.write(piece)
    except OSError as error:
        raise write_error(error, output) from error
    return 0
