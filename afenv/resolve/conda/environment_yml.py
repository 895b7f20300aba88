"""Reading conda's ``environment.yml``: channels, dependencies, those of ``pip``, and variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afenv.documents.yaml_tree import Node, read_yaml
from afenv.errors import AfenvError
from afenv.resolve.conda.asked import CondaFile

_KEYS = {"name", "channels", "dependencies", "variables", "prefix", "platforms", "category"}


def read_environment_yml(path: Path) -> CondaFile:
    """What a file asks for; E001 to E004 as for any YAML, E011 for a value of a wrong type."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot read: {error.strerror}", place=str(path)) from None
    document = read_yaml(data, str(path))
    if document.problems:
        raise AfenvError.many(document.problems)
    tree = document.root.plain()
    if not isinstance(tree, dict):
        raise AfenvError("E011", "an environment.yml is a mapping", place=str(path))
    for key in tree:
        if key not in _KEYS:
            raise AfenvError("E010", f"unknown key {key!r}", place=str(path))
    dependencies, pip, files = [], list[str](), list[str]()
    for index, entry in enumerate(_list(tree, "dependencies", path)):
        if isinstance(entry, str):
            dependencies.append(entry)
        elif isinstance(entry, dict) and set(entry) == {"pip"} and isinstance(entry["pip"] or [], list):
            for line in entry["pip"] or []:
                _pip_line(str(line), pip, files, path)
        else:
            raise AfenvError(
                "E011", "expected a package or a list of pip", place=str(path), path=f"dependencies[{index}]"
            )
    variables = tree.get("variables") or {}
    if not isinstance(variables, dict):
        raise AfenvError("E011", "expected a mapping", place=str(path), path="variables")
    return CondaFile(
        channels=tuple(str(name) for name in _list(tree, "channels", path) if name != "nodefaults"),
        dependencies=tuple(dependencies),
        pip=tuple(pip),
        pip_files=tuple(files),
        variables={name: _written(document.node(("variables", name))) for name in variables},
    )


def _written(node: Node) -> str:
    """A scalar as it was written: a number is text here."""
    return node.source if node.source is not None else str(node.value)


def _list(tree: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = tree.get(key) or []
    if not isinstance(value, list):
        raise AfenvError("E011", "expected a list", place=str(path), path=key)
    return value


def _pip_line(line: str, pip: list[str], files: list[str], path: Path) -> None:
    line = line.strip()
    for option in ("-r", "--requirement"):
        if line.startswith(option + " "):
            files.append(line[len(option) :].strip())
            return
    if line.startswith("-"):
        raise AfenvError(
            "E016", f"the pip option {line!r} is not supported yet", place=str(path), path="dependencies.pip"
        )
    pip.append(line)
