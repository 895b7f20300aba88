"""The steps of an analysis, as frozen values. The norm is ``specs/manifest/v1``, section 5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afenv.record import field, record

Value = str | int | float | bool
NOTEBOOK_OUTPUT = "notebook"  # the output that a notebook step has in any case: the executed notebook

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_UNITS: dict[str, int] = {"k": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@record
class Parameter:
    """A value that may be chosen for each run: its type, and the value where none is given.

    ``type`` is ``string``, ``integer``, ``number`` or ``boolean``; without a ``default``, a run gives one.
    """

    type: str
    default: Value | None = None
    description: str | None = None


@record
class Resources:
    """What a step needs of a machine: processor cores, bytes of memory, GPUs, longest time in seconds."""

    cores: int | None = None
    memory: int | None = None
    gpus: int = 0
    time: int | None = None


@record
class Step:
    """One step: exactly one of ``run``, a command for a POSIX shell, and ``notebook``, a path, is set.

    ``inputs`` are names of data or ``STEP.OUTPUT``; ``outputs`` are paths by name, relative to the working
    directory, of a folder if it ends in ``/``. A notebook has the output :data:`NOTEBOOK_OUTPUT` in any case.
    """

    name: str
    environment: str = "default"
    run: str | None = None
    notebook: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    needs: tuple[str, ...] = ()


def fits_type(value: Any, kind: str) -> bool:
    """Whether a value is of a parameter's type; a boolean is no number, and a whole number is a number."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def memory_bytes(text: str) -> int:
    """Bytes of an amount such as ``4 GB`` or ``512 MiB`` (the form of the schema)."""
    found = re.match(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT])(i?)B\Z", text)
    assert found is not None, text
    unit: int = (1024 if found[3] else 1000) ** _UNITS[found[2].replace("K", "k")]
    return round(float(found[1]) * unit)


def time_seconds(text: str) -> int:
    """Seconds of a duration such as ``2h30m`` (the form of the schema)."""
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)([dhms])", text))


def all_outputs(name: str, notebook: object, outputs: Mapping[str, str]) -> dict[str, str]:
    """The outputs that are stated, and the executed notebook where the step is one."""
    implied = {NOTEBOOK_OUTPUT: f"{name}.ipynb"} if notebook else {}
    return {**implied, **outputs}


def step_from_tree(tree: Mapping[str, Any]) -> Step:
    """The step that a valid tree stands for."""
    resources = tree.get("resources", {})
    return Step(
        name=tree["name"],
        environment=tree.get("environment", "default"),
        run=tree.get("run"),
        notebook=tree.get("notebook"),
        inputs=tuple(tree.get("inputs", ())),
        outputs=all_outputs(tree["name"], tree.get("notebook"), tree.get("outputs", {})),
        parameters={
            name: Parameter(
                type=entry["type"], default=entry.get("default"), description=entry.get("description")
            )
            for name, entry in tree.get("parameters", {}).items()
        },
        resources=Resources(
            cores=resources.get("cores"),
            memory=memory_bytes(resources["memory"]) if "memory" in resources else None,
            gpus=resources.get("gpus", 0),
            time=time_seconds(resources["time"]) if "time" in resources else None,
        ),
        needs=tuple(tree.get("needs", ())),
    )
