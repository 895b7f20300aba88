"""A workflow in the Common Workflow Language, v1.2: one document, and the values to start it with.

A tool gets what it reads at the manifest's paths in its working directory (InitialWorkDirRequirement), and
parameters as words behind its script.

Source: "Common Workflow Language (CWL) Command Line Tool Description" and "Workflow Description", v1.2.1.
"""

from __future__ import annotations

import glob
from pathlib import PurePosixPath
from typing import Any

from afenv.documents.steps import Step
from afenv.errors import AfenvError
from afenv.export.plan import DATA, EngineParameter, Exported, ExportFile, ExportPlan, check_steps
from afenv.export.script import script
from afenv.export.yaml_text import dump

WORKFLOW, INPUTS = "workflow.cwl", "inputs.yml"
MEBIBYTE = 1 << 20
_TYPES: dict[str, Any] = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": {"type": "enum", "symbols": ["true", "false"]},
}


def cwl(plan: ExportPlan) -> Exported:
    """``workflow.cwl`` and ``inputs.yml``; E772 for what CWL cannot do."""
    check_steps(plan)
    inputs: dict[str, Any] = {_data_id(name): "Directory" for name in plan.graph.data()}
    inputs |= {one.name: {"type": _TYPES[one.type]} for one in plan.all_parameters()}
    tree = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "label": plan.title or plan.name,
        "inputs": inputs,
        "outputs": {
            f"{step.name}.{key}": {"type": _kind(path), "outputSource": f"{step.name}/{key}"}
            for step in plan.steps
            for key, path in step.outputs.items()
        },
        "steps": {step.name: _step(plan, step) for step in plan.steps},
    }
    values: dict[str, Any] = {_data_id(name): _folder(plan, name) for name in plan.graph.data()}
    values |= {one.name: _value(one) for one in plan.all_parameters()}
    files = {WORKFLOW: dump(tree, "cwl"), INPUTS: dump(values, "cwl")}
    return Exported(files=files, warnings=tuple(_warnings(plan)))


def _data_id(name: str) -> str:
    return f"data-{name}"  # the name of a parameter has no hyphen


def _kind(path: str) -> str:
    return "Directory" if path.endswith("/") else "File"


def _value(parameter: EngineParameter) -> Any:
    return parameter.text if parameter.type == "boolean" else parameter.value


def _folder(plan: ExportPlan, name: str) -> dict[str, Any]:
    """The files of data as a folder: those that are here by path, others by URI."""
    root: dict[str, Any] = {"class": "Directory", "basename": name, "listing": []}
    made = {PurePosixPath("."): root}

    def place(path: PurePosixPath) -> dict[str, Any]:
        if path not in made:
            made[path] = {"class": "Directory", "basename": path.name, "listing": []}
            place(path.parent)["listing"].append(made[path])
        return made[path]

    for file in plan.data[name]:
        path = PurePosixPath(file.path)
        entry = {"class": "File", "basename": path.name, "location": _location(name, file)}
        place(path.parent)["listing"].append(entry)
    return root


def _location(name: str, file: ExportFile) -> str:
    from urllib.parse import quote

    near = file.source is not None or not file.uris
    web = next((uri for uri in file.uris if uri.startswith(("https:", "http:"))), None)
    return web if web and not near else quote(f"{DATA}/{name}/{file.path}")


def _step(plan: ExportPlan, step: Step) -> dict[str, Any]:
    parameters = list(plan.parameters(step).values())
    sources: dict[str, Any] = {one.name: one.name for one in parameters}
    inputs: dict[str, Any] = {
        one.name: {"type": _TYPES[one.type], "inputBinding": {"position": number}}
        for number, one in enumerate(parameters, 1)
    }
    listing = []
    for number, one in enumerate(plan.graph.inputs(step.name)):
        key = _data_id(one.data) if one.data is not None else f"input-{number}"
        place = f"{DATA}/{one.data}" if one.path is None else one.path
        inputs[key] = "Directory" if one.path is None else _kind(one.path)
        sources[key] = key if one.data is not None else f"{one.step}/{one.output}"
        listing.append({"entryname": _literal(place.rstrip("/")), "entry": f"$(inputs['{key}'])"})
    read = {one.step for one in plan.graph.inputs(step.name)}
    for other in plan.graph.before(step.name):
        if other not in read:
            output = _any_output(plan.graph.steps[other], step.name)
            inputs[f"after-{other}"] = _kind(plan.graph.steps[other].outputs[output])
            sources[f"after-{other}"] = f"{other}/{output}"
    return {
        "run": {
            "class": "CommandLineTool",
            "label": step.name,
            "requirements": _requirements(step, listing),
            "hints": {"DockerRequirement": {"dockerPull": plan.image(step).reference}},
            "baseCommand": ["/bin/sh", "-c", _script(plan, step), "sh"],
            "inputs": inputs,
            "outputs": {
                key: {"type": _kind(path), "outputBinding": {"glob": _literal(glob.escape(path.rstrip("/")))}}
                for key, path in step.outputs.items()
            },
        },
        "in": sources,
        "out": list(step.outputs),
    }


def _any_output(other: Step, waiting: str) -> str:
    if not other.outputs:
        message = f"{waiting} waits for {other.name}, which has no output: CWL orders steps by what they read"
        raise AfenvError("E772", message, remedy=f"Let {other.name} write a file, and state it.")
    return next(iter(other.outputs))


def _literal(text: str) -> str:
    """Text in which CWL finds no expression."""
    return text.replace("\\", "\\\\").replace("$(", "\\$(").replace("${", "\\${")


def _script(plan: ExportPlan, step: Step) -> str:
    places = {one.name: number for number, one in enumerate(plan.parameters(step).values(), 1)}
    return script(plan, step, lambda one: f'"${{{places[one.name]}}}"')


def _requirements(step: Step, listing: list[dict[str, Any]]) -> dict[str, Any]:
    asked = step.resources
    found: dict[str, Any] = {}
    if listing:
        found["InitialWorkDirRequirement"] = {"listing": listing}
    resources: dict[str, Any] = {}
    if asked.cores:
        resources["coresMin"] = asked.cores
    if asked.memory:
        resources["ramMin"] = -(-asked.memory // MEBIBYTE)
    if resources:
        found["ResourceRequirement"] = resources
    if asked.time:
        found["ToolTimeLimit"] = {"timelimit": asked.time}
    return found


def _warnings(plan: ExportPlan) -> list[str]:
    found = []
    gpus = [step.name for step in plan.steps if step.resources.gpus]
    if gpus:
        found.append(f"CWL v1.2 has no way to ask for GPUs: {', '.join(gpus)}")
    if plan.cvmfs():
        names = ", ".join(plan.cvmfs())
        found.append(f"CWL cannot ask for CVMFS; containers have to see /cvmfs with: {names}")
    return found
