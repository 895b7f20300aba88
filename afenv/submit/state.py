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
            data = self.path.read_bytes()
        except FileNotFoundError:
            return self
        except OSError as error:
            raise AfenvError("E749", f"this cannot be read: {error.strerror}", place=str(self.path)) from None
        kept = parse_state(data, str(self.path))
        for key in ("target", "bag"):
            if kept[key] != self._value[key]:
                raise AfenvError("E749", f"this belongs to another {key}: {kept[key]}", place=str(self.path))
        self._value = kept
        return self


def parse_state(data: bytes, place: str) -> dict[str, Any]:
    """The content of a state file, held to its specification (specs/submission/v1); E749 with the path."""
    from afenv.documents.schema import check_json
    from afenv.documents.yaml_tree import format_path

    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AfenvError("E749", f"this is no JSON: {error}", place=place) from None
    version = value.get("afenv-submission") if isinstance(value, dict) else None
    if isinstance(version, int) and version is not True and version > VERSION:
        message = f"this has format version {version}, and {VERSION} is the newest that is known"
        raise AfenvError("E749", message, place=place, path="afenv-submission")
    check_json(value, "submission", "E749", place)
    found: dict[str, Any] = value
    if found["record"] is None and found["step"] in ("draft", "publishing", "published"):
        raise AfenvError("E749", f"the step {found['step']} has no record", place=place, path="record")
    for name, file in found["files"].items():
        if "parts" in file and max(file["parts"], default=0) > -(-file.get("size", 0) // file["part_size"]):
            where = format_path(("files", name, "parts"))
            raise AfenvError("E749", "there are more parts than the file has", place=place, path=where)
    return found


def state_path(bag: Path, host: str) -> Path:
    """Where the state of a bag's submission to a host is."""
    return bag.with_name(f"{bag.name}.submission-{re.sub(r'[^A-Za-z0-9.-]', '_', host)}.json")
