"""The grammar of ``afenv cvmfs publish``, ``list``, ``remove`` and ``gc``."""

from __future__ import annotations

import argparse
from pathlib import Path

from afenv.cli.parser_common import Command, add_json


def add_publishing(command: Command) -> None:
    """Add the four commands; ``command`` makes one from its name and text."""
    sub = command(
        "publish",
        "publish an image for CVMFS, in the layout of unpacked.cern.ch",
        "To a folder, to a repository of this host, or as a wish for DUCC. What is there already stays.",
    )
    sub.add_argument("image", type=Path, help="an OCI layout (a folder) or an image archive")
    sub.add_argument("reference", help="the name: REGISTRY/REPOSITORY[:TAG]")
    _target(sub, wishes=True)
    add_json(sub)

    sub = command("list", "list the published images")
    _target(sub)
    add_json(sub)

    sub = command("remove", "remove the name of a published image", "Its files stay until `afenv cvmfs gc`.")
    sub.add_argument("reference", help="the name: REGISTRY/REPOSITORY[:TAG]")
    _target(sub)
    add_json(sub)

    sub = command("gc", "remove the trees and layers that no published name leads to")
    _target(sub)
    add_json(sub)


def _target(sub: argparse.ArgumentParser, *, wishes: bool = False) -> None:
    sub.add_argument("--to", type=Path, metavar="DIR", help="a folder")
    sub.add_argument("--repository", metavar="NAME", help="a CVMFS repository, such as sw.example.org")
    sub.add_argument(
        "--method",
        choices=("ingest", "transaction"),
        default="ingest",
        help="how: by a tar stream, or by files in a transaction (default: %(default)s)",
    )
    if wishes:
        sub.add_argument("--wish-list", type=Path, metavar="FILE", help="only put it on a wish list for DUCC")
        sub.add_argument("--user", metavar="USER", default="", help="whom a new wish list names as its user")
