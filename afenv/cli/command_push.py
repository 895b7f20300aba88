"""``afenv push``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.workflow.push import push_layout


def run(options: Namespace) -> int:
    """Push an image, images for several platforms, a SIF, a lock or a manifest to a registry."""
    if options.offline:
        raise AfenvError("E030", "pushing needs a connection: it does not go with --offline")
    path = options.folder_of_analysis / options.image
    pushed = _push_other(path, options)
    if pushed is None:
        from afenv.workflow.pushed import note_pushed

        pushed = _push_image(path, options)
        note_pushed(options.folder_of_analysis, options.reference, pushed)
    if options.json:
        print_json({"reference": options.reference, "manifest_digest": pushed})
    else:
        say(f"pushed {options.reference}", quiet=options.quiet)
        print(pushed)
    return 0


def _push_other(path: Path, options: Namespace) -> str | None:
    from afenv.workflow.push_other import holds_one_image, push_other

    if holds_one_image(path):
        return None
    return push_other(
        path,
        options.reference,
        quiet=options.quiet,
        mount_from=options.mount_from,
        signed=bool(options.sign),
    )


def _push_image(path: Path, options: Namespace) -> str:
    signer = None
    if options.sign:
        from afenv.workflow.sign import file_signer

        signer = file_signer(options.folder_of_analysis / options.sign)
    return push_layout(
        path,
        options.reference,
        quiet=options.quiet,
        attach=not options.no_attach,
        signer=signer,
        mount_from=options.mount_from,
    )
