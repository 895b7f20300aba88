"""The grammar of ``afenv submit``. Nothing here imports more than argparse."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import Command, add_json


def add_submit(command: Command) -> None:
    """``afenv submit``."""
    sub = command(
        "submit",
        "send a bag to Zenodo, InvenioRDM, CERN Analysis Preservation or a registry, as a draft",
        "Called again, it goes on where it stopped. Tokens come from the environment or the keyring.",
    )
    sub.add_argument("bag", type=Path, help="a bag in a file: .zip, .tar or .parts.json")
    sub.add_argument(
        "--to",
        nargs="+",
        metavar="WHERE",
        required=True,
        help="zenodo, invenio URL, cap [URL], or HOST[:PORT]/NAME[:TAG] of a registry",
    )
    sub.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    sub.add_argument("--publish", action="store_true", help="publish it: this cannot be taken back")
    sub.add_argument(
        "--restricted", action="store_true", help="InvenioRDM: close the files; the record stays public"
    )
    sub.add_argument("--type", metavar="TYPE", help="cap: the type of the analysis, such as cms-analysis")
    add_json(sub)
