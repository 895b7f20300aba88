"""``afenv restore``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json


def run(options: Namespace) -> int:
    """Restore an image, or files, from a bag, and say where it is."""
    from afenv.documents.facility_file import read_facility
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.archive_restore import restore

    folder = options.folder_of_analysis
    settings = load_settings(offline=options.offline)
    done = restore(
        folder / options.bag,
        to=options.to,
        folder=folder,
        store=ContentStore(settings.cache_folder),
        settings=settings,
        environment=options.environment,
        output=options.output,
        only=options.only,
        facility=read_facility(folder / options.facility) if options.facility else None,
        rebuild=options.rebuild,
        quiet=options.quiet or options.json,
    )
    if options.json:
        print_json(done.as_json())
    else:
        shown = f"  {done.image_id}" if done.image_id else ""
        print(f"{done.form}  {done.path}{shown}")
    return 0
