"""The bench: afenv and its peers on one environment, in one run.

    nox -s bench                      all cases
    nox -s bench -- cold bound        some
    nox -s bench -- --rounds 5 cold
    nox -s bench -- --seconds 10 rerun

The environment is the example with coffea, scipy, pandas, dask and pyhf. Everything is downloaded before
a clock starts. Contenders take turns; medians, ranges and ratios are shown. It needs root, dockerd,
docker-registry and mmdebstrap for the peers, and igzip (isal), xz and openssl for the bound. It removes the
images that it makes and prunes Docker's build cache.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from archive_cases import ARCHIVE_CASES
from cases import CASES, open_bench
from catalogue_cases import CATALOGUE_CASES
from conda_cases import CONDA_CASES
from cvmfs_cases import CVMFS_CASES
from cvmfs_publish_cases import CVMFS_PUBLISH_CASES
from data_cases import DATA_CASES
from registry_cases import REGISTRY_CASES
from report import Report
from rerun_cases import RERUN_CASES
from run_cases import RUN_CASES
from sif_cases import SIF_CASES
from trust_cases import TRUST_CASES
from vm_cases import VM_CASES

ALL = (
    CASES
    | ARCHIVE_CASES
    | CATALOGUE_CASES
    | CVMFS_CASES
    | CONDA_CASES
    | CVMFS_PUBLISH_CASES
    | DATA_CASES
    | REGISTRY_CASES
    | RERUN_CASES
    | RUN_CASES
    | SIF_CASES
    | TRUST_CASES
    | VM_CASES
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Compare afenv with its peers.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(ALL)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often contenders take turns (default: 3)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where to write the numbers"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each of the ten steps of the case rerun (default: 1)"
    )
    parser.add_argument("--work", type=Path, help="folder for temporary files (default: a new one in TMPDIR)")
    options = parser.parse_args()
    unknown = [name for name in options.cases if name not in ALL]
    if unknown:
        parser.error(f"there is no case {unknown[0]}; choose from {', '.join(ALL)}")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "afenv-bench"
    kept.mkdir(parents=True, exist_ok=True)
    report = Report()
    with (
        tempfile.TemporaryDirectory(prefix="afenv-bench-", dir=options.work) as work,
        open_bench(Path(work), kept, options.rounds, report) as bench,
    ):
        bench.seconds = options.seconds
        for name in options.cases or ALL:
            report.title(f"{name}: {ALL[name].__doc__}")
            ALL[name](bench)
            report.write(options.json)
    print(f"\nthe numbers are in {options.json}")


if __name__ == "__main__":
    main()
