"""The command of a step as a script for a POSIX shell, in which parameters are variables.

An engine puts the values of a run into the first lines. The command itself refers to variables, quoted for
where each one stands, so that what a value holds never becomes a part of the command.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from afenv.documents.steps import NOTEBOOK_OUTPUT, Step
from afenv.errors import AfenvError
from afenv.export.plan import EngineParameter, ExportPlan
from afenv.steps.quoting import quoted, render_placeholders

HERE_END = "AFENV_VALUE"
_REFERENCE = re.compile("\x04(\\w+)\x05(\\w?)", re.ASCII)


def variable(name: str) -> str:
    """The shell variable of a parameter."""
    return "param_" + name.replace("-", "_")


def body(plan: ExportPlan, step: Step) -> str:
    """The command with the paths of the plan, and shell variables in the place of parameters."""
    inputs = plan.input_paths(step)
    if step.run is None:
        return _notebook(step, inputs)

    def render(kind: str, name: str, state: str) -> str:
        if kind == "inputs":
            return quoted(inputs[name], state)
        if kind == "outputs":
            return quoted((step.outputs[name],), state)
        return _reference(step, name, state)

    return _REFERENCE.sub(_plain_reference, render_placeholders(step.run, render))


def _reference(step: Step, name: str, state: str) -> str:
    found = variable(name)
    if not state and step.parameters[name].type != "string":
        return f"${found}"  # one word in any case, and a number in $((…))
    if state == "<'":
        message = (
            f"the step {step.name} has the parameter {name!r} in a here-document in which nothing is expanded"
        )
        remedy = "Write the end of the here-document without quotes, or give the value to the command."
        raise AfenvError("E772", message, remedy=remedy)
    return {"": f'"${found}"', "'": f"'\"${found}\"'", "#": name}.get(state, f"\x04{found}\x05")


def _plain_reference(found: re.Match[str]) -> str:
    """``$NAME``; with braces only where a letter follows, as engines take braces for their own parameters."""
    return f"${{{found[1]}}}{found[2]}" if found[2] else f"${found[1]}"


def _notebook(step: Step, inputs: Mapping[str, tuple[str, ...]]) -> str:
    """Source: papermill's command line (``-y`` is YAML, ``-r`` text as it is)."""
    assert step.notebook is not None
    given = {
        "inputs": {name: paths[0] if len(paths) == 1 else list(paths) for name, paths in inputs.items()},
        "outputs": {name: path for name, path in step.outputs.items() if name != NOTEBOOK_OUTPUT},
    }
    words = ["python3", "-m", "papermill", "--no-progress-bar", "--log-output", "--cwd", "."]
    words += ["-y", json.dumps(given, ensure_ascii=False)]
    text = shlex.join(words)
    for name, declared in step.parameters.items():
        if declared.type == "string":
            text += f' -r {shlex.quote(name)} "${variable(name)}"'
        else:
            text += f' -y "{name}: ${variable(name)}"'
    return f"{text} {shlex.join([step.notebook, step.outputs[NOTEBOOK_OUTPUT]])}"


def folders(step: Step) -> list[str]:
    """The folders that a step's outputs are in, without the working directory."""
    parents = {str(PurePosixPath(path).parent) for path in step.outputs.values()}
    return sorted(parents - {"."})


def script(
    plan: ExportPlan, step: Step, assign: Callable[[EngineParameter], str], before: tuple[str, ...] = ()
) -> str:
    """The whole script, one line after the other.

    ``assign`` gives the right side of the assignment of a parameter's variable, ``before`` are lines to begin
    with.
    """
    image = plan.image(step)
    values = [f"{variable(name)}={assign(one)}" for name, one in plan.parameters(step).items()]
    lines = []
    if made := folders(step):
        lines.append(f"mkdir -p {shlex.join(made)}")
    if image.workdir not in (None, "/"):
        place = shlex.quote(str(image.workdir))
        lines += [
            f"for file in {place}/* {place}/.[!.]*; do  # the code of the image",
            '  if [ -e "$file" ] && [ ! -e "${file##*/}" ]; then ln -s "$file" . 2>/dev/null || :; fi',
            "done",
        ]
    command = body(plan, step).strip("\n")
    if not image.entrypoint:
        return "\n".join(["set -e", *before, *lines, *values, command])
    # the entry point starts a shell of its own: values reach it as variables, not as a part of its text
    names = [variable(name) for name in plan.parameters(step)]
    exports = [f"export {' '.join(names)}"] if names else []
    inner = shlex.quote("\n".join([*lines, command]))
    last = f"{shlex.join(image.entrypoint)} /bin/sh -e -c {inner}"
    return "\n".join(["set -e", *before, *values, *exports, last])


def here_document(text: str) -> str:
    """The right side of an assignment from text that an engine puts in, whatever that text holds."""
    return f"$(cat <<'{HERE_END}'\n{text}\n{HERE_END}\n)"
