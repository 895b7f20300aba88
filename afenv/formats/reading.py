"""Telling foreign locks apart by their content."""

from __future__ import annotations

import re
from pathlib import Path

from afenv.errors import AfenvError
from afenv.formats import conda_lock, explicit, pixi
from afenv.formats.model import ForeignLock

FORMATS = ("conda-lock", "pixi", "explicit")


def read_foreign_lock(path: Path) -> ForeignLock:
    """The lock in a file, whatever its name; E001, E002, E013, E016."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot read: {error.strerror}", place=str(path)) from None
    if explicit.is_explicit(data):
        return explicit.parse(data, str(path))
    if re.search(rb"^environments:", data, re.M):
        return pixi.parse(data, str(path))
    if re.search(rb"^(?:package|metadata):", data, re.M):
        return conda_lock.parse(data, str(path))
    raise AfenvError(
        "E002",
        "neither a conda-lock.yml nor a pixi.lock nor a list that begins with @EXPLICIT",
        place=str(path),
    )


def dump_foreign_lock(lock: ForeignLock, form: str) -> bytes:
    """The text of a lock in one of :data:`FORMATS`."""
    return {"conda-lock": conda_lock.dump, "pixi": pixi.dump, "explicit": explicit.dump}[form](lock)
