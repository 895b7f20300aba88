"""The command of a step, with paths and values in the place of its placeholders."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from afenv.documents.steps import NOTEBOOK_OUTPUT, Step, Value
from afenv.steps.quoting import replace_placeholders

Paths = Mapping[str, str | Sequence[str]]


def value_text(value: Value) -> str:
    """A parameter's value as a command gets it: ``true``, ``false``, a number, or the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _words(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def expand(step: Step, inputs: Paths, outputs: Paths, parameters: Mapping[str, Value]) -> str:
    """The command of a step for a POSIX shell; that of a notebook calls papermill.

    ``inputs`` and ``outputs`` are paths by the names of the manifest, several paths of one input in a list;
    ``parameters`` are values by name. All names of the step must be there. Every value is quoted for the
    place at which its placeholder stands: it is a word, or several, outside quotes, and text inside them.
    """
    if step.run is None:
        return notebook_command(step, inputs, outputs, parameters)
    found: dict[str, Mapping[str, Any]] = {
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {name: value_text(value) for name, value in parameters.items()},
    }
    return replace_placeholders(step.run, lambda kind, name: _words(found[kind][name]))


def notebook_command(step: Step, inputs: Paths, outputs: Paths, parameters: Mapping[str, Value]) -> str:
    """The command that executes a notebook.

    The parameters are set in the notebook, and so are ``inputs`` and ``outputs``, dictionaries of paths by
    name (a list where there are several), except that of the executed notebook itself.

    Source: papermill's command line, ``papermill [OPTIONS] NOTEBOOK_PATH OUTPUT_PATH``, ``-y`` YAML.
    """
    assert step.notebook is not None
    executed = _words(outputs[NOTEBOOK_OUTPUT])[0]
    given: dict[str, Any] = {
        **parameters,
        "inputs": {name: path if isinstance(path, str) else list(path) for name, path in inputs.items()},
        "outputs": {name: path for name, path in outputs.items() if name != NOTEBOOK_OUTPUT},
    }
    words = ["python3", "-m", "papermill", "--no-progress-bar", "--log-output", "--cwd", "."]
    words += ["-y", json.dumps(given, ensure_ascii=False), step.notebook, executed]
    return shlex.join(words)
