"""Docker and Podman on this host: which are there, and how they are called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from afenv.errors import AfenvError

PATIENCE = 20.0  # seconds that an engine may take to say that it is there


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """An engine that answers: its name and the command that starts it.

    ``rootless`` tells that its containers' root is the calling user, ``containerd`` that Docker keeps
    its images in containerd: there an image is known by its manifest, and its blobs are all needed.
    """

    name: Literal["docker", "podman"]
    command: tuple[str, ...]
    rootless: bool = False
    containerd: bool = False

    def call(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a subcommand to its end, in ``folder``, and return status and output.

        E502 if it cannot be started.
        """
        command = (*self.command, *arguments)
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=folder
            )
        except OSError as error:
            raise AfenvError(
                "E502", f"{self.name} cannot be started: {error.strerror}", place=command[0]
            ) from None

    def call_bytes(self, *arguments: str) -> bytes:
        """Run a subcommand to its end and return what it printed; nothing if it failed or cannot start."""
        try:
            done = subprocess.run(
                (*self.command, *arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except OSError:
            return b""
        return done.stdout if done.returncode == 0 else b""


def words(result: subprocess.CompletedProcess[str]) -> str:
    """What a command said of its failure, on one line."""
    lines = [line.strip() for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    return " ".join(lines[-5:]) or f"exit status {result.returncode}"


def _command(name: str) -> tuple[str, ...] | None:
    given = os.environ.get(f"AFENV_{name.upper()}")
    if given:
        try:
            parts = tuple(shlex.split(given))
        except ValueError as error:
            raise AfenvError("E030", f"{given!r}: {error}", place=f"AFENV_{name.upper()}") from None
        return parts or None
    found = shutil.which(name)
    return (found,) if found else None


def docker() -> Engine:
    """Docker, if its command exists and its engine answers; else E501 or E502."""
    command = _required("docker")
    # one question, of which the answer needs the engine
    answer = _ask(
        "docker", (*command, "info", "--format", "{{.ServerVersion}} {{.SecurityOptions}} {{.DriverStatus}}")
    )
    return Engine(
        name="docker",
        command=command,
        rootless="name=rootless" in answer,
        containerd="io.containerd.snapshotter" in answer,
    )


def podman() -> Engine:
    """Podman, if its command exists; else E501."""
    return Engine(name="podman", command=_required("podman"), rootless=os.geteuid() != 0)


def _required(name: str) -> tuple[str, ...]:
    command = _command(name)
    if command is None:
        raise AfenvError("E501", f"there is no {name} on this host")
    return command


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def _ask(name: str, command: tuple[str, ...]) -> str:
    try:
        result = _run(command)
    except OSError as error:
        raise AfenvError("E502", f"{name} cannot be started: {error.strerror}", place=command[0]) from None
    except subprocess.TimeoutExpired:
        raise AfenvError("E502", f"{name} does not answer within {PATIENCE:.0f} s") from None
    if result.returncode != 0 or not result.stdout.split():
        said = words(result)
        if "template:" in said:  # what Docker before 23 says of a format when there is no engine
            said = words(_run((*command[: command.index("info")], "version")))
        raise AfenvError("E502", f"{name} does not work: {said}")
    return result.stdout
