"""The requirements of a pyproject.toml: its dependencies, those of extras and of dependency groups.

The project is never built: its dependencies must be static (PEP 621), so that they are the same on every
host, and nobody's code is run to lock.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.resolve.pypi_inputs import normalised, parse_requirement, read_text


def _table(data: Mapping[str, Any], key: str, place: str, path: str | None = None) -> Mapping[str, Any]:
    """A table of the document, empty if it is not there; E011 if it is something else."""
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise AfenvError("E011", f"{path or key} is not a table", place=place)
    return value


def _texts(value: Any, path: str, place: str) -> list[str]:
    """A list of texts; E011 if it is something else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise AfenvError("E011", f"{path} is not a list of texts", place=place)
    return value


def _group(name: str, groups: Mapping[str, Any], place: str, open_groups: tuple[str, ...]) -> list[str]:
    """The requirements of a dependency group, included groups too (PEP 735)."""
    table = {normalised(key): value for key, value in groups.items()}
    key = normalised(name)
    if key in open_groups:
        raise AfenvError("E014", f"dependency group {name!r} includes itself", place=place)
    if key not in table:
        raise AfenvError(
            "E014", f"there is no dependency group {name!r}; there are: {_names(groups)}", place=place
        )
    if not isinstance(table[key], list):
        raise AfenvError("E011", f"dependency-groups.{name} is not a list", place=place)
    result: list[str] = []
    for entry in table[key]:
        if isinstance(entry, str):
            result.append(entry)
        elif isinstance(entry, dict) and list(entry) == ["include-group"]:
            result += _group(str(entry["include-group"]), groups, place, (*open_groups, key))
        else:
            raise AfenvError("E013", f"dependency group {name!r} has an entry {entry!r}", place=place)
    return result


def _names(table: Mapping[str, Any]) -> str:
    return ", ".join(sorted(table)) or "none"


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; E001 if it cannot be read, E002 if it is not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise AfenvError("E002", f"not TOML: {error}", place=str(path)) from None


def pyproject_requirements(
    path: Path, extras: Sequence[str], groups: Sequence[str], python: str
) -> tuple[str, ...]:
    """The requirements of a pyproject.toml: its dependencies, those of some extras and groups.

    ``python`` is the full version of the target's Python, which ``requires-python`` must allow (E102).
    A project without a ``project`` table may still have groups.
    """
    data = read_toml(path)
    place = str(path)
    project = _table(data, "project", place)
    optional = _table(project, "optional-dependencies", place, "project.optional-dependencies")
    groups_table = _table(data, "dependency-groups", place)
    dynamic = {"dependencies", "optional-dependencies"} & set(
        _texts(project.get("dynamic", []), "project.dynamic", place)
    )
    if dynamic:
        raise AfenvError(
            "E016",
            f"{', '.join(sorted(dynamic))} are dynamic: they are known only when the project is built",
            place=place,
            remedy="List them in the file, or export a requirements.txt or pylock.toml and refer to it.",
        )
    if "project" not in data and not groups:
        raise AfenvError(
            "E012", "there is no [project] table and no dependency group is asked for", place=place
        )
    _check_python(project.get("requires-python"), python, place)
    own = normalised(str(project.get("name", "")))
    result = list(_texts(project.get("dependencies", []), "project.dependencies", place))
    waiting = [normalised(extra) for extra in extras] + _own_extras(result, own, place)
    result += _of_extras(waiting, optional, own, place)
    for group in groups:
        grouped = _group(group, groups_table, place, ())
        result += grouped + _of_extras(_own_extras(grouped, own, place), optional, own, place)
    _refuse_sources(data, result, place)
    others = (
        text for text in dict.fromkeys(result) if normalised(parse_requirement(text, place).name) != own
    )
    return tuple(others)


def _own_extras(requirements: Sequence[str], own: str, place: str) -> list[str]:
    """The extras of the project itself that some requirements name, as in ``all = ["project[plot]"]``."""
    result: list[str] = []
    for text in requirements:
        requirement = parse_requirement(text, place)
        if normalised(requirement.name) == own:
            if requirement.marker is not None:
                message = f"{text!r}, an extra of the project itself under a condition, is not supported yet"
                raise AfenvError("E016", message, place=place)
            result += sorted(normalised(extra) for extra in requirement.extras)
    return result


def _of_extras(waiting: list[str], optional: Mapping[str, Any], own: str, place: str) -> list[str]:
    """The requirements of some extras, and of the extras of the same project that these name."""
    table = {
        normalised(key): _texts(value, f"project.optional-dependencies.{key}", place)
        for key, value in optional.items()
    }
    result: list[str] = []
    seen = set[str]()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in table:
            message = f"there is no extra {extra!r}; there are: {_names(optional)}"
            raise AfenvError("E014", message, place=place)
        result += table[extra]
        waiting += _own_extras(table[extra], own, place)
    return result


def _check_python(wanted: Any, python: str, place: str) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if wanted is None:
        return
    try:
        allowed = SpecifierSet(str(wanted)).contains(python, prereleases=True)
    except InvalidSpecifier:
        raise AfenvError("E013", f"requires-python is {wanted!r}", place=place) from None
    if not allowed:
        raise AfenvError(
            "E102", f"the project needs Python {wanted}; the environment has {python}", place=place
        )


def _refuse_sources(data: Mapping[str, Any], requirements: Sequence[str], place: str) -> None:
    """Another source than the index would be passed over in silence: refuse it."""
    tool = _table(_table(data, "tool", place), "uv", place, "tool.uv")
    sources = _table(tool, "sources", place, "tool.uv.sources")
    wanted = {normalised(parse_requirement(text, place).name) for text in requirements}
    both = sorted(name for name in sources if normalised(name) in wanted)
    if both:
        raise AfenvError("E016", f"tool.uv.sources of {', '.join(both)} is not supported yet", place=place)
