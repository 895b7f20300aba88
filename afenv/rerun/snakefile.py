"""The Snakefile of a run: one rule for each step, for Snakemake and for people to read.

Source: Snakemake's documentation, "Snakefiles and Rules" (grammar; braces in commands are doubled).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from afenv.rerun.places import Data
from afenv.steps.graph import StepGraph

MEGABYTE = 1_000_000


def rule_names(names: Iterable[str]) -> dict[str, str]:
    """A name for the rule of each step: letters, digits and underscores, each one once, and not ``all``."""
    found: dict[str, str] = {}
    for name in names:
        rule = f"step_{name.replace('-', '_')}"
        while rule in found.values():
            rule += "_"
        found[name] = rule
    return found


def _text(value: str) -> str:
    """A string of Python that Snakemake formats."""
    return json.dumps(value.replace("{", "{{").replace("}", "}}"), ensure_ascii=False)


def _files(paths: Iterable[str]) -> list[str]:
    """The lines of files; those with braces would be patterns, and are left out: ``.done`` orders steps."""
    plain = (path for path in paths if "{" not in path and "}" not in path)
    return [f"        {_file(path)}," for path in plain]


def _file(path: str) -> str:
    text = json.dumps(path.rstrip("/"), ensure_ascii=False)
    return f"directory({text})" if path.startswith("outputs/") and path.endswith("/") else text


def snakefile(
    graph: StepGraph,
    names: Iterable[str],
    data: Mapping[str, Data],
    jobs: Mapping[str, Mapping[str, Any]],
    launcher: Iterable[str],
) -> str:
    """The text of the Snakefile; ``launcher`` is the command that runs a job."""
    names = list(names)
    rules = rule_names(names)
    start = shlex.join(launcher)
    lines = [
        "# Written by `afenv rerun`, which starts Snakemake with it; changes are lost.",
        "# A job in steps/ has the whole command line of a step, with its image by digest.",
        "",
        "rule all:",
        "    input:",
        *(f"        {_text(f'steps/{name}.done')}," for name in names),
    ]
    for name in names:
        step, job = graph.steps[name], jobs[name]
        lines += ["", f"rule {rules[name]}:", f"    # environment {step.environment}, image"]
        lines[-1] += f" {job['static']['image']}"
        lines += [f"    # {line}" for line in job["command"].splitlines()]
        inputs = [f"outputs/{one.path}".rstrip("/") for one in graph.inputs(name) if one.path is not None]
        inputs += [str(file.source) for one in graph.data([name]) for file in data[one].files]
        inputs += [f"steps/{other}.done" for other in graph.before(name)]
        if inputs:
            lines += ["    input:", *_files(inputs)]
        lines += ["    output:", *_files(f"outputs/{path}" for path in step.outputs.values())]
        lines += [f"        touch({_text(f'steps/{name}.done')}),"]
        lines += [f"    threads: {step.resources.cores or 1}"]
        if step.resources.memory:
            lines += [f"    resources: mem_mb={-(-step.resources.memory // MEGABYTE)}"]
        lines += [f"    shell: {_text(f'{start} steps/{name}.job.json')}"]
    return "\n".join(lines) + "\n"
