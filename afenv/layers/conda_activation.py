"""Activation without ``conda activate``: its effect is part of the image.

``conda activate`` sets a few variables, reads ``etc/conda/env_vars.d/*.json``, and sources
``etc/conda/activate.d/*.sh``. Containers are rarely started through it, so all that is known when the
image is built becomes the image's own environment, which holds for every way to start a process. Scripts
that do more than set variables are sourced when the container starts. What holds where is told in
``docs/adr/0012-conda-layers.md``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.conda_archive import all_chunks
from afenv.layers.conda_meta import HISTORY, history_text
from afenv.layers.conda_open import OpenConda
from afenv.layers.conda_prefix import replace_binary, replace_text
from afenv.layers.conda_python import PREFIX
from afenv.layers.conda_shell import NotStatic, exported
from afenv.layers.model import SYSTEM_PATH
from afenv.layers.writer import LayerWriter

SCRIPTS = "etc/conda/activate.d/"
VARIABLES = "etc/conda/env_vars.d/"
SOURCED = "etc/conda/afenv-activate.sh"  # sources the scripts that are left to the start of a container
WRAPPER = "bin/afenv-activate"
PROFILE = "etc/profile.d/afenv-conda.sh"  # read by login shells, after /etc/profile has set PATH anew
APPTAINER = ".singularity.d/env/91-afenv-conda.sh"  # read by apptainer before it starts anything

MAX_FILE = 1 << 20  # bytes of one activation file
_MANGLED = re.compile(r"[\"$`\\]")  # apptainer's own copy of such a value is not right
_UNSET = "***unset***"  # conda's word for a variable to remove


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """What activation comes to: ``variables`` of the image, and ``scripts`` left to its start.

    Scripts are relative to the prefix, each with the reason.
    """

    variables: Mapping[str, str]
    scripts: Mapping[str, str]


def conda_variables(environment: LockedEnvironment) -> dict[str, str]:
    """The variables that ``conda activate`` itself sets."""
    prefix = _prefix(environment)
    return {
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_PREFIX": prefix,
        "CONDA_SHLVL": "1",
        "PATH": ":".join((f"{prefix}/bin", *SYSTEM_PATH)),
    }


def activation_files(opened: OpenConda, lost: frozenset[str]) -> dict[str, bytes | None]:
    """The activation files of a package as they are in the prefix; None for a link."""
    wanted = {
        path: place
        for path, place in opened.places.items()
        if place not in lost
        and (
            (place.startswith(SCRIPTS) and place.endswith(".sh"))
            or (place.startswith(VARIABLES) and place.endswith(".json"))
        )
    }
    found: dict[str, bytes | None] = {}
    for member in opened.archive.members() if wanted else ():
        place = wanted.pop(member.path, None)
        if place is not None:
            entry = opened.info.paths[member.path]
            found[place] = None
            if member.kind == "file":
                if member.size > MAX_FILE:
                    opened.archive.bad(f"{member.path} is too large for a script")
                data = all_chunks(member)
                old, new = entry.placeholder.encode(), opened.prefix.encode()
                if old and entry.binary:
                    data = b"".join(replace_binary((data,), old, new))
                elif old:
                    data = replace_text(data, old, new)
                found[place] = data
        if not wanted:
            break
    return found


def activation(
    files: Mapping[str, bytes | None],
    environment: LockedEnvironment,
    exists: Callable[[str], Literal["file", "folder", ""]],
) -> Activation:
    """What activation comes to, from the files of all packages; pure. E303 for a damaged JSON file.

    ``exists`` answers for paths relative to the prefix.
    """
    prefix = _prefix(environment)

    def in_image(path: str) -> Literal["file", "folder", ""]:
        if path.rstrip("/") != prefix and not path.startswith(prefix + "/"):
            raise NotStatic(f"it looks for {path}, which is not in the prefix")
        return exists(path[len(prefix) :].strip("/"))

    start = {"LANG": "C.UTF-8", **conda_variables(environment), **environment.variables}
    variables = dict(start)
    for path in _sorted(files, VARIABLES):
        variables |= _json_variables(path, files[path])
    variables = {name: value for name, value in variables.items() if value != _UNSET}
    left: dict[str, str] = {}
    for path in _sorted(files, SCRIPTS):
        try:
            text = files[path]
            if text is None:
                raise NotStatic("it is a link")
            variables = exported(text.decode(), variables, in_image)
        except NotStatic as reason:
            left[path] = str(reason)
        except UnicodeDecodeError:
            left[path] = "it is not UTF-8"
    for name in ("LANG", *environment.variables):
        variables.pop(name, None)
    if left:
        variables["BASH_ENV"] = f"{prefix}/{SOURCED}"
    return Activation(variables=dict(sorted(variables.items())), scripts=left)


def entrypoint(environment: LockedEnvironment, found: Activation) -> tuple[str, ...]:
    """What the container has to start with, before its command; empty if there is nothing to do."""
    return (f"{_prefix(environment)}/{WRAPPER}",) if found.scripts else ()


def write_environment(environment: LockedEnvironment, found: Activation, writer: LayerWriter) -> None:
    """Write the files that belong to the whole environment and to no package."""
    prefix = _prefix(environment)
    root = prefix.strip("/")
    files = {f"{root}/{HISTORY}": (0o644, history_text(environment.conda))}
    places = found.variables.get("PATH", f"{prefix}/bin").split(":")
    ours = shlex.quote(":".join(place for place in places if place and place not in SYSTEM_PATH))
    files[PROFILE] = 0o644, f"PATH={ours}:$PATH\nexport PATH\n".encode()
    if found.scripts:
        sourced = shlex.quote(f"{prefix}/{SOURCED}")
        files[f"{root}/{SOURCED}"] = 0o644, _sourced_text(prefix, found.scripts)
        wrapper = f'#!{_shell(environment)}\n. {sourced}\nexec "$@"\n'
        files[f"{root}/{WRAPPER}"] = 0o755, wrapper.encode()
    for_apptainer = [
        f"export {name}={shlex.quote(value)}"
        for name, value in found.variables.items()
        if _MANGLED.search(value)
    ]
    if found.scripts:
        for_apptainer.append(f". {shlex.quote(f'{prefix}/{SOURCED}')}")
    if for_apptainer:
        files[APPTAINER] = 0o755, "\n".join(["#!/bin/sh", *for_apptainer, ""]).encode()
    for path in sorted(files):
        writer.file(path, *files[path])


def _sourced_text(prefix: str, scripts: Iterable[str]) -> bytes:
    lines = [
        "# Made by afenv: the activation scripts whose effect was not known when the image was built.",
        'if [ -z "${AFENV_CONDA_ACTIVATED-}" ]; then',
        "    export AFENV_CONDA_ACTIVATED=1",
        *(f"    . {shlex.quote(f'{prefix}/{path}')}" for path in scripts),
        "fi",
    ]
    return ("\n".join(lines) + "\n").encode()


def _shell(environment: LockedEnvironment) -> str:
    """The shell that sources the scripts: bash, which most of them are written for, if there is one."""
    if any(package.name == "bash" for package in environment.conda):
        return f"{_prefix(environment)}/bin/bash"
    if environment.base is not None:
        return environment.base.shell or "/bin/sh"
    return "/bin/bash" if any(deb.name == "bash" for deb in environment.debs) else "/bin/sh"


def _json_variables(path: str, data: bytes | None) -> dict[str, str]:
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(
        isinstance(text, str) and name and "=" not in name and "\0" not in name + text
        for name, text in value.items()
    ):
        raise AfenvError("E303", f"{path} is not a table of variables in JSON")
    return value


def _sorted(files: Iterable[str], folder: str) -> Sequence[str]:
    return sorted(path for path in files if path.startswith(folder))


def _prefix(environment: LockedEnvironment) -> str:
    return (environment.conda_prefix or PREFIX).rstrip("/")
