"""Which steps are out of date, and why: their notes against what they would do now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from afenv.documents.suggest import one_of
from afenv.record import record
from afenv.rerun.launcher import described, step_key
from afenv.rerun.places import RunFolder
from afenv.steps.graph import StepGraph


@record
class Verdict:
    """Why a step has to run; None if its outputs are what it would write. ``key`` is what they depend on."""

    reason: str | None = None
    key: str | None = None


def verdicts(
    graph: StepGraph, names: Iterable[str], folder: RunFolder, jobs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Verdict]:
    """The verdict on each step, those before others first. ``jobs`` are as they would be written now.

    A step behind one that has to run has a reason, too; whether it really runs is seen when that one has.
    """
    found: dict[str, Verdict] = {}
    for name in names:
        note = folder.note(name)
        reason = _why(note, jobs[name], folder)
        key = note["key"] if note is not None and reason is None else None
        waits_for = [other for other in graph.before(name) if other in found and found[other].reason]
        if reason is None and note is not None:
            if waits_for:
                reason = f"{one_of(waits_for, 'and')} {'run' if len(waits_for) > 1 else 'runs'} again"
            else:
                reason = _why_inputs(note, jobs[name], folder)
        found[name] = Verdict(reason=reason, key=key)
    return found


def _why(note: Mapping[str, Any] | None, job: Mapping[str, Any], folder: RunFolder) -> str | None:
    if note is None:
        return "it has not run yet"
    if note.get("end") != "done":
        return "it did not end well the last time"
    before, now = note["static"], job["static"]
    for name, words in (
        ("command", "its command has changed"),
        ("image", "its image is another one"),
        ("outputs", "its outputs have changed"),
    ):
        if before.get(name) != now[name]:
            return words
    if before.get("parameters") != now["parameters"]:
        names = before.get("parameters", {}).keys() | now["parameters"].keys()
        other = sorted(
            name for name in names if before.get("parameters", {}).get(name) != now["parameters"].get(name)
        )
        return f"{one_of(other, 'and')} {'have' if len(other) > 1 else 'has'} another value"
    for output in note["outputs"]:
        path = folder.path / "outputs" / output["path"]
        if not path.exists():
            return f"the output {output['name']} is missing"
        if path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) == (
            output["size"],
            output["mtime"],
        ):
            continue
        if described(str(path))["sha256"] != output["sha256"]:
            return f"the output {output['name']} was changed"
    return None


def _why_inputs(note: Mapping[str, Any], job: Mapping[str, Any], folder: RunFolder) -> str | None:
    before = {one["name"]: one["files"] for one in note["inputs"]}
    now = []
    for one in job["inputs"]:
        files = one.get("files")
        if files is None:
            other = folder.note(one["step"]) or {}
            files = [entry for entry in other.get("outputs", ()) if entry["name"] == one["output"]]
        now.append({"name": one["name"], "files": files})
        old = [(file["path"], file["sha256"]) for file in before.get(one["name"], ())]
        if old != [(file["path"], file["sha256"]) for file in files]:
            return f"the input {one['name']} is another one"
    return None if step_key(dict(job["static"]), now) == note["key"] else "its inputs have changed"
