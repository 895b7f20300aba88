"""What a ``reana.yaml`` tells: its serial steps, as steps of the manifest.

The format is that of REANA 0.9 (``workflow.type: serial``, ``workflow.specification.steps``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from afenv.workflow.init_findings import Findings, read_foreign_yaml

NAME = "reana.yaml"
_PARAMETER = re.compile(r"\$\{(\w+)\}|\$(\w+)")
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
    specification = workflow.get("specification")
    steps = specification.get("steps") if isinstance(specification, dict) else None
    inputs = tree.get("inputs")
    parameters = inputs.get("parameters") if isinstance(inputs, dict) else None
    known = parameters if isinstance(parameters, dict) else {}
    for number, step in enumerate(steps if isinstance(steps, list) else [], 1):
        if isinstance(step, dict):
            _step(step, number, known, found)
    if found.steps:
        found.taken.append((NAME, "the steps, as comments"))
    outputs = tree.get("outputs")
    if isinstance(outputs, dict) and outputs.get("files"):
        files = ", ".join(str(name) for name in outputs["files"])
        found.not_taken.append((NAME, f"which step writes which output ({files})"))


def _step(step: dict[str, Any], number: int, known: dict[str, Any], found: Findings) -> None:
    commands = [str(command) for command in step.get("commands") or ()]
    if not commands:
        return
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(step.get("name", ""))).strip("-")
    name = name if re.match(r"[A-Za-z]", name) else f"step-{number}"
    taken = {other["name"] for other in found.steps}
    name = f"{name}-{number}" if name in taken else name
    used: dict[str, Any] = {}

    def replace(match: re.Match[str]) -> str:
        parameter = match[1] or match[2]
        value = known.get(parameter)
        declared = next((text for kind, text in _TYPES if isinstance(value, kind)), None)
        if declared is None or not re.match(r"[A-Za-z]", parameter):
            return match[0]
        used[parameter] = {"type": declared, "default": value}
        return f"{{parameters.{parameter}}}"

    result: dict[str, Any] = {"name": name, "run": " && ".join(commands)}
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
    image = step.get("environment")
    remark = (NAME, f"the image {image}; to stand on it, write base: {{oci: …}}")
    if isinstance(image, str) and remark not in found.not_taken:
        found.not_taken.append(remark)
