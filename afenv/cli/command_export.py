"""``afenv export``."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from afenv.cli.output import say
from afenv.cli.parser_export import ENGINES

if TYPE_CHECKING:
    from afenv.workflow.project import Project


def run(options: Namespace) -> int:
    """Write the steps for an engine, or the lock in the format of another tool."""
    from afenv.workflow.project import open_project

    _check(options)
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    return _steps(project, options) if options.format in ENGINES else _lock(project, options)


def _check(options: Namespace) -> None:
    from afenv.errors import AfenvError

    steps = options.format in ENGINES
    wrong = {
        "--form": bool(options.form) and options.format != "reana",
        "--kerberos": options.kerberos and options.format not in ("reana", "recast"),
        "--image": bool(options.image) and not steps,
        "--param": bool(options.param) and not steps,
        "-e": bool(options.environment) and steps,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise AfenvError("E030", f"{name} has no meaning for {options.format}", place=name)


def _steps(project: Project, options: Namespace) -> int:
    from afenv.workflow.export_steps import ExportOptions, export_steps

    output = options.folder_of_analysis / options.output if options.output else None
    asked = ExportOptions(
        engine=options.format,
        form=options.form or "serial",
        images=tuple(options.image),
        parameters=tuple(options.param),
        kerberos=options.kerberos,
        output=output,
    )
    folder, warnings = export_steps(project, asked)
    for sentence in warnings:
        say(f"warning: {sentence}", quiet=options.quiet)
    print(folder)
    return 0


def _lock(project: Project, options: Namespace) -> int:
    from afenv.store.failures import write_error
    from afenv.workflow.export import export_project

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
