"""Measuring commands, and comparing contenders in one interleaved run."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Command = Sequence[str | Path]

# what is installed has bytecode; with this variable a checkout is compiled anew in each run, 0.1 to 0.2 s
NOT_MEASURED = ("PYTHONDONTWRITEBYTECODE",)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run: wall and CPU seconds (the process and its descendants), peak memory in bytes where sampled."""

    wall: float
    cpu: float
    peak: int | None = None


def run(
    command: Command,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    sample_memory: bool = False,
) -> Sample:
    """Run a command, quietly; raise with its output if it fails."""
    os.sync()  # what the one before wrote is not this one's cost
    given = {**os.environ, **(environment or {})}
    log = subprocess.PIPE if not sample_memory else subprocess.DEVNULL
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in given.items() if name not in NOT_MEASURED},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    sampler = MemorySampler(process.pid) if sample_memory else None
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    peak = sampler.finish() if sampler else None
    if process.returncode:
        text = output.decode(errors="replace")[-4000:]
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {process.returncode}\n{text}")
    return Sample(wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak=peak)


class MemorySampler:
    """Samples the resident memory of a process and all its descendants, and keeps the highest sum.

    Pages that several processes share are counted for each of them, so the sum is an upper bound.
    """

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self.peak = 0
        self._pid = pid
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, sum(map(resident, family(self._pid))))

    def finish(self) -> int:
        """Stop, and return the highest sum in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                todo.extend(map(int, (task / "children").read_text().split()))
        except OSError:
            continue
    return found


def resident(pid: int) -> int:
    """Resident memory of one process in bytes; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of those compared: ``prepare`` is not measured, ``command`` is."""

    name: str
    command: Callable[[], Sample]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All samples of one case; ``ratio`` compares a contender with ours, round by round."""

    case: str
    samples: Mapping[str, Sequence[Sample]]

    @property
    def ours(self) -> str:
        return next(iter(self.samples))

    def median(self, name: str) -> float:
        return statistics.median(sample.wall for sample in self.samples[name])

    def cpu(self, name: str) -> float:
        return statistics.median(sample.cpu for sample in self.samples[name])

    def spread(self, name: str) -> tuple[float, float]:
        walls = [sample.wall for sample in self.samples[name]]
        return min(walls), max(walls)

    def ratio(self, name: str) -> tuple[float, float, float]:
        """Median, least and greatest of (contender's wall) / (our wall) over the rounds."""
        pairs = zip(self.samples[name], self.samples[self.ours], strict=True)
        ratios = [other.wall / own.wall for other, own in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)

    def beside(self, name: str) -> Outcome:
        """The same with another contender as ours, and without what was."""
        rest = {other: samples for other, samples in self.samples.items() if other not in (self.ours, name)}
        return Outcome(case=f"{self.case}, {name}", samples={name: self.samples[name], **rest})

    def as_json(self) -> dict[str, object]:
        return {
            name: {
                "wall": [round(sample.wall, 4) for sample in samples],
                "cpu": [round(sample.cpu, 4) for sample in samples],
                "median": round(self.median(name), 4),
                "ratio": [round(value, 2) for value in self.ratio(name)],
            }
            for name, samples in self.samples.items()
        }


def compare(case: str, rounds: int, contenders: Sequence[Contender]) -> Outcome:
    """Run the contenders in turn, ``rounds`` times. The first one is ours."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            contender.prepare()
            samples[contender.name].append(contender.command())
    return Outcome(case=case, samples=samples)
