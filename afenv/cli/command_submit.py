"""``afenv submit``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json
from afenv.errors import AfenvError


def run(options: Namespace) -> int:
    """Submit a bag, or show what would be submitted."""
    from afenv.progress import human_size
    from afenv.settings import load_settings
    from afenv.workflow.submit import SubmitOptions, submit

    if load_settings(offline=options.offline).offline and not options.dry_run:
        raise AfenvError("E030", "submitting needs a connection: it does not go with --offline")
    done = submit(
        options.folder_of_analysis / options.bag,
        SubmitOptions(
            to=tuple(options.to),
            dry_run=options.dry_run,
            publish=options.publish,
            restricted=options.restricted,
            kind=options.type,
        ),
        quiet=options.quiet or options.json,
    )
    if options.json or done.step == "dry-run":
        print_json(done.as_json())
        return 0
    print(f"{done.step}  {done.url or done.record}")
    if done.doi:
        print(f"DOI  {done.doi}" + ("" if done.step == "published" else "  (reserved)"))
    for name, size, _ in done.files:
        print(f"{'sent' if name in done.sent else 'there'}  {name}  {human_size(size)}")
    if done.state:
        print(f"state  {done.state}")
    for note in done.notes:
        print(f"note: {note}")
    return 0
