"""What the tests of all vectors share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afenv.errors import Problem


def folder_name(folder: Path) -> str:
    """The name of a vector, for the name of its test."""
    return folder.name


def summary(problem: Problem, path: Path) -> dict[str, Any]:
    """A problem of the document at ``path``, in the form of ``expected.json``."""
    place = (problem.place or "").removeprefix(str(path)).split(":")
    line = int(place[1]) if len(place) == 3 else None
    return {"code": problem.code, "path": problem.path, "line": line}
