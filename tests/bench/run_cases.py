"""What ``afenv run`` costs over the runtime that it starts."""

from __future__ import annotations

import os
import statistics
import subprocess
from pathlib import Path

from cases import Bench
from measure import Contender, compare
from measure import run as measured
from projects import AFENV

from afenv.errors import AfenvError
from afenv.run.choose import ORDER, find_runtime

COMMAND = ("/bin/true",)
MOST = 0.3  # CPU seconds


def start(bench: Bench) -> None:
    """`afenv run -- /bin/true`, and the same command line given to the runtime itself"""
    project = bench.plain
    environment = {"AFENV_CACHE_DIR": str(project.store)}
    for runtime in ORDER:
        try:
            find_runtime(runtime)
        except AfenvError as error:
            bench.report.title(f"  {runtime}: left out, {error.problems[0].message}")
            continue
        ours: list[str | Path] = [AFENV, "-q", "-C", project.folder, "run", "--runtime", runtime]
        project.afenv("run", "--runtime", runtime, "--", *COMMAND)  # brings the image in
        line = subprocess.run(
            [*ours, "--dry-run", "--", *COMMAND],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        outcome = compare(
            f"run, {runtime}",
            3 * bench.rounds,
            [
                Contender(
                    name=f"afenv run, {runtime}",
                    command=lambda ours=ours: measured([*ours, "--", *COMMAND], environment=environment),
                ),
                Contender(
                    name=f"{runtime} itself",
                    command=lambda line=line: measured(["/bin/sh", "-c", line], folder=project.folder),
                ),
            ],
        )
        bench.report.outcome(outcome, {})
        mine, own = (outcome.samples[name] for name in (f"afenv run, {runtime}", f"{runtime} itself"))
        over = statistics.median(a.cpu - b.cpu for a, b in zip(mine, own, strict=True))
        bench.report.figure(f"run, {runtime}: over the runtime's own", over, "CPU s", most=MOST)


RUN_CASES = {"run": start}
