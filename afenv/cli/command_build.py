"""``afenv build``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.progress import human_size
from afenv.workflow.build import Built, build_project
from afenv.workflow.project import open_project


def run(options: Namespace) -> int:
    """Build the images, write them, and say what they are."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    built = build_project(
        project,
        environment=options.environment,
        output=options.folder_of_analysis / options.output if options.output else None,
        target=options.target,
        locked=options.locked,
        allow_dirty=options.allow_dirty,
        check=options.check,
        push=options.push,
    )
    if options.json:
        print_json([one.as_json() for one in built])
        return 0
    for one in built:
        show(one, quiet=options.quiet)
    return 0


def show(built: Built, *, quiet: bool) -> None:
    """What was built, for people: the identity on standard output, the rest beside it."""
    size = sum(layer.size for layer in built.image.layers)
    say(
        f"{built.environment}: {len(built.image.layers)} layers, {human_size(size)}, in {built.path}",
        quiet=quiet,
    )
    if built.pushed:
        say(f"  pushed as {built.pushed}", quiet=quiet)
    print(built.image.image_id)
