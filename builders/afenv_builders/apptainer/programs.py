"""Calling Apptainer's own command line."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from afenv.errors import AfenvError

NAMES = ("apptainer", "singularity")


def apptainer_command() -> list[str] | None:
    """The words that start Apptainer (``AFENV_APPTAINER`` may give them) or Singularity, or None."""
    given = os.environ.get("AFENV_APPTAINER")
    if given:
        return shlex.split(given)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return [found] if found else None


def call(command: list[str], what: str) -> str:
    """Run a command to its end and return what it printed; E502, with its words, if it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise AfenvError("E502", f"cannot be started: {error.strerror}", place=command[0]) from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise AfenvError("E502", f"{what} failed: {' '.join(lines[-5:]) or done.returncode}")
    return done.stdout
