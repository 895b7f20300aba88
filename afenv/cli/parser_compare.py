"""The options of ``afenv compare``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_compare(sub: argparse.ArgumentParser) -> None:
    """Give the parser of ``afenv compare`` its options; those that it shares are added by the caller."""
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
