"""Calling uv, and saying its failures in afenv's errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from afenv.errors import AfenvError
from afenv.resolve.pypi_target import Target
from afenv.settings import Settings

INDEX = "https://pypi.org/simple"

# Variables of uv that belong to the host and the user: where indexes are and how they are reached. All
# others are dropped, because they would change the answer without a trace in the manifest.
_HOST_VARIABLES = re.compile(
    r"UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_STRATEGY|INDEX_\w+_(?:USERNAME|PASSWORD)"
    r"|INSECURE_HOST|KEYRING_PROVIDER|CREDENTIALS_DIR|SYSTEM_CERTS|NATIVE_TLS|HTTP_TIMEOUT|HTTP_RETRIES"
    r"|REQUEST_TIMEOUT|CONCURRENT_DOWNLOADS)\Z"
)
_FRESH = 600  # seconds that uv's cache answers for an index without asking it again


def uv_environment(base: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment that uv is run in; see the list of variables that are let through."""
    result = {
        name: value
        for name, value in base.items()
        if _HOST_VARIABLES.match(name)
        or not name.startswith(("UV_", "PYTHON", "RUST_", "VIRTUAL_ENV", "CONDA_"))
    }
    result |= {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    index = settings.rewrite(INDEX)
    if index != INDEX and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(result):
        result["UV_DEFAULT_INDEX"] = index
    return result


def ignores_upload_times(environment: Mapping[str, str]) -> bool:
    """Whether ``AFENV_PYPI_UPLOAD_TIMES=ignore`` is set, for indexes that give no upload times."""
    value = environment.get("AFENV_PYPI_UPLOAD_TIMES", "")
    if value not in ("", "require", "ignore"):
        raise AfenvError("E030", f"{value!r} is neither require nor ignore", place="AFENV_PYPI_UPLOAD_TIMES")
    return value == "ignore"


def compile_arguments(
    target: Target, as_of: datetime, settings: Settings, *, now: datetime, ignore_upload_times: bool
) -> list[str]:
    """The arguments of ``uv pip compile`` that say for what and as of when to solve.

    When ``as_of`` is so recent that uv's cache may be older, the index is asked again: else the answer
    would depend on when this host last asked.
    """
    arguments = [
        "pip", "compile", "--no-config", "--no-progress", "--no-sources",
        "--only-binary", ":all:", "--python", sys.executable,
        "--python-version", target.python, "--python-platform", target.uv_platform,
        "--cache-dir", str(settings.cache_folder / "uv"),
    ]  # fmt: skip
    if not ignore_upload_times:
        arguments += ["--exclude-newer", as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
    if settings.offline:
        arguments.append("--offline")
    elif (now - as_of).total_seconds() < _FRESH:
        arguments.append("--refresh")
    return arguments


def run_uv(arguments: Sequence[str], folder: Path, settings: Settings) -> tuple[int, str]:
    """Run uv in ``folder``: exit status and standard error. E120 if there is no uv."""
    from uv import find_uv_bin

    try:
        program = os.fsdecode(find_uv_bin())
    except FileNotFoundError as error:
        raise AfenvError(
            "E120", f"the program uv was not found: {error}", remedy="Install the Python package uv."
        ) from None
    environment = uv_environment(os.environ, settings)
    try:
        done = subprocess.run(
            [program, *arguments], cwd=folder, env=environment, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise AfenvError("E120", f"cannot run {program}: {error.strerror}") from None
    return done.returncode, done.stderr
