"""How long a virtual machine takes until its command runs, with KVM or without."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cases import Bench
from projects import AFENV

MOST = 5.0  # seconds to the first command, with KVM
MANIFEST = """\
afenv: 1
name: boots
environments:
  default:
    base: {debian: bookworm, packages: [coreutils, dash]}
"""
ENVIRONMENT = {"AFENV_VM_MEMORY": "1024"}


def _first_line(command: Sequence[str | Path], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until the command of the machine has spoken, and until all has ended."""
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        spoken = time.perf_counter() - started
        process.stdout.read()
    if process.returncode or line != b"here\n":
        raise SystemExit(f"{command}: exit status {process.returncode}, said {line!r}")
    return spoken, time.perf_counter() - started


def _accelerator(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    """What QEMU is asked for, once a KVM that does not work is known as such: ``kvm`` or ``tcg``."""
    shown = subprocess.run(
        [*map(str, command), "--dry-run", "--", "echo", "here"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(shown)
    return words[words.index("-accel") + 1].partition(",")[0]


def boot(bench: Bench) -> None:
    """from `afenv run` of a machine's folder, and from its own script, to the first word of the command"""
    with tempfile.TemporaryDirectory(dir=bench.work) as place:
        project, machine = Path(place) / "project", Path(place) / "machine"
        project.mkdir()
        (project / "afenv.yaml").write_text(MANIFEST)
        environment = {**ENVIRONMENT, "AFENV_CACHE_DIR": str(Path(place) / "cache")}
        build = [AFENV, "-q", "-C", project, "build", "--target", "vm", "-o", machine]
        subprocess.run(build, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
        ours = [AFENV, "-q", "run", "--image", machine, "--no-network"]
        _first_line([*ours, "--", "echo", "here"], environment)  # finds out whether KVM works
        accelerator = _accelerator(ours, environment)
        how = "KVM" if accelerator == "kvm" else "emulation"
        most = MOST if accelerator == "kvm" else None
        script = ["sh", machine / "run.sh"]
        commands = {"afenv run": [*ours, "--"], "run.sh": script}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        environment["AFENV_VM_ACCELERATOR"] = accelerator
        for _ in range(bench.rounds):
            for name, command in commands.items():
                times[name].append(_first_line([*command, "echo", "here"], environment))
        for name, found in times.items():
            first, whole = (statistics.median(column) for column in zip(*found, strict=True))
            bench.report.figure(f"vm, {name}, {how}: to the first command", first, "s", most=most)
            bench.report.figure(f"vm, {name}, {how}: until it is off", whole, "s")
        if how == "emulation":
            bench.report.title(
                f"  no KVM that works: the {MOST:g} s that are allowed with it were not measured"
            )


VM_CASES = {"vm": boot}
