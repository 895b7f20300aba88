"""``afenv run``."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from afenv.run.container import plan_run, run_image
from afenv.workflow.build import build_project
from afenv.workflow.lock import load
from afenv.workflow.project import choose_environment, open_project


def run(options: Namespace) -> int:
    """Build what is not built, and run the command there; its exit status is ours."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    environment = choose_environment(load(project), options.environment)
    (built,) = build_project(
        project, environment=environment, locked=options.locked, allow_dirty=options.allow_dirty
    )
    workdir = options.folder_of_analysis.absolute() if options.folder_of_analysis != Path() else Path.cwd()
    interactive = sys.stdin is not None and sys.stdin.isatty()
    plan = plan_run(
        built.image,
        project.store,
        options.arguments,
        workdir=workdir,
        runtime=options.runtime,
        interactive=interactive,
        load=not options.dry_run,
    )
    if options.dry_run:
        print(shlex.join(plan.command_line))
        return 0
    return run_image(plan)
