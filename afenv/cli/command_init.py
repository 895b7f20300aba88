"""``afenv init``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import say
from afenv.workflow.init import draft_manifest, init


def run(options: Namespace) -> int:
    """Write afenv.yaml, or print it."""
    folder = options.folder_of_analysis
    if options.stdout:
        print(draft_manifest(folder), end="")
        return 0
    path = init(folder)
    say(f"wrote {path}; look at its comments, then run: afenv lock", quiet=options.quiet)
    return 0
