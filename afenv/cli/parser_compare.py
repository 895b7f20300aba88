"""The grammar of ``afenv compare``."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import Command, add_json


def add_compare(command: Command) -> None:
    """Add ``compare``."""
    sub = command(
        "compare",
        "compare the results of two runs, or of a run and an archive",
        "By bytes, then by meaning. Exit status 0: the same, 1: different, 2: cannot be compared.",
    )
    sub.add_argument("first", type=Path, metavar="RUN", help="the folder of a run, or of results")
    sub.add_argument(
        "second",
        type=Path,
        metavar="RUN|BAG",
        help="another one, or an archive with reference results",
    )
    sub.add_argument(
        "-o", "--report", type=Path, metavar="FILE", help="write a report with plots: one HTML file"
    )
    sub.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="the manifest whose section `compare` holds (default: the one here, or in the archive)",
    )
    sub.add_argument("--relative", type=float, metavar="R", help="relative tolerance of all numbers")
    sub.add_argument("--absolute", type=float, metavar="A", help="absolute tolerance of all numbers")
    sub.add_argument("--common", action="store_true", help="compare only the files that both have")
    add_json(sub)
