"""The grammar of ``afenv rerun``."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import Command, add_allow_dirty, add_json, add_locked


def add_rerun(command: Command) -> None:
    """Add ``rerun``."""
    sub = command(
        "rerun",
        "run the steps of the analysis that are out of date",
        "With --set or --param it is a recast: the same analysis on other data or values.",
    )
    sub.add_argument("steps", nargs="*", metavar="STEP", help="these, and what they need (default: all)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="read this in the place of the data NAME: a URI or a path (may be repeated)",
    )
    sub.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="[STEP.]NAME=VALUE",
        help="the value of a parameter, of one step or of all that have it (may be repeated)",
    )
    sub.add_argument("-j", "--jobs", type=int, metavar="N", help="use N processor cores (default: all)")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: .afenv/runs/default, or recast-… where something is chosen)",
    )
    sub.add_argument(
        "--runtime",
        metavar="NAME[,NAME…]",
        help="docker, podman, apptainer, userns; default: AFENV_RUNTIME, else the first one that works",
    )
    sub.add_argument("--network", action="store_true", help="let the steps use the network")
    sub.add_argument(
        "--check",
        type=Path,
        metavar="BAG",
        help="compare with the reference results of an archive, or of a folder (exit 0: the same, else 1)",
    )
    sub.add_argument("--dry-run", action="store_true", help="say what is out of date; run nothing")
    add_locked(sub)
    add_allow_dirty(sub)
    add_json(sub)
