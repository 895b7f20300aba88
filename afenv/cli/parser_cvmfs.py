"""The grammar of ``afenv cvmfs``, whose actions are commands of their own."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from afenv.cli.parser_common import (
    Command,
    add_allow_dirty,
    add_common,
    add_environment,
    add_json,
    help_width,
)
from afenv.cli.parser_publishing import add_publishing


def add_cvmfs(command: Command) -> None:
    """Add the command and its actions."""
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
            formatter_class=partial(argparse.HelpFormatter, width=help_width()),
            allow_abbrev=False,
        )
        add_common(sub, top=False)
        return sub

    _looking(action("info", "show what a repository has published, with its tags"))
    _looking(action("ls", "list what is in a folder of a repository"))
    sub = action("get", "write the content of a file of a repository")
    _looking(sub)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where (default: standard output)")
    sub = action(
        "trace",
        "add what a command reads of CVMFS to what the lock embeds",
        "It runs in the environment's image, without network, and then once more with what was found alone.",
    )
    add_environment(sub)
    add_allow_dirty(sub)
    sub.add_argument(
        "arguments", nargs="*", metavar="CMD", help="the command (default: the manifest's own), after --"
    )
    add_json(sub)
    add_publishing(action)


def _looking(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "target", metavar="TARGET", help="a repository such as sft.cern.ch, or a path below /cvmfs"
    )
    sub.add_argument("--tag", metavar="TAG", help="a named snapshot (default: the newest)")
    sub.add_argument("--root-hash", metavar="HASH", help="the revision with this root hash")
    add_json(sub)
