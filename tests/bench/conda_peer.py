"""py-rattler alone, as a program of its own: ``solve`` or ``install``; see the cases in ``conda_cases.py``.

    python conda_peer.py solve QUESTION.json
    python conda_peer.py install QUESTION.json PREFIX CACHE

It ends without Python's exit, in which py-rattler can crash.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rattler


def _records(question: dict[str, Any]) -> list[rattler.RepoDataRecord]:
    """The locked packages, as records whose archives lie in the channel's folder."""
    found = []
    for subdir in ("linux-64", "noarch"):
        repodata = rattler.SparseRepoData(
            rattler.Channel(question["channel"]), subdir, Path(question["folder"]) / subdir / "repodata.json"
        )
        for name in repodata.package_names(rattler.PackageFormatSelection.PREFER_CONDA):
            if name in question["packages"]:
                found += [
                    record
                    for record in repodata.load_records(rattler.PackageName(name))
                    if record.file_name in question["files"]
                ]
    assert len(found) == len(question["files"]), "the channel lacks a locked package"
    return found


async def install(question: dict[str, Any], prefix: Path, cache: Path) -> None:
    """Install the locked packages."""
    records = _records(question)
    await rattler.install(records=records, target_prefix=prefix, cache_dir=cache, show_progress=False)


async def solve(question: dict[str, Any]) -> None:
    """Solve, with the channel's index as it is in the cache."""
    found = await rattler.solve(
        sources=[question["channel"]],
        specs=question["specs"],
        gateway=rattler.Gateway(cache_dir=Path(question["cache"])),
        platforms=["linux-64", "noarch"],
        virtual_packages=[
            rattler.GenericVirtualPackage(
                rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
            )
            for name, version, build in question["virtual"]
        ],
        exclude_newer=datetime.now(UTC),
    )
    print(len(found))


def main() -> None:
    question = json.loads(Path(sys.argv[2]).read_text())
    status = 0
    try:
        if sys.argv[1] == "solve":
            asyncio.run(solve(question))
        else:
            asyncio.run(install(question, Path(sys.argv[3]), Path(sys.argv[4])))
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
