"""``afenv catalogue``."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.progress import counted

if TYPE_CHECKING:
    from afenv.catalogue.file import Catalogue
    from afenv.workflow.catalogue import Keeper


def run(options: Namespace) -> int:
    """Add, list, remove or refresh images, or write a page; 1 if refreshing finds that one has changed."""
    actions = {"add": _add, "list": _list, "remove": _remove, "refresh": _refresh, "page": _page}
    return actions[options.action](options)


def _keeper(options: Namespace) -> Keeper:
    from afenv.workflow.catalogue import keeper

    if options.offline:
        raise AfenvError("E030", f"{options.action} asks registries: it does not go with --offline")
    named = os.environ.get("AFENV_CATALOGUE_KEY")
    key = options.key or (Path(named).expanduser() if named else None)
    return keeper(
        options.catalogue, options.folder_of_analysis, key=key, trust=options.trust, name=options.name
    )


def _needs_images(options: Namespace) -> None:
    if not options.images:
        raise AfenvError("E030", f"{options.action} needs an IMAGE")


def _said(catalogue: Catalogue) -> dict[str, object]:
    return {
        "name": catalogue.name,
        "serial": catalogue.serial,
        "count": catalogue.count,
        "digest": catalogue.digest,
    }


def _add(options: Namespace) -> int:
    from afenv.catalogue.record_tree import record_tree
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.catalogue import add
    from afenv.workflow.catalogue_record import Beside
    from afenv.workflow.select import plain

    _needs_images(options)
    catalogue, found = add(
        _keeper(options),
        options.images,
        ContentStore(load_settings().cache_folder),
        platforms=options.platform,
        content=options.content,
        beside=Beside(sif=options.sif, cvmfs=options.cvmfs),
        quiet=options.quiet or options.json,
    )
    if options.json:
        print_json(_said(catalogue) | {"added": [record_tree(one) for one in found]})
        return 0
    for one in found:
        print(plain(f"{one.title} {one.exact}"))
    say(f"{counted(catalogue.count, 'image')}, version {catalogue.serial}", quiet=options.quiet)
    return 0


def _remove(options: Namespace) -> int:
    from afenv.workflow.catalogue import remove
    from afenv.workflow.select import plain

    _needs_images(options)
    catalogue, gone = remove(_keeper(options), options.images)
    if options.json:
        print_json(_said(catalogue) | {"removed": gone})
        return 0
    for key in gone:
        print(plain(key))
    say(f"{counted(catalogue.count, 'image')}, version {catalogue.serial}", quiet=options.quiet)
    return 0


def _refresh(options: Namespace) -> int:
    from afenv.settings import load_settings
    from afenv.workflow.catalogue import refresh
    from afenv.workflow.select import plain

    catalogue, found = refresh(
        _keeper(options),
        settings=load_settings(),
        prune=options.prune,
        quiet=options.quiet or options.json,
    )
    odd = [one for one in found if one.state != "same"]
    if options.json:
        images = [
            {"reference": one.record.exact, "state": one.state, **({"found": one.found} if one.found else {})}
            for one in found
        ]
        print_json(_said(catalogue) | {"images": images})
    else:
        for one in odd:
            now = f", the tag names {one.found}" if one.found else ""
            print(plain(f"{one.state}: {one.record.title} {one.record.exact}{now}"))
        say(f"{counted(len(found), 'image')}, {len(odd)} not as they were", quiet=options.quiet)
    return 1 if odd else 0


def _opened(options: Namespace) -> Catalogue:
    from afenv.catalogue.sources import open_catalogue
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.catalogue_place import place_of, trusted_keys
    from afenv.workflow.select import plain

    settings = load_settings(offline=options.offline)
    folder = options.folder_of_analysis
    opened = open_catalogue(
        place_of(options.catalogue, folder),
        trusted_keys(options.trust, folder),
        ContentStore(settings.cache_folder),
        offline=settings.offline,
    )
    for remark in opened.remarks:
        say(f"warning: {plain(remark)}", quiet=options.quiet)
    return opened.catalogue


def _list(options: Namespace) -> int:
    from afenv.catalogue.rank import Wanted
    from afenv.catalogue.record_tree import record_tree
    from afenv.progress import human_size
    from afenv.workflow.select import plain

    catalogue = _opened(options)
    wanted = [Wanted(name=name) for name in options.images]
    names, environments = catalogue.index["name"], catalogue.index["environment"]
    rows = [
        row
        for row in range(catalogue.count)
        if not wanted or any(one.fits(names[row], environments[row]) for one in wanted)
    ]
    if wanted and not rows:
        raise AfenvError("E624", f"there is no image {' or '.join(options.images)}", place=catalogue.place)
    found = [catalogue.record(row) for row in rows]
    if options.json:
        print_json(_said(catalogue) | {"records": [record_tree(one) for one in found]})
        return 0
    for one in found:
        size = human_size(one.needs.size) if one.needs.size is not None else ""
        forms = "+".join(form.form for form in one.forms)
        state = one.checked.state if one.checked and one.checked.state != "same" else ""
        about = ", ".join(filter(None, (one.version, forms, size, state)))
        print(plain(f"{one.title}  {about}  {one.exact}"))
    say(
        f"{len(found)} of {counted(catalogue.count, 'image')}, version {catalogue.serial}",
        quiet=options.quiet,
    )
    return 0


def _page(options: Namespace) -> int:
    from afenv.catalogue.page import catalogue_page
    from afenv.documents.facility_file import read_facility
    from afenv.store.content import write_error

    if options.output is None:
        raise AfenvError("E030", "page needs -o FILE, or a folder")
    folder = options.folder_of_analysis
    text = catalogue_page(_opened(options), [read_facility(folder / profile) for profile in options.facility])
    path = folder / options.output
    if path.suffix not in (".html", ".htm"):
        path = path / "index.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_error(error, path) from error
    if options.json:
        print_json({"page": str(path), "size": len(text.encode())})
    else:
        say(f"wrote {path}", quiet=options.quiet)
    return 0
