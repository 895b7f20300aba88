"""``afenv key``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.workflow.sign import make_key


def run(options: Namespace) -> int:
    """Make a key, or show a public one."""
    path = options.folder_of_analysis / options.file
    if options.action == "generate":
        result = make_key(path, kind=options.kind, encrypted=not options.no_password)
        if not options.json:
            say(f"wrote {result['private']} and {result['public']}", quiet=options.quiet)
    else:
        from afenv.attest.keys import read_public

        key = read_public(path)
        result = {"public": str(path), "identity": key.identity}
    if options.json:
        print_json(result)
    else:
        print(result["identity"])
    return 0
