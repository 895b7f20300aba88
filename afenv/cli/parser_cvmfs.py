"""The grammar of ``afenv cvmfs``, whose actions are commands of their own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from afenv.cli.parser_publishing import add_publishing

Adds = Callable[[argparse.ArgumentParser], None]


def add_cvmfs(
    command: Callable[[str, str, str], argparse.ArgumentParser], *, common: Adds, with_json: Adds, width: int
) -> None:
    """Add the command and its actions; ``command(name, text, detail)`` makes its parser.

    ``common`` adds the options that every command has, ``with_json`` adds ``--json``, and help is ``width``
    columns wide.
    """
    parser = command(
        "cvmfs",
        "look into CVMFS repositories, without a client; publish images",
        "Signatures and digests are checked; AFENV_CVMFS_STRATA says where repositories are.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)

    def action(name: str, text: str, detail: str = "") -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.{' ' if detail else ''}{detail}",
            formatter_class=partial(argparse.HelpFormatter, width=width),
            allow_abbrev=False,
        )
        common(sub)
        return sub

    _looking(action("info", "show what a repository has published, with its tags"), with_json)
    _looking(action("ls", "list what is in a folder of a repository"), with_json)
    sub = action("get", "write the content of a file of a repository")
    _looking(sub, with_json)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where (default: standard output)")
    sub = action(
        "trace",
        "add what a command reads of CVMFS to what the lock embeds",
        "It runs in the environment's image, without network, and then once more with what was found alone.",
    )
    sub.add_argument("-e", "--environment", metavar="ENV", help="which environment")
    sub.add_argument(
        "--allow-dirty", action="store_true", help="accept a checkout with changes that are not committed"
    )
    sub.add_argument(
        "arguments", nargs="*", metavar="CMD", help="the command (default: the manifest's own), after --"
    )
    with_json(sub)
    add_publishing(action, with_json)


def _looking(sub: argparse.ArgumentParser, with_json: Adds) -> None:
    sub.add_argument(
        "target", metavar="TARGET", help="a repository such as sft.cern.ch, or a path below /cvmfs"
    )
    sub.add_argument("--tag", metavar="TAG", help="a named snapshot (default: the newest)")
    sub.add_argument("--root-hash", metavar="HASH", help="the revision with this root hash")
    with_json(sub)
