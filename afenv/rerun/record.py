"""The record of a run, ``record.json``: what ran where, on what, and what came out. The norm is specs/run/v1.

Design goals: whoever has only this file knows the images, commands, values and bytes that gave the results;
no path of the machine is needed to compare two runs; what was not measured is left out.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afenv import __version__, canonical
from afenv.errors import AfenvError
from afenv.rerun.jobs import StepImage, limits_kept
from afenv.rerun.places import RECORD, Data, RunFolder
from afenv.steps.choices import Values
from afenv.steps.graph import StepGraph

FORMAT_VERSION = 1
STATES = {"done": "done", "time": "over-limit", "output": "failed", "interrupted": "interrupted"}


def time_text(seconds: float) -> str:
    """A time as RFC 3339 has it, in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def host_facts() -> dict[str, Any]:
    """What is known of the machine."""
    system = platform.uname()
    return {
        "name": system.node,
        "system": system.system,
        "kernel": system.release,
        "architecture": system.machine,
        "cpus": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _files(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "mtime"} for entry in entries]


def step_record(
    name: str,
    graph: StepGraph,
    folder: RunFolder,
    image: StepImage,
    command: str,
    values: Mapping[str, Any],
) -> dict[str, Any]:
    """What the record says of one step, from its note."""
    step = graph.steps[name]
    note = folder.note(name)
    configuration = image.image.configuration()
    found: dict[str, Any] = {
        "name": name,
        "environment": step.environment,
        "image": {
            "image_id": image.image.image_id,
            "manifest_digest": image.image.manifest_digest,
            "platform": f"{configuration.get('os', 'linux')}/{configuration.get('architecture', '')}",
        },
        "runtime": image.runtime.name,
        "command": command,
        "parameters": dict(values),
        "needs": list(graph.before(name)),
        "status": "not-run",
    }
    asked = {key: getattr(step.resources, key) for key in ("cores", "memory", "gpus", "time")}
    if any(asked.values()):
        found["resources"] = {key: value for key, value in asked.items() if value}
        found["limits_kept"] = limits_kept(step, image.runtime.name)
    if note is None:
        return found
    found |= {
        "status": STATES.get(note["end"], "failed"),
        "key": note["key"],
        "exit_status": note["exit_status"],
        "started": time_text(note["started"]),
        "ended": time_text(note["ended"]),
        "wall": note["wall"],
        "inputs": [{"name": one["name"], "files": _files(one["files"])} for one in note["inputs"]],
        "outputs": _files(note["outputs"]),
        "log": f"logs/{name}.log",
    }
    for key in ("cpu", "memory", "missing"):
        if key in note:
            found[key] = note[key]
    return found


def run_record(
    *,
    identity: Mapping[str, Any],
    graph: StepGraph,
    folder: RunFolder,
    images: Mapping[str, StepImage],
    commands: Mapping[str, str],
    values: Values,
    data: Mapping[str, Data],
    chosen: Mapping[str, Any],
    scheduler: str,
    times: tuple[float, float],
) -> dict[str, Any]:
    """The whole record; ``identity`` says which analysis it is of, ``chosen`` what was asked for."""
    steps = [
        step_record(name, graph, folder, images[graph.steps[name].environment], commands[name], values[name])
        for name in commands
    ]
    done = all(step["status"] == "done" for step in steps)
    return {
        "afenv-run": FORMAT_VERSION,
        **identity,
        "status": "complete" if done else "incomplete",
        "started": time_text(times[0]),
        "ended": time_text(times[1]),
        "afenv": __version__,
        "scheduler": {"name": "snakemake", "version": scheduler},
        "host": host_facts(),
        "chosen": dict(chosen),
        "data": [
            {
                "name": one.name,
                "uri": one.uri,
                "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in one.files],
            }
            for one in data.values()
        ],
        "steps": steps,
    }


def write_record(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Write the record; at no moment there is half of one."""
    place = folder.path / RECORD
    new = place.with_name(f"{RECORD}.new")
    new.write_bytes(canonical.indented(record))
    new.replace(place)


def read_record(path: Path) -> dict[str, Any]:
    """The record at a path, or in the folder of a run; E001 if there is none, E760 if it is no valid one."""
    from afenv.documents.schema import check_json

    place = path / RECORD if path.is_dir() else path
    try:
        tree = json.loads(place.read_bytes())
    except OSError as error:
        raise AfenvError("E001", f"cannot read the record: {error.strerror}", place=str(place)) from None
    except ValueError as error:
        raise AfenvError("E760", f"the record is no JSON: {error}", place=str(place)) from None
    version = tree.get("afenv-run") if isinstance(tree, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {version}"
        raise AfenvError("E760", message, place=str(place), path="afenv-run")
    check_json(tree, "run", "E760", str(place))
    found: dict[str, Any] = tree
    return found
