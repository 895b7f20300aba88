"""How results are printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from afenv.progress import counted, human_size


def print_json(value: Any) -> None:
    """One JSON value, indented, for programs and people alike."""
    from afenv import canonical

    sys.stdout.write(canonical.shown(value))


def say(text: str, *, quiet: bool = False) -> None:
    """A remark for people, on standard error, so that standard output stays for results."""
    if not quiet:
        print(text, file=sys.stderr)


def show_built(built: Mapping[str, Any], *, quiet: bool) -> None:
    """What was built, for people: the identity on standard output, the rest beside it."""
    size = human_size(sum(layer["size"] for layer in built["layers"]))
    place = f", in {built['path']}" if built["path"] else ""
    say(f"{built['environment']}: {counted(len(built['layers']), 'layer')}, {size}{place}", quiet=quiet)
    if "pushed" in built:
        say(f"  pushed as {built['pushed']}", quiet=quiet)
    print(built["image_id"])
