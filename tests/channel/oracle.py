"""What py-rattler makes of a channel: solve it, and install what was solved.

    python tests/channel/oracle.py CHANNEL PREFIX SPEC... [--cuda 12.4] [--as-of TIME] [--solve-only]

A program of its own, because py-rattler can crash while Python exits: the results are written before, and
the process ends without the exit that crashes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from rattler import (
    BuildString,
    Gateway,
    GenericVirtualPackage,
    PackageName,
    RepoDataRecord,
    Version,
    install,
    solve,
)

VIRTUAL = {"__unix": "0", "__linux": "5.10", "__glibc": "2.36", "__archspec": "1"}


async def work(options: argparse.Namespace, cache: Path) -> list[RepoDataRecord]:
    """Solve and, unless told otherwise, install."""
    virtual = VIRTUAL | ({"__cuda": options.cuda} if options.cuda else {})
    records = await solve(
        sources=[options.channel],
        specs=options.specs,
        gateway=Gateway(cache_dir=cache / "repodata"),
        platforms=["linux-64", "noarch"],
        virtual_packages=[
            GenericVirtualPackage(
                PackageName(name), Version(version), BuildString("x86_64" if "arch" in name else "0")
            )
            for name, version in virtual.items()
        ],
        exclude_newer=datetime.fromisoformat(options.as_of) if options.as_of else None,
    )
    if not options.solve_only:
        await install(
            records=records,
            target_prefix=options.prefix,
            cache_dir=cache / "pkgs",
            show_progress=False,
            alternative_target_prefix=options.as_prefix,
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(prog="oracle.py")
    parser.add_argument("channel", help="URL, or folder")
    parser.add_argument("prefix", type=Path)
    parser.add_argument("specs", nargs="+")
    parser.add_argument("--cuda")
    parser.add_argument("--as-of")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--as-prefix", help="the prefix that the files are to name")
    parser.add_argument("--solve-only", action="store_true")
    options = parser.parse_args()
    if Path(options.channel).is_dir():
        options.channel = Path(options.channel).absolute().as_uri()
    status = 0
    with tempfile.TemporaryDirectory() as temporary:
        try:
            records = asyncio.run(work(options, options.cache or Path(temporary)))
            found = [
                {"name": r.name.normalized, "version": str(r.version), "build": str(r.build)} for r in records
            ]
            print(json.dumps(sorted(found, key=lambda record: record["name"])))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
