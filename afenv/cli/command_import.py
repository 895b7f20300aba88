"""``afenv import``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import say
from afenv.errors import AfenvError
from afenv.progress import counted


def run(options: Namespace) -> int:
    """Write a manifest that was drafted from another engine's workflow, or print it."""
    from afenv.documents.manifest import FILE_NAME
    from afenv.workflow.import_draft import import_workflow
    from afenv.workflow.init import write_manifest

    folder = options.folder_of_analysis
    path = folder / FILE_NAME
    if not options.stdout and path.exists():
        remedy = "Edit it, or move it away; `afenv import --stdout FILE` prints a draft and writes nothing."
        raise AfenvError("E032", f"{FILE_NAME} exists already", place=str(path), remedy=remedy)
    text = import_workflow(folder / options.file)
    if options.stdout:
        print(text, end="")
        return 0
    write_manifest(path, text)
    left = text.count("\n# TODO: ")
    say(f"wrote {path}; {counted(left, 'thing')} left to do, see its comments", quiet=options.quiet)
    return 0
