"""``afenv cache``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json
from afenv.errors import AfenvError
from afenv.progress import counted, human_size
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.workflow.cache import cache_prune, cache_summary, cache_verify

DAY = 86_400.0  # seconds
GIGABYTE = 1_000_000_000


def run(options: Namespace) -> int:
    """Show, prune or verify the content store; verifying gives 1 if something is damaged."""
    for option, given, action in (
        ("older-than", options.older_than is not None, "prune"),
        ("keep", options.keep is not None, "prune"),
        ("repair", options.repair, "verify"),
    ):
        if given and options.action != action:
            raise AfenvError("E030", f"--{option} goes with `afenv cache {action}`")
    store = ContentStore(load_settings().cache_folder)
    if options.action == "prune":
        pruned = cache_prune(
            store,
            older_than=None if options.older_than is None else options.older_than * DAY,
            keep_bytes=None if options.keep is None else int(options.keep * GIGABYTE),
        )
        if options.json:
            print_json(pruned.as_json())
        else:
            print(f"freed {human_size(pruned.freed_bytes)}; {human_size(pruned.kept_bytes)} are kept")
        return 0
    if options.action == "verify":
        verified = cache_verify(store, repair=options.repair)
        if options.json:
            print_json(verified.as_json())
        else:
            for name in (*verified.damaged, *verified.damaged_keys, *verified.foreign):
                print(f"{'removed' if verified.repaired else 'damaged'}: {name}")
            verdict = "sound" if verified.sound else "damaged"
            print(f"{counted(verified.blobs, 'file')}, {human_size(verified.blob_bytes)}: {verdict}")
        return 0 if verified.sound or verified.repaired else 1
    summary = cache_summary(store)
    if options.json:
        print_json(summary.as_json())
    else:
        print(f"{summary.folder}: {counted(summary.blobs, 'file')}, {human_size(summary.blob_bytes)}")
        for kind, count in summary.keys.items():
            print(f"  {kind}: {counted(count, 'result')}")
        if summary.trees:
            print(f"  unpacked images: {summary.trees}, {human_size(summary.tree_bytes)}")
        if summary.clones:
            print(f"  git repositories: {summary.clones}, {human_size(summary.clone_bytes)}")
        if summary.temporary:
            print(f"  temporary: {counted(summary.temporary, 'file')}, {human_size(summary.temporary_bytes)}")
    return 0
