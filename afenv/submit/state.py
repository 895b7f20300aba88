"""How far a submission has come, in a file beside the bag: ``BAG.submission-HOST.json``.

It is written before and after each step that cannot be repeated, and never holds a token. The DOI is in it
as soon as it is reserved. The bag itself does not change: its bytes are what was archived.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.errors import AfenvError

VERSION = 1


class State:
    """The state of one bag's submission to one place; every change is on the disk at once."""

    def __init__(self, path: Path, target: str, bag: str) -> None:
        self.path = path
        self._value: dict[str, Any] = {
            "afenv-submission": VERSION,
            "target": target,
            "bag": bag,
            "record": None,
            "doi": None,
            "url": None,
            "step": "new",
            "files": {},
        }

    def __getitem__(self, key: str) -> Any:
        return self._value.get(key)

    def update(self, **values: Any) -> None:
        """Keep values, on the disk too."""
        self._value.update(values)
        self.save()

    def file(self, name: str) -> dict[str, Any]:
        """What is kept of a file; call :meth:`save` after a change."""
        kept: dict[str, Any] = self._value["files"].setdefault(name, {})
        return kept

    def as_json(self) -> dict[str, Any]:
        """The whole of it."""
        return dict(self._value)

    def save(self) -> None:
        """Write it, whole or not at all; E001 if that is not possible."""
        beside = self.path.with_name(self.path.name + ".new")
        try:
            with beside.open("wb") as file:
                file.write(canonical.indented(self._value))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise AfenvError("E001", f"cannot be written: {error.strerror}", place=str(self.path)) from None

    def forget_record(self) -> None:
        """Begin again: the record is gone at the server."""
        self.update(record=None, doi=None, url=None, step="new", files={})

    def load(self) -> State:
        """Take over what is on the disk; E749 if that is damaged, newer, or of another bag."""
        try:
            value = json.loads(self.path.read_bytes())
            version = value["afenv-submission"]
            if isinstance(version, int) and version > VERSION:
                raise ValueError(f"it has format version {version}")
            kept = {key: value[key] for key in self._value}
            if version != VERSION or not isinstance(kept["files"], dict):
                raise ValueError("its form is not known")
            if not all(isinstance(one, dict) for one in kept["files"].values()):
                raise ValueError("its form is not known")
            record = kept["record"]
            if record is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", record):
                raise ValueError("its record is no identifier")
        except FileNotFoundError:
            return self
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise AfenvError("E749", f"this cannot be used: {error}", place=str(self.path)) from None
        for key in ("target", "bag"):
            if kept[key] != self._value[key]:
                raise AfenvError("E749", f"this belongs to another {key}: {kept[key]}", place=str(self.path))
        self._value = value
        return self


def state_path(bag: Path, host: str) -> Path:
    """Where the state of a bag's submission to a host is."""
    return bag.with_name(f"{bag.name}.submission-{re.sub(r'[^A-Za-z0-9.-]', '_', host)}.json")
