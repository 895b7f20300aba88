"""The grammar of ``afenv cvmfs``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_cvmfs(command: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """Add the command; ``command(name, text, detail)`` makes its parser."""
    sub = command(
        "cvmfs",
        "look into CVMFS repositories, without a client",
        "Signatures and digests are checked; AFENV_CVMFS_STRATA says where repositories are.",
    )
    sub.add_argument(
        "action",
        choices=("info", "ls", "get"),
        help="what is published, with its tags; what is in a folder; write a file's content",
    )
    sub.add_argument(
        "target", metavar="TARGET", help="a repository such as sft.cern.ch, or a path below /cvmfs"
    )
    sub.add_argument("--tag", metavar="TAG", help="a named snapshot (default: the newest)")
    sub.add_argument("--root-hash", metavar="HASH", help="the revision with this root hash")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where `get` writes")
    sub.add_argument("--json", action="store_true", help="print JSON for programs")
