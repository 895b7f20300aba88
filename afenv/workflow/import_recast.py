"""A ``recast.yml``, and the stages of a yadage workflow, as a draft of a manifest.

Source: the schemas of yadage-schemas 0.11, and recast-atlas 0.4.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.workflow.import_draft import Draft, identifier, read_mapping, shown

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_WORKDIR = re.compile(r"\{workdir\}/?")
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
)


def take_recast(tree: dict[str, Any], path: Path, draft: Draft) -> None:
    """Take over the workflow that a ``recast.yml`` names; E775 if it is not on this machine."""
    spec: dict[str, Any] = tree["spec"]
    workflow, toplevel = spec.get("workflow"), str(spec.get("toplevel", "specs"))
    if not isinstance(workflow, str) or ":" in toplevel.split("/")[0]:
        message = f"its workflow {workflow} in {toplevel} is not on this machine"
        raise AfenvError("E775", message, place=str(path), remedy="Fetch it, and let `spec` name its folder.")
    metadata = tree.get("metadata")
    if isinstance(metadata, dict):
        title = metadata.get("short_description")
        draft.title = title if isinstance(title, str) and title else None
        for key in sorted(metadata.keys() - {"short_description"}):
            draft.todo.append(f"its metadata has {key}: {shown(metadata[key])}")
    examples = tree.get("example_inputs")
    example = examples.get("default") if isinstance(examples, dict) else None
    values = example.get("initdata") if isinstance(example, dict) else None
    place = path.parent / toplevel / workflow
    take_stages(read_mapping(place), place, values if isinstance(values, dict) else {}, draft)
    if isinstance(example, dict):
        for key in sorted(example.keys() - {"initdata"}):
            draft.todo.append(f"its example has {key}: {shown(example[key])}")
    if isinstance(examples, dict):
        draft.todo += [
            f"it has the example {name}: {shown(examples[name])}" for name in examples if name != "default"
        ]
    for key in sorted(tree.keys() - {"name", "metadata", "spec", "example_inputs", "results"}):
        draft.todo.append(f"it has {key}: {shown(tree[key])}")


def take_stages(tree: dict[str, Any], path: Path, values: dict[str, Any], draft: Draft) -> None:
    """Take over the stages of a workflow; ``values`` are those that it starts with. E775, E776."""
    stages = [one for one in tree.get("stages") or () if isinstance(one, dict) and "name" in one]
    names: dict[str, str] = {}
    for stage in stages:
        names[str(stage["name"])] = identifier(str(stage["name"]), names.values())
    done = [_Stage(stage, names, path, values, draft) for stage in stages]
    _check_circle(done, path)
    written = {one.name for one in done if one.take()}
    for step in draft.steps:
        lost = {one for one in step.get("inputs", ()) if "." in one and not _is_written(one, draft)}
        for one in lost:
            draft.todo.append(f"the step {step['name']} reads {one}, which is not among the outputs")
            step["inputs"].remove(one)
            step["run"] = step["run"].replace(f"{{inputs.{one}}}", one)
        step["needs"] = [name for name in step.get("needs", ()) if name in written]
        for key in ("needs", "inputs"):
            if not step.get(key):
                step.pop(key, None)


def _is_written(name: str, draft: Draft) -> bool:
    step, _, output = name.partition(".")
    return any(one["name"] == step and output in one.get("outputs", {}) for one in draft.steps)


def _check_circle(stages: list[_Stage], path: Path) -> None:
    waiting = {one.name: set(one.before) for one in stages}
    waiting = {name: before & waiting.keys() for name, before in waiting.items()}
    while ready := [name for name, before in waiting.items() if not before & waiting.keys()]:
        for name in ready:
            del waiting[name]
    if waiting:
        message = f"stages wait for each other in a circle: {', '.join(waiting)}"
        raise AfenvError("E776", message, place=str(path))


class _Stage:
    """One stage, while it becomes a step."""

    def __init__(
        self, stage: dict[str, Any], names: dict[str, str], path: Path, values: dict[str, Any], draft: Draft
    ) -> None:
        self.stage, self.names, self.path, self.values, self.draft = stage, names, path, values, draft
        self.name = names[str(stage["name"])]
        scheduler = stage.get("scheduler")
        self.scheduler: dict[str, Any] = scheduler if isinstance(scheduler, dict) else {}
        waits = stage.get("dependencies")
        waits = waits.get("expressions", []) if isinstance(waits, dict) else waits
        self.before = [names[one] for one in waits or () if isinstance(one, str) and one in names]
        self.inputs: list[str] = []
        self.outputs: dict[str, str] = {}
        self.parameters: dict[str, Any] = {}
        self.words: dict[str, str] = {}

    def todo(self, sentence: str) -> None:
        self.draft.todo.append(f"the stage {self.name} {sentence}")

    def take(self) -> bool:
        """Add the step to the draft; whether there is one."""
        kind = self.scheduler.get("scheduler_type")
        step = self._packtivity()
        process = step.get("process") if step else None
        if kind != "singlestep-stage" or not step or not isinstance(process, dict):
            self.todo(f"is not one step with a command, and is not taken over: {shown(self.stage)}")
            return False
        command = process.get("cmd", process.get("script"))
        if not isinstance(command, str):
            self.todo(f"has no command, and is not taken over: {shown(process)}")
            return False
        interpreter = str(process.get("interpreter", "sh"))
        if interpreter.rsplit("/", 1)[-1] not in ("sh", "bash"):
            self.todo(f"has a script for {interpreter}: let the command call it")
        for name, value in self._given().items():
            self._parameter(name, value)
        self._published(step.get("publisher"))
        run = _FIELD.sub(self._word, command)
        self.draft.steps.append(
            {
                "name": self.name,
                "environment": self._environment(step.get("environment")),
                "run": run,
                **({"inputs": list(dict.fromkeys(self.inputs))} if self.inputs else {}),
                **({"outputs": self.outputs} if self.outputs else {}),
                **({"parameters": self.parameters} if self.parameters else {}),
                "needs": [one for one in self.before if one != self.name],
            }
        )
        return True

    def _packtivity(self) -> dict[str, Any] | None:
        step = self.scheduler.get("step")
        reference = step.get("$ref") if isinstance(step, dict) else None
        if not isinstance(reference, str):
            return step if isinstance(step, dict) else None
        file, _, inside = reference.partition("#")
        found: Any = read_mapping(self.path.parent / file if file else self.path)
        for key in filter(None, inside.split("/")):
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise AfenvError("E775", f"{reference} leads to nothing", place=str(self.path))
        return found

    def _given(self) -> dict[str, Any]:
        given = self.scheduler.get("parameters") or {}
        if isinstance(given, list):
            given = {one["key"]: one.get("value") for one in given if isinstance(one, dict) and "key" in one}
        return given if isinstance(given, dict) else {}

    def _parameter(self, name: str, value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("output"), str):
            source = value.get("step", value.get("stages"))
            if source == "init":
                self._initial(name, self.values.get(value["output"]), value["output"])
            elif source in self.names:
                found = f"{self.names[source]}.{identifier(value['output'])}"
                self.inputs.append(found)
                self.words[name] = f"{{inputs.{found}}}"
            else:
                self.todo(f"reads {name} of {shown(source)}")
        elif isinstance(value, str) and _WORKDIR.search(value):
            self.words[name] = _WORKDIR.sub("", value) or "."
        else:
            self._initial(name, value, name)

    def _initial(self, name: str, value: Any, known_as: str) -> None:
        """A value that the workflow starts with: data if it is a URI or a file that is there."""
        kind = next((text for type_, text in _TYPES if isinstance(value, type_)), None)
        if isinstance(value, str) and self._is_data(value):
            data = self.draft.add_data(value, known_as)
            self.inputs.append(data)
            self.words[name] = f"{{inputs.{data}}}"
        elif kind is None:
            self.todo(f"has the parameter {name}, the value of which is not known: {shown(value)}")
        else:
            parameter = identifier(name, ())
            self.parameters[parameter] = {"type": kind, "default": value}
            self.words[name] = f"{{parameters.{parameter}}}"

    def _is_data(self, value: str) -> bool:
        if re.match(r"(?:https?|root|davs?|xroot):/\S+\Z", value):
            return True
        inside = value and not value.startswith("/") and ".." not in value.split("/")
        return bool(inside and "\n" not in value and (self.path.parent.parent / value).is_file())

    def _word(self, found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        name = found[1]
        word = self.words.get(name)
        if word is None:
            self.todo(f"has {found[0]} in its command, of which nothing is known")
            return found[0]
        for key, path in self.outputs.items():
            if word == path.rstrip("/"):
                return f"{{outputs.{key}}}"
        return word

    def _published(self, publisher: Any) -> None:
        publisher = publisher if isinstance(publisher, dict) else {}
        kind = publisher.get("publisher_type")
        given = publisher.get("outputmap") if kind == "frompar-pub" else publisher.get("publish")
        if kind not in ("frompar-pub", "interpolated-pub") or not isinstance(given, dict):
            if publisher:
                self.todo(f"says its outputs in another way; write `outputs`: {shown(publisher)}")
            return
        for key, value in given.items():
            path = self.words.get(str(value)) if kind == "frompar-pub" else _WORKDIR.sub("", str(value))
            if not path or "{" in path or "*" in path or path.startswith("/"):
                self.todo(f"writes {key}, of which the path is not known: {shown(value)}")
            else:
                self.outputs[identifier(str(key), self.outputs)] = path

    def _environment(self, given: Any) -> str:
        given = given if isinstance(given, dict) else {}
        image, tag = given.get("image"), given.get("imagetag")
        for one in given.get("resources") or ():
            if one == "CVMFS":
                self.todo("needs CVMFS: write `cvmfs` into its environment")
            else:
                self.todo(f"needs {shown(one)}")
        for key in sorted(given.keys() - {"environment_type", "image", "imagetag", "resources"}):
            self.todo(f"has {key} in its environment: {shown(given[key])}")
        reference = f"{image}:{tag}" if isinstance(image, str) and tag else image
        return self.draft.environment(reference if isinstance(reference, str) else None, self.name)
