"""Options that several commands have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

# makes the parser of a command from its name, a text and a detail
Command = Callable[..., argparse.ArgumentParser]


@cache
def help_width() -> int:
    """The columns that help may fill. argparse would ask the terminal anew for each argument."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) - 2
    except (ValueError, OSError):
        return 78


def add_common(parser: argparse.ArgumentParser, *, top: bool) -> None:
    """Options that may stand before or after the command's name."""

    def default(value: object) -> object:
        return value if top else argparse.SUPPRESS

    group = parser.add_argument_group("common options")
    group.add_argument(
        "-C", dest="folder_of_analysis", metavar="DIR", type=Path, default=default(Path()), help="work in DIR"
    )
    group.add_argument(
        "--offline",
        action="store_true",
        default=default(False),
        help="open no connection; use what is cached",
    )
    group.add_argument("-q", "--quiet", action="store_true", default=default(False), help="no progress")
    group.add_argument(
        "--debug", action="store_true", default=default(False), help="show tracebacks of defects"
    )


def add_environment(parser: argparse.ArgumentParser) -> None:
    """``--environment``."""
    parser.add_argument("-e", "--environment", metavar="ENV", help="which environment")


def add_locked(parser: argparse.ArgumentParser) -> None:
    """``--locked``."""
    parser.add_argument(
        "--locked", action="store_true", help="fail if the lock does not fit, instead of locking"
    )


def add_allow_dirty(parser: argparse.ArgumentParser) -> None:
    """``--allow-dirty``."""
    parser.add_argument(
        "--allow-dirty", action="store_true", help="accept a checkout with changes that are not committed"
    )


def add_attaching(parser: argparse.ArgumentParser) -> None:
    """What is attached to an image that is pushed."""
    parser.add_argument(
        "--no-attach",
        action="store_true",
        help="do not attach lock, manifest, bill of materials and provenance to what is pushed",
    )
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign what is pushed with the private key in KEY"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
