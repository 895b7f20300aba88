"""What a ``reana.yaml`` tells: its serial steps, as steps of the manifest.

The format is that of REANA 0.9 (``workflow.type: serial``, ``workflow.specification.steps``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from afenv.workflow.init_findings import Findings, read_foreign_yaml

NAME = "reana.yaml"
_PARAMETER = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(i?)\Z")
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
)


def look_for_reana(folder: Path, found: Findings) -> None:
    """Take over the serial steps of a ``reana.yaml``, their parameters and memory."""
    if not (folder / NAME).is_file():
        return
    tree = read_foreign_yaml(folder, NAME, found)
    workflow = tree.get("workflow")
    if not isinstance(workflow, dict):
        return
    kind = workflow.get("type")
    if kind != "serial":
        found.not_taken.append((NAME, f"its workflow of the type {kind}, in {workflow.get('file')}"))
        return
    take_serial(tree, found, NAME)
    if found.steps:
        found.taken.append((NAME, "the steps, as comments"))
    outputs = tree.get("outputs")
    if isinstance(outputs, dict) and outputs.get("files"):
        files = ", ".join(str(name) for name in outputs["files"])
        found.not_taken.append((NAME, f"which step writes which output ({files})"))
    for image in images_of(tree):
        remark = (NAME, f"the image {image}; to stand on it, write base: {{oci: …}}")
        if remark not in found.not_taken:
            found.not_taken.append(remark)


def serial_steps(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a serial workflow that have commands, as they are."""
    workflow = tree.get("workflow")
    specification = workflow.get("specification") if isinstance(workflow, dict) else None
    steps = specification.get("steps") if isinstance(specification, dict) else None
    found = steps if isinstance(steps, list) else []
    return [step for step in found if isinstance(step, dict) and step.get("commands")]


def images_of(tree: dict[str, Any]) -> list[str]:
    """The image of each serial step that names one."""
    images = (step.get("environment") for step in serial_steps(tree))
    return [image for image in images if isinstance(image, str)]


def take_serial(tree: dict[str, Any], found: Findings, name: str) -> None:
    """Take over the serial steps, one for each of :func:`serial_steps`; ``name`` is that of the file."""
    inputs = tree.get("inputs")
    parameters = inputs.get("parameters") if isinstance(inputs, dict) else None
    known = parameters if isinstance(parameters, dict) else {}
    for number, step in enumerate(serial_steps(tree), 1):
        _step(step, number, known, found)


def _step(step: dict[str, Any], number: int, known: dict[str, Any], found: Findings) -> None:
    commands = [str(command) for command in step["commands"]]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(step.get("name", ""))).strip("-")
    name = name if re.match(r"[A-Za-z]", name) else f"step-{number}"
    taken = {other["name"] for other in found.steps}
    name = f"{name}-{number}" if name in taken else name
    used: dict[str, Any] = {}

    def replace(match: re.Match[str]) -> str:
        parameter = match[1] or match[2]
        if parameter is None:
            return "$"  # $$ is a dollar sign
        value = known.get(parameter)
        declared = next((text for kind, text in _TYPES if isinstance(value, kind)), None)
        if declared is None or not re.match(r"[A-Za-z]", parameter):
            return match[0]
        used[parameter] = {"type": declared, "default": value}
        return f"{{parameters.{parameter}}}"

    result: dict[str, Any] = {
        "name": name,
        "run": ("\n" if any("\n" in one for one in commands) else " && ").join(commands),
    }
    result["run"] = _PARAMETER.sub(replace, result["run"])
    if used:
        result["parameters"] = used
    memory = _MEMORY.match(str(step.get("kubernetes_memory_limit", "")))
    if memory:
        unit = f"{memory[2]}{memory[3]}B".replace("KB", "kB")
        result["resources"] = {"memory": f"{memory[1]} {unit}"}
    if found.steps:
        result["needs"] = [found.steps[-1]["name"]]
    found.steps.append(result)
