"""``afenv verify``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.cli.output import print_json
from afenv.errors import AfenvError

if TYPE_CHECKING:
    from afenv.attest.statements import Vouches
    from afenv.workflow.archive_verify import BagReport
    from afenv.workflow.verify import Report


def run(options: Namespace) -> int:
    """Verify an image; 0 if all is well, 1 if something is missing or forbidden, 5 if something is wrong."""
    from afenv.settings import load_settings
    from afenv.store.content import ContentStore
    from afenv.workflow.verify import verify

    folder = options.folder_of_analysis
    bag = _bag(options)
    if bag is not None:
        return _verify_bag(options, bag)
    if options.rebuild:
        raise AfenvError("E030", "--rebuild goes with a bag that `afenv archive` wrote", place=options.image)
    if options.offline and not (folder / options.image).exists():
        raise AfenvError("E030", "an image in a registry needs a connection: it does not go with --offline")
    report = verify(
        options.image,
        folder,
        ContentStore(load_settings(offline=options.offline).cache_folder),
        keys=[folder / key for key in options.key],
        policy=folder / options.policy if options.policy else None,
        keyless=_keyless(options),
        content=not options.no_content,
        platform=options.platform,
        quiet=options.quiet,
    )
    return _show(options, report)


def _keyless(options: Namespace) -> Vouches | None:
    if not options.identity:
        return None
    from afenv.attest.keyless import KeylessVerifier

    return KeylessVerifier(options.identity, options.issuer)


def _bag(options: Namespace) -> Path | None:
    """The bag that is asked about; None if it is an image."""
    from afenv.archive.source import is_bag_name

    path: Path = options.folder_of_analysis / options.image
    return path if is_bag_name(path) else None


def _verify_bag(options: Namespace, path: Path) -> int:
    from afenv.workflow.archive_verify import verify_bag

    folder = options.folder_of_analysis
    report = verify_bag(
        path,
        keys=[folder / key for key in options.key],
        policy=folder / options.policy if options.policy else None,
        keyless=_keyless(options),
        content=not options.no_content,
        again=options.rebuild,
        quiet=options.quiet or options.json,
    )
    return _show(options, report)


def _show(options: Namespace, report: Report | BagReport) -> int:
    if options.json:
        print_json(report.as_json())
    else:
        print(report.as_text())
    return report.exit_status
