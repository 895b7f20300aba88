"""What it costs to select among ten thousand images. There is no peer: facilities are compared."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

from cases import Bench
from measure import Contender, compare
from measure import run as measured
from projects import AFENV

from afenv.attest.keys import generate_key, load_private
from afenv.catalogue.file import make_catalogue
from afenv.catalogue.signed import sign_catalogue
from afenv.specs import specs_folder

COUNT = 10_000
MOST_CPU = 0.3  # seconds of a process, with the start of Python
MOST_SIZE = 20  # MB


def sample() -> Any:
    """The module of the tests that makes records."""
    path = Path(__file__).parents[1] / "catalogue" / "sample.py"
    spec = importlib.util.spec_from_file_location("catalogue_sample", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["catalogue_sample"] = module
    spec.loader.exec_module(module)
    return module


def select(bench: Bench) -> None:
    """`afenv select` among 10,000 images of a signed catalogue, for a batch farm and for a cloud"""
    private, public = generate_key()
    key, path = bench.work / "catalogue.pub", bench.work / "catalogue.zst"
    key.write_bytes(public)
    made = sign_catalogue(make_catalogue("bench", sample().records(COUNT)), load_private(private))
    path.write_bytes(made.data)
    bench.report.figure(f"catalogue of {COUNT} records", len(made.data) / 1e6, "MB", most=MOST_SIZE)
    folder = specs_folder() / "facility" / "v1" / "examples"
    environment = {"AFENV_CACHE_DIR": str(bench.work / "catalogue-store")}
    name = made.index["name"][COUNT // 2]

    def command(facility: str, *words: str) -> list[str | Path]:
        profile = folder / facility / "facility.yaml"
        return [AFENV, "select", "--facility", profile, "--catalogue", path, "--trust", key, *words]

    commands = {
        "for a batch farm": command("batch-apptainer-cvmfs"),
        "for a cloud": command("cloud-gpu"),
        "one name": command("cloud-gpu", f"{name[:4]}*"),
    }
    outcome = compare(
        "select",
        3 * bench.rounds,
        [
            Contender(
                name=f"afenv select, {what}",
                command=lambda words=words: measured(words, environment=environment),
            )
            for what, words in commands.items()
        ],
    )
    bench.report.outcome(outcome, {})
    for what in commands:
        cpu = statistics.median(one.cpu for one in outcome.samples[f"afenv select, {what}"])
        bench.report.figure(f"CPU of select, {what}", cpu, "s", most=MOST_CPU)


CATALOGUE_CASES = {"select": select}
