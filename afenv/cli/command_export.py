"""``afenv export``."""

from __future__ import annotations

import sys
from argparse import Namespace

from afenv.cli.output import say
from afenv.store.failures import write_error
from afenv.workflow.export import export_project
from afenv.workflow.project import open_project


def run(options: Namespace) -> int:
    """Write the lock in the format of another tool."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    data = export_project(project, options.format, options.environment)
    if options.output is None:
        sys.stdout.buffer.write(data)
        return 0
    try:
        options.output.write_bytes(data)
    except OSError as error:
        raise write_error(error, options.output) from error
    say(f"{options.output} written", quiet=options.quiet)
    return 0
