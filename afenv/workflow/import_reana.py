"""A ``reana.yaml`` as a draft of a manifest: its serial steps, or the workflow file that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.workflow.import_draft import Draft, read_mapping, shown
from afenv.workflow.init_findings import Findings
from afenv.workflow.init_reana import serial_steps, take_serial

_TAKEN = {"name", "commands", "environment", "kubernetes_memory_limit"}


def take_reana(tree: dict[str, Any], path: Path, draft: Draft) -> None:
    """Take over what the steps do; E775 for a kind of workflow that is not known."""
    workflow: dict[str, Any] = tree["workflow"]
    kind = workflow.get("type")
    file = workflow.get("file")
    if kind == "serial":
        _serial(tree, path, draft)
    elif kind == "snakemake" and isinstance(file, str):
        from afenv.workflow.import_snakefile import read_snakefile, take_snakefile

        take_snakefile(read_snakefile(path.parent / file), path.parent / file, draft)
    elif kind == "yadage" and isinstance(file, str):
        from afenv.workflow.import_recast import take_stages

        place = path.parent / file
        take_stages(read_mapping(place), place, _parameters(tree), draft)
    else:
        message = f"its workflow of the type {kind} cannot be imported"
        remedy = "Known are serial, snakemake and yadage. Write its steps into a manifest of your own."
        raise AfenvError("E775", message, place=str(path), remedy=remedy)
    _rest(tree, draft)


def _parameters(tree: dict[str, Any]) -> dict[str, Any]:
    inputs = tree.get("inputs")
    parameters = inputs.get("parameters") if isinstance(inputs, dict) else None
    return parameters if isinstance(parameters, dict) else {}


def _serial(tree: dict[str, Any], path: Path, draft: Draft) -> None:
    found = Findings(name=draft.name)
    take_serial(tree, found, path.name)
    for step, taken in zip(serial_steps(tree), found.steps, strict=True):
        name = taken.pop("name")
        environment = draft.environment(step.get("environment"), name)
        draft.steps.append({"name": name, "environment": environment, **taken})
        for key in sorted(step.keys() - _TAKEN):
            draft.todo.append(f"the step {name} has {key}: {shown(step[key])}")
    specification = tree["workflow"].get("specification")
    given = specification.get("steps") if isinstance(specification, dict) else None
    left = len(given) - len(draft.steps) if isinstance(given, list) else 0
    if left:
        draft.todo.append(f"{left} of its steps have no commands")


def _rest(tree: dict[str, Any], draft: Draft) -> None:
    """What is beside the steps: resources of the workflow, inputs, outputs."""
    workflow = tree["workflow"]
    resources = workflow.get("resources")
    if isinstance(resources, dict):
        cvmfs = resources.get("cvmfs")
        draft.cvmfs += [str(name) for name in cvmfs] if isinstance(cvmfs, list) else []
        for key in sorted(resources.keys() - {"cvmfs"}):
            draft.todo.append(f"its workflow has the resource {key}: {shown(resources[key])}")
    inputs = tree.get("inputs") if isinstance(tree.get("inputs"), dict) else {}
    assert isinstance(inputs, dict)
    for key, what in (("files", "files"), ("directories", "folders")):
        if inputs.get(key):
            draft.todo.append(
                f"these {what} are its inputs; what is data goes to `data`: {shown(inputs[key])}"
            )
    if inputs.get("options"):
        draft.todo.append(f"its inputs have options: {shown(inputs['options'])}")
    unused = (
        set(_parameters(tree))
        - {name for step in draft.steps for name in step.get("parameters", {})}
        - {"input"}
    )
    for name in sorted(unused):
        draft.todo.append(f"the parameter {name} is in no command: {shown(_parameters(tree)[name])}")
    stated = {path.rstrip("/") for step in draft.steps for path in step.get("outputs", {}).values()}
    outputs = tree.get("outputs") if isinstance(tree.get("outputs"), dict) else {}
    assert isinstance(outputs, dict)
    for key in ("files", "directories"):
        for path in outputs.get(key) or ():
            if str(path).rstrip("/") not in stated:
                draft.todo.append(f"say which step writes {path}, in its `outputs`")
    for key in sorted(tree.keys() - {"version", "inputs", "workflow", "outputs"}):
        draft.todo.append(f"it has {key}: {shown(tree[key])}")
