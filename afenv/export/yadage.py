"""A yadage workflow: a stage for each step, with a folder of its own; for REANA and RECAST.

Source: yadage's documentation, and the schemas of yadage-schemas 0.11 (``workflow-schema``,
``packtivity-schema``). Commands are templates of Python's ``str.format``; packtivity runs them by ``sh -c``.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Any

from afenv.documents.steps import Step
from afenv.errors import AfenvError
from afenv.export.plan import DATA, EngineParameter, ExportPlan
from afenv.export.reana import reana_value
from afenv.export.script import here_document, script
from afenv.export.yaml_text import dump

WORKFLOW, STEPS = "workflow.yml", "steps.yml"
# names of parameters that no step of the analysis has: they have a hyphen, which EngineParameter.name has not
HERE, DATA_FOLDER = "here-folder", "data-folder"
MEBIBYTE = 1 << 20


def specs(plan: ExportPlan, engine: str, *, for_reana: bool) -> dict[str, str]:
    """``workflow.yml`` and ``steps.yml``; E772 for what yadage cannot do."""
    workflow = {"stages": [_stage(plan, step) for step in plan.steps]}
    steps = {step.name: _packtivity(plan, step, for_reana=for_reana) for step in plan.steps}
    return {WORKFLOW: dump(workflow, engine), STEPS: dump(steps, engine)}


def initial(plan: ExportPlan) -> dict[str, Any]:
    """The values that a workflow is started with: parameters, and the folder of data."""
    values = {one.name: reana_value(one) for one in plan.all_parameters()}
    return {**values, DATA_FOLDER: DATA} if plan.graph.data() else values


def _inputs(plan: ExportPlan, step: Step) -> dict[str, tuple[str, str, str]]:
    """What a step reads of other steps, by the name of a parameter: step, output, path."""
    found = {}
    for number, one in enumerate(plan.graph.inputs(step.name)):
        if one.step is not None and one.output is not None and one.path is not None:
            found[f"input-{number}"] = (one.step, one.output, one.path)
    return found


def _stage(plan: ExportPlan, step: Step) -> dict[str, Any]:
    parameters: dict[str, Any] = {HERE: "{workdir}"}
    if plan.graph.data([step.name]):
        parameters[DATA_FOLDER] = {"step": "init", "output": DATA_FOLDER}
    for one in plan.parameters(step).values():
        parameters[one.name] = {"step": "init", "output": one.name}
    for name, (other, output, _) in _inputs(plan, step).items():
        parameters[name] = {"step": other, "output": output}
    return {
        "name": step.name,
        "dependencies": list(plan.graph.before(step.name)) or ["init"],
        "scheduler": {
            "scheduler_type": "singlestep-stage",
            "parameters": parameters,
            "step": {"$ref": f"{STEPS}#/{step.name}"},
        },
    }


def _packtivity(plan: ExportPlan, step: Step, *, for_reana: bool) -> dict[str, Any]:
    name, _, digest = plan.image(step).reference.rpartition(":")
    return {
        "process": {"process_type": "string-interpolated-cmd", "cmd": _command(plan, step)},
        "publisher": {
            "publisher_type": "interpolated-pub",
            "publish": {key: "{workdir}/" + _braces(path.rstrip("/")) for key, path in step.outputs.items()},
        },
        "environment": {
            "environment_type": "docker-encapsulated",
            "image": name,  # NAME@sha256: image and tag are put together with a colon
            "imagetag": digest,
            "resources": _resources(plan, step, for_reana=for_reana),
        },
    }


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _resources(plan: ExportPlan, step: Step, *, for_reana: bool) -> list[Any]:
    found: list[Any] = []
    if plan.image(step).cvmfs:
        found.append("CVMFS")
    if plan.kerberos:
        found.append({"kerberos": True})
    if for_reana and step.resources.memory:
        found.append({"kubernetes_memory_limit": f"{-(-step.resources.memory // MEBIBYTE)}Mi"})
    return found


def _command(plan: ExportPlan, step: Step) -> str:
    def mark(name: str) -> str:
        return f"\x02{name}\x03"

    def assign(one: EngineParameter) -> str:
        return here_document(mark(one.name)) if one.type == "string" else mark(one.name)

    links = [f"cd '{mark(HERE)}'"]
    for name in plan.graph.data([step.name]):
        links += [f"mkdir -p {DATA}", f"ln -s '{mark(DATA_FOLDER)}'/{name} {DATA}/{name}"]
    for name, (_, _, path) in _inputs(plan, step).items():
        parent = str(PurePosixPath(path).parent)
        if parent != ".":
            links.append(f"mkdir -p {shlex.quote(parent)}")
        links.append(f"ln -s '{mark(name)}' {shlex.quote(path.rstrip('/'))}")
    text = script(plan, step, assign, before=tuple(dict.fromkeys(links)))
    return _braces(text).replace("\x02", "{").replace("\x03", "}")


def check_names(plan: ExportPlan) -> None:
    """E772 for a step that is called as yadage calls where a workflow begins."""
    if "init" in plan.graph.steps:
        message = "a step is called init, which is what yadage calls the beginning of a workflow"
        raise AfenvError("E772", message, remedy="Give the step another name.")
    for one in plan.all_parameters():
        if "{" in one.text or "}" in one.text:
            message = f"the value of the parameter {one.name} has braces, which yadage takes for its own"
            raise AfenvError("E772", message, remedy="Give another value: --param NAME=VALUE.")
    if any(one.name == "workdir" for one in plan.all_parameters()):
        message = "a parameter is called workdir, which is what yadage calls the folder of a step"
        raise AfenvError("E772", message, remedy="Give the parameter another name.")
