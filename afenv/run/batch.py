"""Submit files for batch systems: the command of ``afenv run`` as a job, from the image as a SIF.

Slurm starts Apptainer itself, with the command line that ``afenv run`` would use. HTCondor's container
universe starts the container for the job, so the submit file only names image and command.

Sources: sbatch(1); HTCondor manual, "condor_submit" (``universe = container``, the new syntax of
``arguments`` and ``environment``, ``allowed_job_duration``).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.run.apptainer import PASSED_ON, Apptainer
from afenv.run.apptainer import launch as apptainer_launch
from afenv.run.request import RunRequest, whole_command

_SIZE = re.compile(r"(\d+)([MGT])i?B?\Z", re.IGNORECASE)
_TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+))\Z")
_MEBIBYTES = {"M": 1, "G": 1 << 10, "T": 1 << 20}
_SCRATCH = "/afenv-scratch-folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a job asks for: memory in MiB, time in seconds; 0 leaves it to the batch system."""

    cpus: int = 0
    memory: int = 0
    gpus: int = 0
    time: int = 0


def parse_resources(cpus: int | None, memory: str | None, gpus: int | None, time: str | None) -> Resources:
    """The resources as the command line gives them; E030 for what is not understood."""
    for name, number in (("--cpus", cpus), ("--gpus", gpus)):
        if number is not None and number < 1:
            raise AfenvError("E030", f"{number} is not a number of at least 1", place=name)
    mebibytes = seconds = 0
    if memory:
        found = _SIZE.match(memory)
        if found is None or not int(found[1]):
            raise AfenvError("E030", f"{memory!r} is not a size such as 4G or 500M", place="--memory")
        mebibytes = int(found[1]) * _MEBIBYTES[found[2].upper()]
    if time:
        found = _TIME.match(time)
        if found is not None:
            days, hours, minutes, rest, alone = (int(part or 0) for part in found.groups())
            seconds = ((days * 24 + hours) * 60 + minutes + alone) * 60 + rest
        if not seconds:
            raise AfenvError("E030", f"{time!r} is neither MINUTES nor [DAYS-]HH:MM:SS", place="--time")
    return Resources(cpus=cpus or 0, memory=mebibytes, gpus=gpus or 0, time=seconds)


def slurm_script(
    name: str,
    image: Path,
    config: Mapping[str, Any],
    request: RunRequest,
    resources: Resources,
    runtime: Apptainer,
) -> str:
    """A script for ``sbatch`` that runs the request with ``srun apptainer exec``."""
    asked = [
        ("job-name", name),
        ("cpus-per-task", resources.cpus),
        ("mem", f"{resources.memory}M" if resources.memory else 0),
        ("gpus", resources.gpus),
        ("time", _slurm_time(resources.time)),
    ]
    words = list(apptainer_launch(runtime, str(image), config, request, _SCRATCH))[1:]  # after env
    exports = [f"unset {' '.join(PASSED_ON)}"]
    while words[0] == "-u":
        del words[:2]
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        exports.append(f"export {variable}={shlex.quote(value)}")
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}={value}" for key, value in asked if value]
    lines += ["", f"cd {shlex.quote(str(request.workdir))} || exit 1"]
    lines += ["scratch=$(mktemp -d) || exit 1", "trap 'rm -rf \"$scratch\"' EXIT", "umask 022"]
    lines += [*exports, "srun " + shlex.join(words).replace(_SCRATCH, '"$scratch"')]
    return "\n".join(lines) + "\n"


def _slurm_time(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02}" if seconds else ""


def htcondor_file(
    name: str, image: Path, config: Mapping[str, Any], request: RunRequest, resources: Resources
) -> str:
    """A submit description for HTCondor's container universe.

    E030 for what a submit file cannot hold: a newline in the command or in a variable, ``--bind``, and
    running without a network.
    """
    if request.mounts or not request.network:
        raise AfenvError(
            "E030",
            "HTCondor starts the container itself: --bind, --live and --no-network cannot be asked for",
            place="--batch",
        )
    executable, *arguments = whole_command(config, request)
    if not executable.startswith("/"):  # HTCondor would look for it in the folder of the job
        arguments = ["-c", 'exec "$@"', "sh", executable, *arguments]
        executable = "/bin/sh"
    settings: list[tuple[str, str | int]] = [
        ("universe", "container"),
        ("container_image", submit_value(str(image))),
        ("executable", submit_value(executable)),
        ("transfer_executable", "false"),
        ("arguments", submit_list(arguments)),
        ("environment", submit_list([f"{key}={value}" for key, value in sorted(request.env.items())])),
        ("initialdir", submit_value(str(request.workdir))),
        ("request_cpus", resources.cpus),
        ("request_memory", f"{resources.memory}M" if resources.memory else ""),
        ("request_gpus", resources.gpus or int(request.gpu)),
        ("allowed_job_duration", resources.time),
        ("log", f"{name}.$(Cluster).log"),
        ("output", f"{name}.$(Cluster).out"),
        ("error", f"{name}.$(Cluster).err"),
    ]
    return "".join(f"{key} = {value}\n" for key, value in settings if value) + "queue\n"


def submit_value(text: str) -> str:
    """A value that is not taken for a macro and does not end the line."""
    if "\n" in text:
        raise AfenvError("E030", f"{text!r} has a newline, which a submit file cannot hold", place="--batch")
    return text.replace("$", "$(DOLLAR)")


def submit_list(words: Sequence[str]) -> str:
    """Words in the new syntax: all between double quotes, each between single ones where it needs them."""
    quoted = []
    for word in words:
        text = submit_value(word).replace('"', '""')
        if not text or re.search(r"[\s']", text):
            text = "'" + text.replace("'", "''") + "'"
        quoted.append(text)
    return '"' + " ".join(quoted) + '"' if quoted else ""
