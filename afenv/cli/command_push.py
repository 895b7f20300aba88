"""``afenv push``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.workflow.build import push_layout
from afenv.workflow.project import open_project


def run(options: Namespace) -> int:
    """Push an image layout to a registry."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    pushed = push_layout(project, options.image, options.reference)
    if options.json:
        print_json({"reference": options.reference, "manifest_digest": pushed})
    else:
        say(f"pushed {options.reference}", quiet=options.quiet)
        print(pushed)
    return 0
