"""``afenv select``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say


def run(options: Namespace) -> int:
    """Rank a catalogue's images for a facility; 0 if one runs there, 1 if none does."""
    from afenv.catalogue.rank import Wanted, rank
    from afenv.catalogue.sources import open_catalogue
    from afenv.documents.facility_file import read_facility_cached
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.catalogue_place import place_of, trusted_keys
    from afenv.workflow.select import as_json, as_text, plain, strictly

    folder = options.folder_of_analysis
    settings = load_settings(offline=options.offline)
    store = ContentStore(settings.cache_folder)
    opened = open_catalogue(
        place_of(options.catalogue, folder),
        trusted_keys(options.trust, folder),
        store,
        offline=settings.offline,
    )
    for remark in opened.remarks:
        say(f"warning: {plain(remark)}", quiet=options.quiet)
    wanted = Wanted(
        name=options.name, environment=options.environment, gpu=options.gpu, network=options.network
    )
    found = rank(opened.catalogue, read_facility_cached(folder / options.facility, store), wanted)
    if options.strict:
        found = strictly(found)
    if options.json:
        print_json(as_json(found, opened.catalogue.digest, every=options.all))
    elif options.quiet:
        for one, _ in found.newest():
            print(plain(one.record.exact))
    else:
        for line in as_text(found, every=options.all):
            print(line)
    return 0 if found.candidates else 1
