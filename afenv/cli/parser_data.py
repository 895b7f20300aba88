"""The grammar of ``afenv data``."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import Command, add_json


def add_data(command: Command) -> None:
    """Add the command; ``command(name, text, detail)`` makes its parser."""
    sub = command(
        "data",
        "pin, check and fetch the data that the manifest refers to",
        "Exit 1 if `check` finds that data is changed or lost, 4 if it was not reached.",
    )
    sub.add_argument(
        "action",
        choices=("list", "pin", "check", "fetch"),
        help="show what the lock knows; read it once and lock its sizes and checksums; ask whether it is "
        "still there and the same; bring it, verified",
    )
    sub.add_argument("names", nargs="*", metavar="NAME", help="which data (default: all)")
    sub.add_argument(
        "--facility",
        type=Path,
        metavar="FILE",
        help="the profile of this place: which replicas are near, and its caches (default: AFENV_FACILITY)",
    )
    sub.add_argument("--again", action="store_true", help="pin: look up and read also what is pinned")
    sub.add_argument("--no-keep", action="store_true", help="pin: do not keep the bytes in the cache")
    sub.add_argument("--deep", action="store_true", help="check: read all bytes of all replicas")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="fetch: into DIR/NAME (default: .afenv/data/NAME)"
    )
    add_json(sub)
