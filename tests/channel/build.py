"""Build the test channel: ``python tests/channel/build.py OUTDIR [--only core|hard|toy] [--more]``.

``hard`` and ``toy`` are made of nothing and need no network. ``core`` is a working Python with the physics
packages, repacked from Debian's packages and from PyPI's wheels, which afenv itself locks and downloads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from packages import Package, write_package, write_repodata

SUBDIRS = ("linux-64", "noarch")


def hard() -> Iterator[Package]:
    """Packages with whatever is hard to install."""
    from hard import hard_packages

    return hard_packages()


def toy() -> Iterator[Package]:
    """Small packages for solving: versions, variants, activation, entry points."""
    from toys import toy_packages

    return toy_packages()


def core() -> Iterator[Package]:
    """Python with its libraries, and what PyPI has for physics."""
    from core import core_packages

    return core_packages()


PARTS: dict[str, Callable[[], Iterable[Package]]] = {"core": core, "toy": toy, "hard": hard}
DEFAULT = ("core", "toy")  # "hard" has a python of its own, which is none


def build(channel: Path, parts: Iterable[str]) -> None:
    """Write the packages of these parts, and the index of the channel."""
    records: dict[str, dict[str, dict[str, Any]]] = {subdir: {} for subdir in SUBDIRS}
    for part in parts:
        for package in PARTS[part]():
            name, record = write_package(package, channel)
            records[package.subdir][name] = record
    for subdir, found in records.items():
        write_repodata(channel, subdir, found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py", description="Build the test channel.")
    parser.add_argument("outdir", type=Path, metavar="OUTDIR")
    parser.add_argument("--only", choices=sorted(PARTS), help="default: core and toy")
    options = parser.parse_args()
    build(options.outdir, (options.only,) if options.only else DEFAULT)


if __name__ == "__main__":
    sys.exit(main())
