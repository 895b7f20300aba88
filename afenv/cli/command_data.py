"""``afenv data``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.data.check import CheckedFile
from afenv.errors import AfenvError
from afenv.workflow.data import (
    Pinned,
    check_project,
    data_json,
    describe_data,
    facility_of,
    fetch_project,
    locked_references,
    pin_project,
)
from afenv.workflow.project import open_project

MARKS = {"alive": "✓", "changed": "✗", "lost": "✗", "unreached": "?"}


def run(options: Namespace) -> int:
    """List, pin, check or fetch the data of the manifest."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    file = options.facility
    facility = facility_of(options.folder_of_analysis / file if file is not None else None)
    names: list[str] = options.names
    for option, action in (("again", "pin"), ("no_keep", "pin"), ("deep", "check"), ("output", "fetch")):
        if getattr(options, option) and options.action != action:
            raise AfenvError("E030", f"--{option.replace('_', '-')} goes with `afenv data {action}`")
    if options.action == "pin":
        keep = not options.no_keep
        return _pinned(
            options, pin_project(project, names, facility=facility, again=options.again, keep=keep)
        )
    if options.action == "check":
        return _checked(options, check_project(project, names, facility=facility, deep=options.deep))
    if options.action == "fetch":
        output = options.folder_of_analysis / options.output if options.output is not None else None
        fetched = fetch_project(project, names, facility=facility, output=output)
        loose = [data.name for data, _ in fetched if not data.pinned]
        if loose:
            say(f"not pinned, so not proven to be the same: {', '.join(loose)}", quiet=options.quiet)
        if options.json:
            print_json(
                [data_json(data) | {"paths": [str(path) for path in paths]} for data, paths in fetched]
            )
        else:
            print("\n".join(str(path) for _, paths in fetched for path in paths))
        return 0
    found = locked_references(project, names)
    if options.json:
        print_json([data_json(data) for data in found])
    else:
        print("\n".join(describe_data(data) for data in found) or "the manifest names no data")
    return 0


def _pinned(options: Namespace, pinned: Pinned) -> int:
    if options.json:
        print_json([data_json(data) for data in pinned.data])
    else:
        say("the lock is written" if pinned.changed else "the lock is up to date", quiet=options.quiet)
        print("\n".join(describe_data(data) for data in pinned.data) or "nothing was pinned")
    if pinned.problems:
        raise AfenvError.many(sorted(pinned.problems, key=lambda one: one.code != "E641"))
    return 0


def _checked(options: Namespace, found: list[CheckedFile]) -> int:
    """0 if all is well, 1 if something is changed or lost, 4 if something was only not reached."""
    if options.json:
        print_json([one.as_json() for one in found])
    else:
        for one in found:
            compared = sorted({what for replica in one.replicas for what in replica.compared})
            by = f" ({', '.join(compared)})" if one.state == "alive" and compared else ""
            print(f"{MARKS[one.state]} {one.name}: {one.path} is {_words(one.state)}{by}")
            for replica in one.replicas:
                if replica.state != "alive":
                    print(f"    {replica.as_json()['uri']}: {_words(replica.state)}, {replica.detail}")
        if not found:
            print("the manifest names no data")
    states = {one.state for one in found}
    return 1 if states & {"changed", "lost"} else 4 if "unreached" in states else 0


def _words(state: str) -> str:
    return "not reached" if state == "unreached" else state
