"""Solving with conda-lock, where that is installed, and with the conda, mamba or micromamba that it calls.

conda-lock is told our virtual packages; its own would pretend a CUDA that nobody asked for. It cannot leave
out packages that are newer than a time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv.errors import AfenvError
from afenv.formats.conda_lock import parse
from afenv.formats.model import ForeignLock
from afenv.formats.yaml_text import dump
from afenv.resolve.conda.channels import CondaChannel, without_secrets
from afenv.resolve.conda.process import child_environment
from afenv.settings import Settings
from afenv.store.content import ContentStore, write_error

EXECUTABLES = ("mamba", "micromamba", "conda")


def find_executable() -> str:
    """The first of mamba, micromamba and conda on the path; E121 if there is none."""
    for name in EXECUTABLES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise AfenvError(
        "E121",
        "the solver conda-lock needs mamba, micromamba or conda, and none of them is on the PATH",
        place="--solver",
        remedy="Install one of them, or lock without --solver: py-rattler comes with afenv.",
    )


def solve_with_conda_lock(
    specs: Sequence[str],
    channels: Sequence[CondaChannel],
    priority: str,
    subdir: str,
    virtual: Mapping[str, str],
    settings: Settings,
    store: ContentStore,
) -> ForeignLock:
    """What conda-lock chooses; E121 if it or the program that it calls is missing, E120 if it fails."""
    if importlib.util.find_spec("conda_lock") is None:
        raise AfenvError(
            "E121",
            "the Python package conda-lock is not installed",
            place="--solver",
            remedy="Install afenv[conda-lock], or lock without --solver.",
        )
    executable = find_executable()
    if settings.offline:
        raise AfenvError("E203", "conda-lock needs connections", place="--solver")
    try:
        with tempfile.TemporaryDirectory(prefix="conda-lock-", dir=store.temporary_folder()) as name:
            work = Path(name)
            sources = [channel.source for channel in channels]
            environment = {"channels": sources, "dependencies": list(specs), "platforms": [subdir]}
            (work / "environment.yml").write_text(dump(environment), encoding="utf-8")
            packages = {"subdirs": {subdir: {"packages": _stated(virtual)}}}
            (work / "virtual-packages.yml").write_text(json.dumps(packages), encoding="utf-8")
            _run(executable, work, subdir, priority)
            return parse((work / "conda-lock.yml").read_bytes(), "conda-lock.yml")
    except OSError as error:
        raise write_error(error, store.folder) from error


def _stated(virtual: Mapping[str, str]) -> dict[str, str]:
    """Virtual packages in the form of conda-lock: a version, then a build where it matters."""
    return {name: f"1 {value}" if name == "__archspec" else value for name, value in virtual.items()}


def _run(executable: str, work: Path, subdir: str, priority: str) -> None:
    stated = {f"{tool}_CHANNEL_PRIORITY": priority for tool in ("CONDA", "MAMBA")}
    program = Path(executable).name
    arguments = [
        sys.executable, "-P", "-m", "conda_lock", "lock", "--file", "environment.yml",
        "--lockfile", "conda-lock.yml", "--platform", subdir, "--kind", "lock",
        "--virtual-package-spec", "virtual-packages.yml", "--conda", executable,
        "--micromamba" if program == "micromamba" else "--no-micromamba",
        "--mamba" if program == "mamba" else "--no-mamba",
    ]  # fmt: skip
    done = subprocess.run(
        arguments,
        cwd=work,
        env=child_environment(os.environ) | stated,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode or not (work / "conda-lock.yml").exists():
        report = without_secrets(done.stderr.strip() or done.stdout.strip() or "it said nothing")
        raise AfenvError("E120", f"conda-lock failed: {report[-2000:]}", place="--solver")
