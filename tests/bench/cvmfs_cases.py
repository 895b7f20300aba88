"""CVMFS without a client: reading a large catalogue, and embedding a subtree.

Also by itself, without Docker and the peers: ``python tests/bench/cvmfs_cases.py``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from measure import Contender, compare, run

HERE = Path(__file__).parent
ENTRIES = 100_000
CPU = 2.0  # seconds for reading these
SUBTREE = 200_000_000  # bytes
PACKAGES = 20
PEER = "zlib and sha256 alone"


def _making() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cvmfs_making", HERE.parent / "cvmfs" / "making.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _child(*words: str | Path) -> Any:
    return run([sys.executable, HERE / "cvmfs_child.py", *words])


def catalogue(bench: Any) -> None:
    """read a catalogue of 100,000 entries"""
    making = _making()
    path = bench.fresh("catalogue.db")
    database = sqlite3.connect(path)
    database.executescript(making.TABLES)
    folders = ENTRIES // 100
    rows = [(*making._md5(""), 0, 0, 1, b"", 4096, 0o40755, 0, None, 1, "", "", 0, 0, None)]
    for folder in range(folders):
        place = f"/folder-{folder}"
        rows.append(
            (
                *making._md5(place),
                *making._md5(""),
                1,
                b"",
                4096,
                0o40755,
                0,
                None,
                1,
                place[1:],
                "",
                0,
                0,
                None,
            )
        )
        for number in range(ENTRIES // folders - 1):
            name = f"file-{number}.so"
            key = making._md5(f"{place}/{name}")
            row = (
                *key,
                *making._md5(place),
                1,
                os.urandom(20),
                1000,
                0o100644,
                0,
                None,
                4,
                name,
                "",
                0,
                0,
                None,
            )
            rows.append(row)
    database.executemany(f"INSERT INTO catalog VALUES ({', '.join('?' * 16)})", rows)
    database.execute("INSERT INTO properties VALUES ('schema', '2.5')")
    database.commit()
    database.close()
    samples = [_child("catalogue", path) for _ in range(bench.rounds)]
    cpu = statistics.median(sample.cpu for sample in samples)
    bench.report.figure(f"CPU for a catalogue of {len(rows) - 1:,} entries", cpu, "s", most=CPU)


def embed(bench: Any) -> None:
    """embed a subtree of 200 MB from a local stratum; against copying its files through zlib and sha256"""
    making = _making()
    stratum = bench.fresh("stratum")
    maker = making.CvmfsMaker(stratum)
    maker.chunk = 8 << 20
    tree, size = {}, 0
    for folder in (Path(sys.prefix) / "lib", Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib")):
        for path in sorted(folder.rglob("*")):
            if size >= SUBTREE:
                break
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                content = path.read_bytes()
                package = f"/releases/p{len(tree) % PACKAGES}/1.0/x86_64-el9-gcc13-opt"
                tree[f"{package}/{len(tree)}-{path.name}"] = content
                size += len(content)
    maker.publish(tree)
    bench.report.figure("the subtree", size / 1e6, "MB")
    bench.report.figure("its files", len(tree), "")
    target = bench.work / "embedded"

    def clean() -> None:
        shutil.rmtree(target, ignore_errors=True)

    outcome = compare(
        "cvmfs embed",
        bench.rounds,
        [
            Contender(name="afenv", prepare=clean, command=lambda: _child("embed", stratum, target)),
            Contender(name=PEER, prepare=clean, command=lambda: _child("copy", stratum, target)),
        ],
    )
    clean()
    bench.report.outcome(outcome, {PEER: 0.5})


CVMFS_CASES = {"cvmfs-catalogue": catalogue, "cvmfs-embed": embed}


def _alone() -> None:
    from types import SimpleNamespace

    from report import Report

    with tempfile.TemporaryDirectory(prefix="afenv-bench-") as folder:
        work = Path(folder)
        bench = SimpleNamespace(work=work, rounds=3, report=Report(), fresh=lambda name: work / name)
        for name, case in CVMFS_CASES.items():
            bench.report.title(f"{name}: {case.__doc__}")
            case(bench)


if __name__ == "__main__":
    _alone()
