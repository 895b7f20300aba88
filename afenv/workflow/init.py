"""A first manifest, drafted from what a repository already has.

Nothing is asked. The draft is valid, says in its comments what it took over and what it could not, and
refers to the files of other tools where it can, so that these stay the place to edit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afenv.documents.load import parse_manifest
from afenv.documents.manifest import FILE_NAME
from afenv.errors import AfenvError
from afenv.store.content import write_error
from afenv.workflow.init_binder import look_for_binder, look_for_others
from afenv.workflow.init_findings import (
    PYTHON_OF_SUITE,
    Findings,
    look_for_conda,
    look_for_project,
    look_for_pypi,
    normalised_name,
)
from afenv.workflow.init_reana import look_for_reana

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._+-]*(?: [A-Za-z0-9(][A-Za-z0-9()/._+-]*)*\Z")
_NOT_TEXT = {"null", "true", "false"}


def look(folder: Path) -> Findings:
    """What the repository in ``folder`` tells of its environment."""
    found = Findings(name=normalised_name(folder.resolve().name))
    look_for_project(folder, found)
    look_for_binder(folder, found)
    if not found.builder:
        look_for_conda(folder, found)
        look_for_pypi(folder, found)
    look_for_reana(folder, found)
    look_for_others(folder, found)
    return found


def _scalar(value: Any) -> str:
    """A scalar as YAML: plain where that is safe, else in double quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.match(value) and value.lower() not in _NOT_TEXT:
        return value
    printable = "".join(character if character.isprintable() else " " for character in value)
    return json.dumps(printable, ensure_ascii=False)


def yaml_lines(value: Any, indent: int) -> Iterator[str]:
    """The lines of a mapping or a list in block style."""
    space = " " * indent
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, Mapping | list) and item:
                yield f"{space}{_scalar(key)}:"
                yield from yaml_lines(item, indent + 2)
            else:
                yield f"{space}{_scalar(key)}: {_scalar(item)}"
        return
    for item in value:
        if isinstance(item, Mapping):
            first, *rest = yaml_lines(item, indent + 2)
            yield f"{space}- {first.strip()}"
            yield from rest
        else:
            yield f"{space}- {_scalar(item)}"


def remark_lines(title: str, remarks: list[tuple[str, str]]) -> Iterator[str]:
    if not remarks:
        return
    yield f"# {title}"
    for file, sentence in dict.fromkeys(remarks):
        text = "".join(character if character.isprintable() else " " for character in sentence)
        yield f"#   {file}: {text}"


def _environment(found: Findings) -> dict[str, Any]:
    if found.builder:
        return {"builder": found.builder}
    packages = found.packages | {"ca-certificates"}
    if not found.conda:
        packages.add("python3")
    environment: dict[str, Any] = {"base": {"debian": found.suite(), "packages": sorted(packages)}}
    for key in ("conda", "pypi", "build", "variables", "entrypoint"):
        section = getattr(found, key)
        if section:
            environment[key] = section
    return environment


def _text(found: Findings) -> str:
    environment = _environment(found)  # may add remarks
    suite = environment["base"]["debian"] if "base" in environment else None
    lines = ["# Drafted by `afenv init`; edit it as you like. Next: `afenv lock`, then `afenv build`."]
    lines += remark_lines("Taken over:", found.taken)
    lines += remark_lines("Not taken over:", found.not_taken)
    if not found.taken and not found.not_taken:
        lines.append("# Nothing that describes an environment was found in this folder.")
    lines += ["", "afenv: 1", f"name: {_scalar(found.name)}", f"version: {json.dumps(found.version)}"]
    if found.metadata:
        lines += yaml_lines({"metadata": found.metadata}, 0)
    lines += ["", "# The files of this folder go into the image, to /analysis.", "code:", '  - path: "."', ""]
    if suite and not found.conda:
        lines.append(f"# Debian {suite} has Python {PYTHON_OF_SUITE[suite]}.")
    lines += ["environments:", "  default:", *yaml_lines(environment, 4)]
    if suite and not found.pypi and not found.conda:
        lines += ["    # PyPI packages:", "    # pypi:", "    #   dependencies:", "    #     - numpy"]
    if found.steps:
        lines += ["", "# The steps, to be completed with what each reads and writes (`inputs`, `outputs`):"]
        lines += [f"# {line}" for line in yaml_lines({"steps": found.steps}, 0)]
    return "\n".join(lines) + "\n"


def draft_manifest(folder: Path) -> str:
    """The text of a valid manifest for the repository in ``folder``; E001 if there is no such folder."""
    return _draft(folder)[0]


def _draft(folder: Path) -> tuple[str, Findings]:
    if not folder.is_dir():
        raise AfenvError("E001", f"there is no folder {folder}", place=str(folder))
    found = look(folder)
    text = _text(found)
    parse_manifest(text.encode(), FILE_NAME)
    return text, found


def init_for_build(folder: Path) -> list[str]:
    """Write a manifest for a repository that has none, if its files describe an environment.

    Returns what to tell the user, line by line: nothing if there is a manifest, or nothing to draft one from.
    """
    if (folder / FILE_NAME).exists() or not folder.is_dir():
        return []
    text, found = _draft(folder)
    if not found.taken:
        return []
    write_manifest(folder / FILE_NAME, text)
    lines = [
        f"There was no {FILE_NAME}: it was drafted from the files of this folder. Commit it, or edit it."
    ]
    lines += [f"  taken over      {file}: {sentence}" for file, sentence in dict.fromkeys(found.taken)]
    lines += [f"  not taken over  {file}: {sentence}" for file, sentence in dict.fromkeys(found.not_taken)]
    return lines


def init(folder: Path, force: bool = False) -> Path:
    """Write a drafted ``afenv.yaml`` into ``folder`` and return its path.

    A manifest that exists is never overwritten (E032), unless ``force`` is given.
    """
    path = folder / FILE_NAME
    if not force and path.exists():
        remedy = "Edit it, or move it away; `afenv init --stdout` prints a draft and writes nothing."
        raise AfenvError("E032", f"{FILE_NAME} exists already", place=str(path), remedy=remedy)
    write_manifest(path, draft_manifest(folder))
    return path


def write_manifest(path: Path, text: str) -> None:
    temporary = path.with_name(f".{FILE_NAME}-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(error, path) from error
