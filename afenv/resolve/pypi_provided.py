"""Distributions that are there before anything comes from PyPI: those in conda packages or in a base image.

uv is told of them by constraints to wheels that hold nothing but a name and a version. So it chooses what
works with them, never looks for another version, and asks for nothing on their behalf.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from afenv.errors import AfenvError

_REMEDY = "Ask conda for a version that fits, or relax the requirement of the PyPI package."
_REMEDY_BASE = "Relax the requirement of the PyPI package, choose another base, or take Python from conda."
_STUB = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*) @ file:\S+?-([^-\s/]+)-py3-none-any\.whl")


def write_provided(folder: Path, provided: Mapping[str, str]) -> Path:
    """Write the wheels and the constraints into ``folder``; the file of constraints."""
    lines = []
    for name, version in sorted(provided.items()):
        escaped = name.replace("-", "_")
        path = folder / f"{escaped}-{version}-py3-none-any.whl"
        about = f"{escaped}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            for file, text in (
                ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
                ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
                ("RECORD", ""),
            ):
                archive.writestr(zipfile.ZipInfo(f"{about}/{file}"), text)
        lines.append(f"{name} @ {path.as_uri()}\n")
    constraints = folder / "provided.txt"
    constraints.write_text("".join(lines), encoding="utf-8")
    return constraints


def is_provided(
    name: str, version: str, provided: Mapping[str, str], place: str, provider: str = "conda"
) -> bool:
    """Whether a locked wheel is there already; E102 if another version of it is."""
    if name not in provided:
        return False
    if provided[name] != version:
        raise AfenvError(
            "E102",
            f"the lock file has {name} {version}, and {provider} brings {name} {provided[name]}",
            place=place,
            remedy="Ask conda for the same version, or lock the PyPI packages again."
            if provider == "conda"
            else _REMEDY_BASE,
        )
    return True


def plain(text: str, provider: str = "conda") -> str:
    """A text of uv in which the wheels of this module are called what they stand for."""
    return _STUB.sub(lambda match: f"{match[1]} {match[2]} (from {provider})", text)


def explain_provided(error: AfenvError, provided: Mapping[str, str], provider: str = "conda") -> AfenvError:
    """The error for a run of uv that failed, where what is there may be the reason: then it is E102."""
    problem = error.problems[0]
    message = plain(problem.message, provider)
    named = [name for name in provided if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", message)]
    if problem.code not in ("E101", "E102", "E107") or not named:
        return error
    brings = ", ".join(f"{name} {provided[name]}" for name in sorted(named))
    message = re.sub(r"\Athere is no such version of '[^']*': ", "", message)
    return AfenvError(
        "E102",
        f"the PyPI packages do not go with {brings}, which {provider} brings: {message}",
        place=problem.place,
        remedy=_REMEDY if provider == "conda" else _REMEDY_BASE,
    )
