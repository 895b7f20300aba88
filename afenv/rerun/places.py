"""Where things lie in the folder of a run, and where a step sees them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.record import record
from afenv.store.content import write_error

RECORD = "record.json"
CRATE = "ro-crate-metadata.json"
# in the container
HERE = "/run/work"
OUTPUTS = "/run/outputs"
DATA = "/run/data"
PATIENCE = 3.0  # seconds until what a killed run has left behind has ended, too


@record
class DataFile:
    """One file of data: its path among the files of that data, where it is, and its checksum."""

    path: str
    source: Path
    size: int
    sha256: str


@record
class Data:
    """Data that is there: its name, its URI, and its files."""

    name: str
    uri: str
    files: tuple[DataFile, ...]


@record
class RunFolder:
    """The folder of a run.

    ::

        Snakefile        what Snakemake does; for people to read
        outputs/         the outputs of all steps, complete or absent
        logs/            what each step printed, and Snakemake
        record.json      what ran (specs/run/v1)
        ro-crate-metadata.json
        steps/           a job and a note for each step
        work/            what runs, and what has failed
    """

    path: Path

    def note(self, step: str) -> dict[str, Any] | None:
        """How a step went when it ran last; None if there is no note."""
        try:
            loaded = json.loads((self.path / "steps" / f"{step}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return loaded if isinstance(loaded, dict) else None

    def log(self, step: str) -> Path:
        """What a step printed."""
        return self.path / "logs" / f"{step}.log"

    def make(self) -> None:
        """Make the folders; E755 if the folder holds something else, E402 if it cannot be written."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise AfenvError("E755", "this is no folder", place=str(self.path))
            known = not self.path.exists() or (self.path / "steps").is_dir()
            if not known and any(self.path.iterdir()):
                raise AfenvError("E755", "the folder is no run, and not empty", place=str(self.path))
            for name in ("steps", "outputs", "logs", "work"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            (self.path / ".gitignore").write_text("*\n")  # it is no part of the code around it
        except OSError as error:
            raise write_error(error, self.path) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Hold the folder, as does whoever inherits the file descriptor; E754 if another process does."""
        file = os.open(self.path / "steps" / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + PATIENCE
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        message = "another rerun works in this folder"
                        raise AfenvError("E754", message, place=str(self.path)) from None
                time.sleep(0.05)
            yield file
        finally:
            os.close(file)
