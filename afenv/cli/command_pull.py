"""``afenv pull``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.workflow.pull import pull


def run(options: Namespace) -> int:
    """Bring an image, a SIF or files from a registry."""
    settings = load_settings(offline=options.offline)
    if settings.offline:
        raise AfenvError("E030", "pulling needs a connection: it does not go with --offline")
    folder = options.folder_of_analysis
    pulled = pull(
        options.reference,
        folder,
        folder / options.output if options.output else None,
        ContentStore(settings.cache_folder),
        platform=options.platform,
        all_platforms=options.all_platforms,
        quiet=options.quiet,
    )
    if options.json:
        print_json(pulled.as_json())
        return 0
    for path in pulled.paths:
        say(f"pulled {pulled.reference} to {path}", quiet=options.quiet)
    print(pulled.image_id or pulled.digest)
    return 0
