"""What went wrong in a run, as errors that name the step, its exit status, its log and its last words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afenv.documents.steps import Step
from afenv.errors import AfenvError, Problem
from afenv.progress import human_size
from afenv.rerun.places import RunFolder

LINES = 5
KILLED = 128 + 9


def last_lines(path: Path, count: int = LINES) -> str:
    """The last lines of a log, indented; empty if it has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
    return "".join(f"\n    {line[:300]}" for line in lines)


def step_problem(step: Step, note: Mapping[str, Any], folder: RunFolder, memory_kept: bool) -> Problem:
    """Why a step did not end well."""
    log = folder.log(step.name)
    said = last_lines(log)
    said = f"; it said last:{said}" if said else "; it said nothing"
    status, end = note.get("exit_status"), note.get("end")
    if end == "output":
        names = ", ".join(f"{name} ({step.outputs[name]})" for name in note["missing"])
        return Problem("E753", f"the step {step.name} ended well and did not write {names}{said}", str(log))
    if end == "time":
        message = f"the step {step.name} was ended after {step.resources.time} s, its longest time{said}"
        return Problem("E756", message, str(log))
    if status == KILLED and memory_kept:
        most = human_size(step.resources.memory or 0)
        message = f"the step {step.name} was killed; most likely it needs more memory than {most}{said}"
        return Problem("E756", message, str(log))
    if end == "interrupted":
        return Problem("E752", f"the step {step.name} was interrupted", str(log))
    return Problem("E752", f"the step {step.name} ended with status {status}{said}", str(log))


def engine_failure(folder: RunFolder, log: str, status: int) -> AfenvError:
    """E757 for a run that ended badly though no step did."""
    path = folder.path / log
    said = last_lines(path, 8)
    return AfenvError(
        "E757",
        f"Snakemake ended with status {status}; it said last:{said}",
        place=str(path),
        remedy="Look into its log. If the folder of the run was changed by hand, rerun into a new one.",
    )
