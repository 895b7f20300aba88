"""``afenv verify``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json
from afenv.errors import AfenvError


def run(options: Namespace) -> int:
    """Verify an image; 0 if all is well, 1 if something is missing or forbidden, 5 if something is wrong."""
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.verify import verify

    folder = options.folder_of_analysis
    if options.offline and not (folder / options.image).exists():
        raise AfenvError("E030", "an image in a registry needs a connection: it does not go with --offline")
    keyless = None
    if options.identity:
        from afenv.attest.keyless import KeylessVerifier

        keyless = KeylessVerifier(options.identity, options.issuer)
    report = verify(
        options.image,
        folder,
        ContentStore(load_settings(offline=options.offline).cache_folder),
        keys=[folder / key for key in options.key],
        policy=folder / options.policy if options.policy else None,
        keyless=keyless,
        content=not options.no_content,
        platform=options.platform,
        quiet=options.quiet,
    )
    if options.json:
        print_json(report.as_json())
    else:
        print(report.as_text())
    return report.exit_status
