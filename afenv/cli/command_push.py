"""``afenv push``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.workflow.push import push_layout


def run(options: Namespace) -> int:
    """Push an image layout to a registry."""
    if options.offline:
        raise AfenvError("E030", "pushing needs a connection: it does not go with --offline")
    signer = None
    if options.sign:
        from afenv.workflow.sign import file_signer

        signer = file_signer(options.folder_of_analysis / options.sign)
    pushed = push_layout(
        options.folder_of_analysis / options.image,
        options.reference,
        quiet=options.quiet,
        attach=not options.no_attach,
        signer=signer,
    )
    if options.json:
        print_json({"reference": options.reference, "manifest_digest": pushed})
    else:
        say(f"pushed {options.reference}", quiet=options.quiet)
        print(pushed)
    return 0
