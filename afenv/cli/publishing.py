"""``afenv cvmfs publish``, ``list``, ``remove`` and ``gc``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.oci.publishing import (
    Removal,
    Target,
    find_publisher,
    folder_target,
    repository_target,
    wishes_target,
)
from afenv.progress import counted


def run_publish(options: Namespace) -> int:
    """Publish an image, and say what was done."""
    from afenv.oci.read import open_image

    target = _target(options)
    with open_image(options.folder_of_analysis / options.image) as opened:
        done = find_publisher().publish(
            opened.image, opened.blobs, options.reference, target, quiet=options.quiet
        )
    if options.json:
        print_json(done.as_json())
        return 0
    for line in done.left_out:
        say(f"left out: {line}", quiet=options.quiet)
    if not done.changed:
        say("nothing had to be done", quiet=options.quiet)
    elif target.method == "wishes":
        say(f"put on {target.place}", quiet=options.quiet)
    else:
        count = f"{counted(len(done.added), 'new layer')}, {len(done.shared)} shared"
        say(f"published as {target.place / done.name}: {count}", quiet=options.quiet)
    print(done.image_id)
    return 0


def run_list(options: Namespace) -> int:
    """List what is published."""
    found = find_publisher().images(_target(options))
    if options.json:
        print_json([one.as_json() for one in found])
    else:
        for one in found:
            print(f"{one.image_id}  {one.name}")
    return 0


def run_remove(options: Namespace) -> int:
    """Remove a name."""
    return _removed(find_publisher().remove(options.reference, _target(options)), options)


def run_gc(options: Namespace) -> int:
    """Remove what no name leads to."""
    return _removed(find_publisher().collect(_target(options)), options)


def _removed(done: Removal, options: Namespace) -> int:
    if options.json:
        print_json({"removed": list(done.paths)})
    else:
        for path in done.paths:
            print(path)
        if not done.paths:
            say("nothing had to be removed", quiet=options.quiet)
    return 0


def _target(options: Namespace) -> Target:
    wishes = getattr(options, "wish_list", None)
    if options.to is not None and options.repository is None and wishes is None:
        return folder_target(options.folder_of_analysis / options.to)
    if options.repository is None or options.to is not None:
        more = ", or --wish-list FILE with --repository NAME" if hasattr(options, "wish_list") else ""
        raise AfenvError("E030", f"say where: --to DIR or --repository NAME{more}")
    if wishes is not None:
        return wishes_target(options.folder_of_analysis / wishes, options.repository, options.user)
    return repository_target(options.repository, options.method)
