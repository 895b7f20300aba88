"""What a valid manifest has to fulfil beyond its schema: names that refer to something, no contradictions.

The rules look at the tree before it is known to be valid, so that all problems are reported at once;
each skips what has a wrong type, which the schema reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from afenv.documents.data import is_one_file
from afenv.documents.manifest import DEFAULT_CODE_FOLDER
from afenv.documents.suggest import did_you_mean, one_of
from afenv.documents.yaml_tree import Document, DocumentPath, format_path
from afenv.errors import Problem

_PLACEHOLDER = re.compile(r"\{(inputs|outputs|parameters)\.([^{}]*)\}")
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml\Z")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return ((index, item) for index, item in enumerate(_list(value)) if isinstance(item, dict))


def _texts(value: Any) -> Iterator[tuple[int, str]]:
    return ((index, item) for index, item in enumerate(_list(value)) if isinstance(item, str))


def _choices(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return f"known are {one_of(ordered, 'and')}" if ordered else "there are none"


class _Rules:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.tree = _mapping(document.root.plain())

    def problem(self, code: str, message: str, path: DocumentPath, remedy: str | None = None) -> Problem:
        return Problem(code, message, self.document.value_place(path), format_path(path), remedy)

    def missing(self, what: str, name: str, known: Iterable[str], path: DocumentPath) -> Problem:
        names = list(known)
        hint = did_you_mean(name, names) or f"; {_choices(names)}"
        return self.problem("E014", f"there is no {what} {name!r}{hint}", path)

    def code(self) -> Iterator[Problem]:
        """Code sources go into separate folders."""
        seen: list[tuple[PurePosixPath, int]] = []
        for index, source in _mappings(self.tree.get("code")):
            into = source.get("into", DEFAULT_CODE_FOLDER)
            if not isinstance(into, str) or not into.startswith("/") or not source.keys() & {"git", "path"}:
                continue
            folder = PurePosixPath(into)
            path: DocumentPath = ("code", index, "into") if "into" in source else ("code", index)
            for other, first in seen:
                if folder == other:
                    message = f"goes into {folder}, as code[{first}] does"
                elif folder.is_relative_to(other):
                    message = f"goes into {folder}, which is inside {other}, where code[{first}] goes"
                elif other.is_relative_to(folder):
                    message = f"goes into {folder}, which holds {other}, where code[{first}] goes"
                else:
                    continue
                yield self.problem("E014", message, path, "Give one of the two another `into`.")
                break
            seen.append((folder, index))

    def names(self) -> Iterator[Problem]:
        """Data and steps have names of their own."""
        for section in ("data", "steps"):
            seen: dict[str, int] = {}
            for index, item in _mappings(self.tree.get(section)):
                name = item.get("name")
                if isinstance(name, str):
                    if name in seen:
                        message = f"the name {name!r} is taken by {section}[{seen[name]}]"
                        yield self.problem("E014", message, (section, index, "name"))
                    seen.setdefault(name, index)

    def data(self) -> Iterator[Problem]:
        """Size and checksums are those of one file, with one checksum for each algorithm."""
        for index, entry in _mappings(self.tree.get("data")):
            seen: dict[str, str] = {}
            for position, text in _texts(entry.get("checksums")):
                algorithm = text.partition(":")[0]
                if seen.setdefault(algorithm, text) != text:
                    message = f"the file has another {algorithm} already, {seen[algorithm]}"
                    yield self.problem("E014", message, ("data", index, "checksums", position))
            uri = entry.get("uri")
            if not isinstance(uri, str) or is_one_file(uri):
                continue
            for key in ("size", "checksums", "replicas"):
                if key in entry:
                    message = f"{uri} is not one file, and {key} is about one"
                    remedy = "Leave it out: `afenv data pin` finds it for each file."
                    yield self.problem("E014", message, ("data", index, key), remedy)

    def pypi(self) -> Iterator[Problem]:
        """Requirements have the form of PEP 508; extras and groups have a file that defines them."""
        from packaging.requirements import InvalidRequirement, Requirement

        for name, environment in _mapping(self.tree.get("environments")).items():
            section = _mapping(_mapping(environment).get("pypi"))
            here: DocumentPath = ("environments", name, "pypi")
            for index, text in _texts(section.get("dependencies")):
                try:
                    Requirement(text)
                except InvalidRequirement as error:
                    reason = str(error).split("\n")[0].rstrip(".")
                    message = f"expected a requirement such as uproot>=5, found {text!r}: {reason}"
                    yield self.problem("E013", message, (*here, "dependencies", index))
            lock = section.get("lock")
            if isinstance(lock, str) and not _PYLOCK.search(PurePosixPath(lock).name):
                message = f"expected a file named pylock.toml or pylock.NAME.toml (PEP 751), found {lock!r}"
                yield self.problem("E013", message, (*here, "lock"))
            source = section.get("file", lock)
            if not (isinstance(source, str) and source.endswith(".toml")):
                for key in ("extras", "groups"):
                    if section.get(key):
                        message = f"{key!r} needs a pyproject.toml as 'file' or a pylock.toml as 'lock'"
                        yield self.problem("E014", message, (*here, key))

    def steps(self) -> Iterator[Problem]:
        """Steps refer to environments, data, steps and outputs that exist, and not in a circle."""
        environments = list(_mapping(self.tree.get("environments")))
        data = {
            item["name"] for _, item in _mappings(self.tree.get("data")) if isinstance(item.get("name"), str)
        }
        steps = {
            item["name"]: item
            for _, item in _mappings(self.tree.get("steps"))
            if isinstance(item.get("name"), str)
        }
        outputs = {f"{name}.{key}" for name, item in steps.items() for key in _mapping(item.get("outputs"))}
        readable = sorted(data | outputs)
        for index, step in _mappings(self.tree.get("steps")):
            here: DocumentPath = ("steps", index)
            environment = step.get("environment", "default")
            if isinstance(environment, str) and environment not in environments:
                path = (*here, "environment") if "environment" in step else here
                yield self.missing("environment", environment, environments, path)
            for position, name in _texts(step.get("inputs")):
                if name not in readable:
                    yield self.missing("data or output", name, readable, (*here, "inputs", position))
            for position, name in _texts(step.get("needs")):
                if name not in steps:
                    yield self.missing("step", name, steps, (*here, "needs", position))
            yield from self.placeholders(step, here)
            yield from self.parameters(step, here)
        yield from self.circle(steps)

    def placeholders(self, step: Mapping[str, Any], here: DocumentPath) -> Iterator[Problem]:
        run = step.get("run")
        if not isinstance(run, str):
            return
        known = {
            "inputs": [name for _, name in _texts(step.get("inputs"))],
            "outputs": list(_mapping(step.get("outputs"))),
            "parameters": list(_mapping(step.get("parameters"))),
        }
        for kind, name in dict.fromkeys(_PLACEHOLDER.findall(run)):
            if name not in known[kind]:
                hint = did_you_mean(name, known[kind]) or f"; {_choices(known[kind])}"
                message = f"{{{kind}.{name}}} is not among the {kind} of the step{hint}"
                yield self.problem("E014", message, (*here, "run"))

    def parameters(self, step: Mapping[str, Any], here: DocumentPath) -> Iterator[Problem]:
        kinds: dict[str, tuple[type, ...]] = {
            "string": (str,),
            "integer": (int,),
            "number": (int, float),
            "boolean": (bool,),
        }
        for name, parameter in _mapping(step.get("parameters")).items():
            declared = _mapping(parameter).get("type")
            if not isinstance(declared, str) or declared not in kinds or "default" not in parameter:
                continue
            value = parameter["default"]
            fits = isinstance(value, kinds[declared]) and (
                declared == "boolean" or not isinstance(value, bool)
            )
            if not fits and isinstance(value, str | int | float):
                message = f"the default {value!r} is not of the type {declared}"
                yield self.problem("E014", message, (*here, "parameters", name, "default"))

    def circle(self, steps: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        """At most one problem: steps that wait for each other."""
        before = {
            name: {need for _, need in _texts(step.get("needs"))}
            | {text.split(".")[0] for _, text in _texts(step.get("inputs")) if "." in text}
            for name, step in steps.items()
        }
        waiting = {name: needs & before.keys() for name, needs in before.items()}
        while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
            for name in ready:
                del waiting[name]
        if waiting:
            names = [item.get("name") for item in _list(self.tree.get("steps")) if isinstance(item, dict)]
            first = next(name for name in names if name in waiting)
            message = f"the steps {one_of(sorted(waiting), 'and')} wait for each other"
            if len(waiting) == 1:
                message = f"the step {first} waits for itself"
            yield self.problem("E014", message, ("steps", _index(self.tree["steps"], first)))


def _index(steps: list[Any], name: str | None) -> int:
    return next(index for index, step in _mappings(steps) if step.get("name") == name)


def rule_problems(document: Document) -> list[Problem]:
    """Every rule that a manifest breaks (E013, E014)."""
    rules = _Rules(document)
    return [*rules.code(), *rules.names(), *rules.data(), *rules.pypi(), *rules.steps()]
