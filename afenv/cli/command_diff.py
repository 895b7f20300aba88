"""``afenv diff``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json
from afenv.oci.diff import diff


def run(options: Namespace) -> int:
    """Show what differs; 0 if nothing does, 1 if something does."""
    found = diff(options.folder_of_analysis / options.a, options.folder_of_analysis / options.b)
    if options.json:
        print_json(found.as_json())
    else:
        print(found.as_text())
    return 1 if found.differs else 0
