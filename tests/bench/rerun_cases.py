"""What ``afenv rerun`` costs over the bare commands of the steps."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from cases import Bench
from measure import Contender, compare, run
from projects import AFENV

STEPS = 10
MOST = 0.10 * STEPS * 10.0  # seconds: a tenth of the ten steps of 10 s that the claim is about
RUNTIME = "userns"
MANIFEST = """\
afenv: 1
name: sleep
environments:
  default:
    base: {debian: bookworm, packages: [coreutils, dash]}
steps:
"""


def _project(folder: Path, seconds: float) -> Path:
    """Ten steps, one after the other, so that nothing hides in the shadow of another one."""
    lines = [MANIFEST]
    for number in range(STEPS):
        before = f"inputs: [s{number - 1}.o], " if number else ""
        lines.append(
            f"  - {{name: s{number}, run: 'sleep {seconds:g}; echo {number} > {{outputs.o}}', {before}"
            f"outputs: {{o: o{number}.txt}}}}\n"
        )
    folder.mkdir()
    (folder / "afenv.yaml").write_text("".join(lines))
    return folder


def overhead(bench: Bench) -> None:
    """`afenv rerun` of ten steps, each after the other, and their commands alone"""
    with tempfile.TemporaryDirectory(dir=bench.work) as place:
        seconds = bench.seconds
        project = _project(Path(place) / "project", seconds)
        environment = {"AFENV_CACHE_DIR": str(Path(place) / "cache")}
        ours = [AFENV, "-q", "-C", project, "rerun", "--runtime", RUNTIME]
        run(ours, environment=environment)  # builds the image, and unpacks it
        out = Path(place) / "runs"
        out.mkdir()
        fresh = iter(range(1000))
        bare = "; ".join(f"/bin/sh -e -c 'sleep {seconds:g}; echo {n} > {place}/o{n}'" for n in range(STEPS))
        outcome = compare(
            "rerun",
            bench.rounds,
            [
                Contender(
                    name="afenv rerun",
                    command=lambda: run([*ours, "-o", out / str(next(fresh))], environment=environment),
                ),
                Contender(name="the commands alone", command=lambda: run(["/bin/sh", "-c", bare])),
            ],
        )
        bench.report.outcome(outcome, {})
        mine, own = outcome.samples["afenv rerun"], outcome.samples["the commands alone"]
        over = statistics.median(a.wall - b.wall for a, b in zip(mine, own, strict=True))
        name = f"rerun of {STEPS} steps of {seconds:g} s: over the commands alone"
        bench.report.figure(name, over, "s", most=MOST)
        share = 100 * statistics.median(a.wall / b.wall - 1 for a, b in zip(mine, own, strict=True))
        bench.report.figure(f"{name}, of their time", share, "%")
        cpu = statistics.median(a.cpu - b.cpu for a, b in zip(mine, own, strict=True))
        bench.report.figure(f"{name}, CPU", cpu, "CPU s", most=MOST)
        again = [run([*ours, "-o", out / "0"], environment=environment).wall for _ in range(bench.rounds)]
        bench.report.figure("rerun with nothing out of date", statistics.median(again), "s", most=1.0)


RERUN_CASES = {"rerun": overhead}
