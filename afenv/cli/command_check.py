"""``afenv check``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json


def run(options: Namespace) -> int:
    """Say whether it will run at a facility; 0 if it does, degraded or not, and 1 if it cannot."""
    from afenv.documents.facility_file import read_facility
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.check import as_text, check

    folder = options.folder_of_analysis
    found = check(
        folder / options.target,
        read_facility(folder / options.facility),
        ContentStore(load_settings(offline=options.offline).cache_folder),
        environment=options.environment,
        network=options.network,
        content=not options.no_content,
        quiet=options.quiet or options.json,
    )
    if options.json:
        print_json([one.as_json() for one in found])
    else:
        print("\n".join(as_text(one) for one in found))
    refused = any(one.outcome == "cannot" or (options.strict and one.unknown) for one in found)
    return 1 if refused else 0
