"""What is asked of PyPI: requirements of the manifest, of a requirements.txt, of a pyproject.toml.

A pyproject.toml is read here and never built: its dependencies must be static (PEP 621), which holds
for the same answer on every host. A requirements.txt is given to uv as it is; it is read here to find
the files that it includes and the lines that cannot be supported, so that their errors have a place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_INCLUDE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)(?:\s*=\s*|\s+|(?=[^-\s]))(?P<name>.+)\Z")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s|=|\Z)")
_LOCAL = re.compile(r"(?:\.{0,2}/|file:|~)|[^\s;@\[]*/|\.{1,2}(?:\[|\Z)")
_COMMENT = re.compile(r"(?:\A|\s)#.*\Z")


def normalised(name: str) -> str:
    """A project name in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirement(text: str, place: str) -> Requirement:
    """A requirement (PEP 508); E013 if it is not one, E016 if it names a file of this machine."""
    from packaging.requirements import InvalidRequirement, Requirement

    if _LOCAL.match(text.strip()) or "@ file:" in text:
        raise AfenvError(
            "E016",
            f"{text!r} names a local file or folder; only packages of an index and wheels at a URL "
            "are supported yet",
            place=place,
        )
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise AfenvError("E013", f"{text!r} is not a requirement: {reason}", place=place) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AfenvError("E002", "the file is not text in UTF-8", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot read: {error.strerror}", place=str(path)) from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines of a requirements file with the number of their first physical line."""
    number, start, parts = 0, 1, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        if not parts:
            start = number
        line = raw.rstrip()
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            parts.append(line[:-1])
            continue
        parts.append(line)
        logical = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if logical:
            yield start, logical
    if parts and (logical := _COMMENT.sub("", "".join(parts)).strip()):
        yield start, logical


def requirements_files(path: Path) -> tuple[Path, ...]:
    """A requirements.txt and all files that it includes with ``-r`` and ``-c``, in order, each once.

    Raises E001 for a file that is missing, E013 for a line that is no requirement, E016 for what is not
    supported yet: local projects, editable installs, files included by URL.
    """
    found: dict[Path, None] = {}

    def visit(file: Path) -> None:
        if file in found:
            return
        text = _read(file)
        found[file] = None
        for number, line in _lines(text):
            place = f"{file}:{number}"
            if include := _INCLUDE.match(line):
                name = include["name"].strip().strip("'\"")
                if "://" in name:
                    raise AfenvError("E016", f"including {name} by URL is not supported yet", place=place)
                visit(Path(file.parent, name))
            elif _EDITABLE.match(line):
                raise AfenvError(
                    "E016",
                    f"an editable install ({line}) is not supported yet",
                    place=place,
                    remedy="Put the project under `code` and set PYTHONPATH under `variables`.",
                )
            elif not line.startswith("-"):
                parse_requirement(re.split(r"\s--?[a-z]", line)[0].strip(), place)

    visit(path)
    return tuple(found)


def referred_files(section: PypiSection, folder: Path) -> tuple[Path, ...]:
    """The files that a section refers to, included ones too: their content is part of the request."""
    if section.lock is not None:
        return (folder / section.lock,)
    if section.file is None:
        return ()
    path = folder / section.file
    return (path,) if path.suffix == ".toml" else requirements_files(path)


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
        return tomllib.loads(_read(path))
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
    project: Mapping[str, Any] = data.get("project", {})
    optional: Mapping[str, Any] = project.get("optional-dependencies", {})
    dynamic = {"dependencies", "optional-dependencies"} & set(project.get("dynamic", ()))
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
    table = {normalised(key): value for key, value in optional.items()}
    result = list(project.get("dependencies", ()))
    waiting, seen = [normalised(extra) for extra in extras], set[str]()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        if extra not in table:
            message = f"there is no extra {extra!r}; there are: {_names(optional)}"
            raise AfenvError("E014", message, place=place)
        result += table[extra]
        for text in table[extra]:  # an extra may name others of its own project: `all = ["name[plot]"]`
            requirement = parse_requirement(text, place)
            if normalised(requirement.name) == own:
                waiting += sorted(normalised(name) for name in requirement.extras)
    for group in groups:
        result += _group(group, data.get("dependency-groups", {}), place, ())
    _refuse_sources(data, result, place)
    return tuple(text for text in result if normalised(parse_requirement(text, place).name) != own)


def _check_python(wanted: str | None, python: str, place: str) -> None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if wanted is None:
        return
    try:
        allowed = SpecifierSet(wanted).contains(python, prereleases=True)
    except InvalidSpecifier:
        raise AfenvError("E013", f"requires-python is {wanted!r}", place=place) from None
    if not allowed:
        raise AfenvError(
            "E102", f"the project needs Python {wanted}; the environment has {python}", place=place
        )


def _refuse_sources(data: Mapping[str, Any], requirements: Sequence[str], place: str) -> None:
    """Another source than the index would be passed over in silence: refuse it."""
    sources = data.get("tool", {}).get("uv", {}).get("sources", {})
    wanted = {normalised(parse_requirement(text, place).name) for text in requirements}
    both = sorted(name for name in sources if normalised(name) in wanted)
    if both:
        raise AfenvError("E016", f"tool.uv.sources of {', '.join(both)} is not supported yet", place=place)
