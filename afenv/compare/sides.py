"""What is compared: the results of a run, of a folder, or of an archive, as files by their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.record import field, record

OUTPUTS = "outputs"


@record
class ResultFile:
    """One result: where to read it, how many bytes it has, and its SHA-256 where that is known already.

    ``bring`` gives a file on this machine; it may be slow, and is called only if the bytes have to be read.
    ``stated`` is the checksum that the record of the run has for it.
    """

    size: int
    bring: Callable[[], Path]
    sha256: str | None = None
    stated: str | None = None


@record
class Side:
    """One of the two: ``kind`` is ``run``, ``folder`` or ``archive``; ``place`` as the user named it."""

    kind: str
    place: str
    files: Mapping[str, ResultFile]
    about: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The side as the verdict has it."""
        return {"kind": self.kind, "place": self.place, "files": len(self.files), **self.about}


def results_of_folder(folder: Path, stated: Mapping[str, str] | None = None) -> dict[str, ResultFile]:
    """The files below a folder; E782 for what is neither file nor folder, E001 for what cannot be read.

    A link to a file counts as that file; links to folders are not followed. Files whose names begin with a
    dot do not count.
    """
    found: dict[str, ResultFile] = {}

    def unreadable(error: OSError) -> None:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(error.filename))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in sorted([*names, *links]):
            path = Path(place) / name
            if name.startswith("."):
                continue
            try:
                status = path.stat()
            except OSError as error:
                raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
            if not stat.S_ISREG(status.st_mode):
                raise AfenvError("E782", f"{name} is neither a file nor a folder", place=str(path))
            key = path.relative_to(folder).as_posix()
            found[key] = ResultFile(size=status.st_size, bring=_here(path), stated=(stated or {}).get(key))
    return dict(sorted(found.items()))


def _here(path: Path) -> Callable[[], Path]:
    return lambda: path
