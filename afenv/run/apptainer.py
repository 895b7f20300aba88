"""Running with Apptainer (or its ancestor, Singularity): from a SIF, or from a folder.

Apptainer is made for sharing with the host; the options here make its surroundings those of the other
runtimes. It writes variables between double quotes into a script that a shell reads inside the container,
so what a shell would expand there is escaped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.command_errors import SHELL_CHECK, no_command, not_executable
from afenv.run.namespaces import check_user_namespaces, is_set_user_id
from afenv.run.remedies import apptainer_remedy
from afenv.run.request import (
    HOME,
    Mount,
    Prepared,
    RunRequest,
    activates,
    all_variables,
    check_utf8,
    csv_line,
    whole_command,
)
from afenv.run.supervise import supervise
from afenv.store.content import ContentStore

FAILED = 255  # Apptainer's own exit status, and that of commands that end so
NAMES = ("apptainer", "singularity")
# Apptainer hands these to the container whatever it is told
PASSED_ON = tuple(
    name
    for kind in ("all", "ftp", "http", "https", "no")
    for name in (f"{kind}_proxy", f"{kind}_proxy".upper())
)
_ESCAPED = str.maketrans({"\\": "\\\\", "$": "\\$", "`": "\\`"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Apptainer:
    """An Apptainer: the command that starts it."""

    command: tuple[str, ...]
    name: Literal["apptainer"] = "apptainer"


def find() -> Apptainer:
    """Apptainer or Singularity, if there is such a command (``AFENV_APPTAINER`` may name it); else E501.

    E502 if it needs user namespaces, and there are none.
    """
    found = _given()
    for name in NAMES:
        path = shutil.which(name)
        if path and not found:
            found = Apptainer(command=(path,))
    if found is None:
        raise AfenvError("E501", "there is no apptainer on this host")
    if os.geteuid() != 0 and not is_set_user_id():
        check_user_namespaces("apptainer", ("--user",))
    return found


def for_jobs() -> Apptainer:
    """The Apptainer of another host, of which only the name is known."""
    return _given() or Apptainer(command=("apptainer",))


def _given() -> Apptainer | None:
    text = os.environ.get("AFENV_APPTAINER")
    try:
        return Apptainer(command=tuple(shlex.split(text))) if text else None
    except ValueError as error:
        raise AfenvError("E030", f"{text!r}: {error}", place="AFENV_APPTAINER") from None


def prepare(
    runtime: Apptainer, image: Image, store: ContentStore, request: RunRequest, *, load: bool, quiet: bool
) -> Prepared:
    """The SIF or folder to run: in the cache, made if it is not there."""
    from afenv.run.prepared import for_apptainer

    return Prepared(str(for_apptainer(image, store, quiet=quiet)))


def launch(
    runtime: Apptainer, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> tuple[str, ...]:
    """Apptainer's whole command line, after ``env`` with the variables that go in."""
    check_utf8("apptainer", request)
    command = (*runtime.command, "--silent", "exec", *options(request, scratch), image)
    passed_on = (word for name in PASSED_ON for word in ("-u", name))
    variables = _assignments(runtime, config, request)
    return ("env", *passed_on, *variables, *command, *whole_command(config, request))


def options(request: RunRequest, scratch: str) -> tuple[str, ...]:
    """The options of ``apptainer exec``."""
    found = ["--cleanenv", "--contain", "--pid", "--no-umask", "--writable-tmpfs"]
    home = request.env.get("HOME", HOME)
    if not home.startswith("/") or ":" in home:  # a colon would part two folders
        raise AfenvError("E030", f"Apptainer cannot have {home!r} as HOME", place="--env")
    found += ["--no-mount", "/etc/localtime", "--home", home, "--workdir", scratch]
    if not request.network:
        found += ["--net", "--network", "none"]
    if request.gpu:
        found.append("--nv")
    for mount in request.all_mounts():
        found += ["--mount", _mount(mount)]
    return (*found, "--pwd", str(request.workdir))


def _mount(mount: Mount) -> str:
    parts = ["type=bind", f"source={mount.source}", f"destination={mount.target}"]
    if mount.read_only:
        parts.append("ro")
    return csv_line(parts)


def _assignments(runtime: Apptainer, config: Mapping[str, Any], request: RunRequest) -> list[str]:
    prefix = "SINGULARITYENV_" if Path(runtime.command[0]).name == "singularity" else "APPTAINERENV_"
    variables = all_variables(config, request)
    variables.pop("HOME", None)  # it has an option, and refuses the variable
    if activates(config):
        # a SIF's own script has activated by then, with variables that are overridden here: once more
        variables.setdefault("AFENV_CONDA_ACTIVATED", "")
    return [
        f"{prefix}{name}={value.translate(_ESCAPED)}"
        for name, value in sorted(variables.items())
        if name.isidentifier() and name.isascii()
    ]


def run(runtime: Apptainer, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str) -> int:
    """Run the request and return the command's exit status (128 + n after signal n).

    E502 if Apptainer could not start a container, E503 and E504 if it could not start the command; its own
    words are on standard error by then.
    """
    status = supervise(launch(runtime, image, config, request, scratch))
    if status == FAILED:
        _explain(runtime, image, config, request, scratch)
    return status


def _explain(
    runtime: Apptainer, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> None:
    """Raise if it was not the command that ended with 255: ask the image's shell for the command."""
    name = whole_command(config, request)[0]
    words = launch(runtime, image, config, request, scratch)
    at = len(words) - len(whole_command(config, request))
    check = subprocess.run(
        (*words[:at], "/bin/sh", "-c", SHELL_CHECK, "sh", name),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if check.returncode == 127:
        raise no_command(name)
    if check.returncode == 126:
        raise not_executable(name)
    said = " ".join(line.strip() for line in check.stderr.splitlines() if line.startswith("FATAL"))
    if check.returncode == FAILED and said and "/bin/sh" not in said:
        raise AfenvError("E502", f"apptainer does not work: {said}", remedy=apptainer_remedy(said))
