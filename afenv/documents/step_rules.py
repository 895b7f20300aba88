"""What the steps of a valid manifest fulfil beyond the schema: names that exist, no contradictions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from afenv.documents.steps import TYPES, all_outputs, fits_type
from afenv.documents.suggest import did_you_mean, one_of
from afenv.documents.tree_parts import as_mapping, mappings, texts
from afenv.documents.yaml_tree import Document, DocumentPath, format_path
from afenv.errors import Problem

_PLACEHOLDER = re.compile(r"\{(inputs|outputs|parameters)\.([^{}]*)\}")
_OF_NOTEBOOKS = ("inputs", "outputs")  # what is set in a notebook besides its parameters


def _choices(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return f"known are {one_of(ordered, 'and')}" if ordered else "there are none"


class _StepRules:
    def __init__(self, document: Document, tree: Mapping[str, Any]) -> None:
        self.document = document
        self.tree = tree
        self.steps = [
            (index, step) for index, step in mappings(tree.get("steps")) if isinstance(step.get("name"), str)
        ]
        self.by_name = {step["name"]: step for _, step in self.steps}

    def problem(self, message: str, path: DocumentPath, remedy: str | None = None) -> Problem:
        return Problem("E014", message, self.document.value_place(path), format_path(path), remedy)

    def missing(self, what: str, name: str, known: Iterable[str], path: DocumentPath) -> Problem:
        names = list(known)
        hint = did_you_mean(name, names) or f"; {_choices(names)}"
        return self.problem(f"there is no {what} {name!r}{hint}", path)

    def references(self) -> Iterator[Problem]:
        """Environments, data, steps and outputs that steps refer to exist."""
        environments = list(as_mapping(self.tree.get("environments")))
        data = {
            item["name"] for _, item in mappings(self.tree.get("data")) if isinstance(item.get("name"), str)
        }
        outputs = {f"{name}.{key}" for name, step in self.by_name.items() for key in outputs_of(step)}
        readable = sorted(data | outputs)
        for index, step in mappings(self.tree.get("steps")):
            here: DocumentPath = ("steps", index)
            environment = step.get("environment", "default")
            if isinstance(environment, str) and environment not in environments:
                path = (*here, "environment") if "environment" in step else here
                yield self.missing("environment", environment, environments, path)
            for position, name in texts(step.get("inputs")):
                if name not in readable:
                    yield self.missing("data or output", name, readable, (*here, "inputs", position))
            for position, name in texts(step.get("needs")):
                if name not in self.by_name:
                    yield self.missing("step", name, self.by_name, (*here, "needs", position))
            yield from self.placeholders(step, here)
            yield from self.parameters(step, here)

    def placeholders(self, step: Mapping[str, Any], here: DocumentPath) -> Iterator[Problem]:
        """What the command names exists, and a parameter that it does not name would have no effect."""
        run = step.get("run")
        if not isinstance(run, str):
            return
        known = {
            "inputs": [name for _, name in texts(step.get("inputs"))],
            "outputs": list(as_mapping(step.get("outputs"))),
            "parameters": list(as_mapping(step.get("parameters"))),
        }
        used = dict.fromkeys(_PLACEHOLDER.findall(run))
        for kind, name in used:
            if name not in known[kind]:
                hint = did_you_mean(name, known[kind]) or f"; {_choices(known[kind])}"
                message = f"{{{kind}.{name}}} is not among the {kind} of the step{hint}"
                yield self.problem(message, (*here, "run"))
        for name in known["parameters"]:
            if isinstance(name, str) and ("parameters", name) not in used:
                message = f"the command does not use the parameter {name!r}"
                remedy = f"Put {{parameters.{name}}} into the command, or remove the parameter."
                yield self.problem(message, (*here, "parameters", name), remedy)

    def parameters(self, step: Mapping[str, Any], here: DocumentPath) -> Iterator[Problem]:
        """Defaults are of the type that is declared."""
        for name, parameter in as_mapping(step.get("parameters")).items():
            path = (*here, "parameters", name)
            if "notebook" in step and name in _OF_NOTEBOOKS:
                yield self.problem(f"a notebook has {name!r} set already: the paths by name", path)
            declared = as_mapping(parameter).get("type")
            if not isinstance(declared, str) or declared not in TYPES or "default" not in parameter:
                continue
            value = parameter["default"]
            if isinstance(value, str | int | float) and not fits_type(value, declared):
                message = f"the default {value!r} is not of the type {declared}"
                yield self.problem(message, (*path, "default"))

    def outputs(self) -> Iterator[Problem]:
        """No two outputs of the analysis are at one path, and none is inside another one."""
        seen: list[tuple[PurePosixPath, str]] = []
        for index, step in self.steps:
            for key, text in outputs_of(step).items():
                if not isinstance(text, str) or not isinstance(key, str):
                    continue
                here = (
                    ("steps", index, "outputs", key)
                    if key in as_mapping(step.get("outputs"))
                    else ("steps", index)
                )
                path, name = PurePosixPath(text), f"{step['name']}.{key}"
                if not path.parts:
                    yield self.problem(f"{text!r} is the working directory, not a path in it", here)
                    continue
                for other, owner in seen:
                    if path == other:
                        message = f"writes {text}, as {owner} does"
                    elif path.is_relative_to(other):
                        message = f"writes {text}, which is inside {other}, which {owner} writes"
                    elif other.is_relative_to(path):
                        message = f"writes {text}, which holds {other}, which {owner} writes"
                    else:
                        continue
                    yield self.problem(message, here, "Give one of the two another path.")
                    break
                seen.append((path, name))

    def circle(self) -> Iterator[Problem]:
        """At most one problem: steps that wait for each other, named in the order in which they wait."""
        before = {
            name: [
                *(need for _, need in texts(step.get("needs")) if need in self.by_name),
                *(text.split(".")[0] for _, text in texts(step.get("inputs")) if "." in text),
            ]
            for name, step in self.by_name.items()
        }
        waiting = {name: {need for need in needs if need in before} for name, needs in before.items()}
        while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
            for name in ready:
                del waiting[name]
        if not waiting:
            return
        walked: list[str] = []
        name = next(iter(waiting))
        while name not in walked:
            walked.append(name)
            name = next(need for need in before[name] if need in waiting)
        circle = walked[walked.index(name) :]
        first = min(circle, key=list(self.by_name).index)
        turn = circle.index(first)
        circle = [*circle[turn:], *circle[:turn]]
        message = f"the step {first} waits for itself"
        if len(circle) > 1:
            message = f"steps wait for each other in a circle: {' waits for '.join([*circle, first])}"
        index = next(index for index, step in self.steps if step["name"] == first)
        yield self.problem(message, ("steps", index), "Let one of them not read what the others write.")


def outputs_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a step that may be invalid, with that which a notebook has in any case."""
    return all_outputs(str(step.get("name")), step.get("notebook"), as_mapping(step.get("outputs")))


def step_problems(document: Document, tree: Mapping[str, Any]) -> list[Problem]:
    """Every rule on steps that a manifest breaks (E014).

    Where two steps have one name, that alone is said, elsewhere: what refers to it could be either.
    """
    rules = _StepRules(document, tree)
    if len(rules.by_name) < len(rules.steps):
        return list(rules.outputs())
    return [*rules.references(), *rules.outputs(), *rules.circle()]
