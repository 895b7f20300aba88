"""Where the images of a project were pushed to: ``.afenv/pushed.json``, references by manifest digest."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

FOLDER = ".afenv"
NAME = "pushed.json"


def note_pushed(folder: Path, reference: str, digest: str) -> None:
    """Remember it for the project in ``folder``; nothing happens where there is no project or no place."""
    place = folder / FOLDER
    if not place.is_dir():
        return
    known = _read(place / NAME)
    known[digest] = reference
    temporary = place / f"{NAME}.{os.getpid()}"
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        temporary.replace(place / NAME)


def pushed_to(folder: Path, digest: str) -> str | None:
    """The reference that an image was last pushed to, as it was given; None if it is not known."""
    return _read(folder / FOLDER / NAME).get(digest)


def _read(path: Path) -> dict[str, str]:
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(loaded, dict):
        return {}
    return {key: value for key, value in loaded.items() if isinstance(value, str)}
