"""``afenv inspect``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json
from afenv.oci.inspect import inspect_image


def run(options: Namespace) -> int:
    """Show an image."""
    found = inspect_image(options.folder_of_analysis / options.image)
    if options.json:
        print_json(found.as_json())
    else:
        print(found.as_text())
    return 0
