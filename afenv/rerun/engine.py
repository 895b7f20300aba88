"""Snakemake as the scheduler: started with the Snakefile of a run, watched, and ended with all its steps."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.rerun.places import RunFolder

LAUNCHER = Path(__file__).with_name("launcher.py")
POLL = 0.02  # seconds
GRACE = 15.0  # seconds: a little more than the launcher gives a step
LOG = "logs/snakemake.log"


def check_engine() -> str:
    """The version of Snakemake; E757 if it is not installed."""
    if importlib.util.find_spec("snakemake") is None:
        raise AfenvError("E757", "the steps are started by Snakemake, which is not installed")
    from importlib.metadata import version

    return version("snakemake")


def launcher_command() -> list[str]:
    """The command that runs a job, without its file."""
    return [sys.executable, "-I", "-S", str(LAUNCHER)]


def engine_command(cores: int, memory: int, forced: Sequence[str]) -> list[str]:
    """Snakemake's command line; ``memory`` is in MB, ``forced`` are rules that run in any case.

    What is out of date was decided before. Choosing jobs greedily needs no solver, which takes longer to
    start than a small analysis to run.
    """
    words = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--cores", str(cores)]
    words += ["--resources", f"mem_mb={memory}", "--scheduler", "greedy", "--nolock", "--nocolor"]
    words += ["--latency-wait", "0", "--rerun-incomplete", "--rerun-triggers", "mtime", "--drop-metadata"]
    return [*words, "--forcerun", *forced, "--", "all"]


def run_engine(
    folder: RunFolder,
    command: Sequence[str],
    lock: int,
    happened: Callable[[dict[str, Any]], None],
) -> int:
    """Run Snakemake to its end; its exit status. ``happened`` gets what the launchers tell.

    When this process is interrupted, the steps are ended and waited for before that is passed on; when it is
    killed, the launchers see it and end.
    """
    events = folder.path / "steps" / "events"
    events.write_bytes(b"")
    variables = {**os.environ, "AFENV_RERUN_PARENT": str(os.getpid())}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # Snakemake's start would take three times as long
    running: dict[int, str] = {}
    with (folder.path / LOG).open("wb") as log, events.open("rb") as told:

        def listen() -> None:
            while (line := told.readline()).endswith(b"\n"):
                event = json.loads(line)
                if event["event"] == "start":
                    running[event["pid"]] = event["step"]
                else:
                    running.pop(event["pid"], None)
                happened(event)
            told.seek(-len(line), os.SEEK_CUR)

        try:
            child = subprocess.Popen(
                command,
                cwd=folder.path,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )
        except OSError as error:
            raise AfenvError("E757", f"{command[0]} cannot be started: {error.strerror}") from None
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = child.wait(POLL)
                    listen()
                    return status
                listen()
        except BaseException:
            _end(child, running, listen)
            raise


def _end(child: subprocess.Popen[bytes], running: dict[int, str], listen: Callable[[], None]) -> None:
    """End the steps, then Snakemake; whoever does not end in time is killed."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with contextlib.suppress(OSError):
            os.kill(child.pid, signal.SIGSTOP)  # so that it starts nothing new
        listen()
        for pid in list(running):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while running and time.monotonic() < until:
            time.sleep(POLL)
            listen()
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
