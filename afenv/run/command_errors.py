"""Why a command did not start, told in the same words and with the same status by every runtime.

The exit statuses are those of POSIX shells (POSIX.1-2017, "Exit Status for Commands"): 127 for a command
that is not found, 126 for one that cannot be executed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv.errors import AfenvError
from afenv.run.request import Mount

MAX_LINKS = 40

# To be run by the image's shell with the command's name: the same question where no folder shows the image.
SHELL_CHECK = """
case $1 in
*/*) found=$1 ;;
*) found= IFS=:
   for folder in $PATH; do
       [ -f "$folder/$1" ] || continue
       found=$folder/$1
       [ -x "$found" ] && exit 0
   done ;;
esac
[ -n "$found" ] && [ -e "$found" ] || exit 127
[ -f "$found" ] && [ -x "$found" ] && exit 0
exit 126
"""


def no_command(name: str) -> AfenvError:
    """E503: the image does not have the command."""
    return AfenvError("E503", f"there is no command {name!r} in the environment")


def not_executable(name: str) -> AfenvError:
    """E504: the file is there and cannot be executed."""
    return AfenvError("E504", f"{name!r} cannot be executed")


def why_not_started(
    root: Path, mounts: Sequence[Mount], name: str, variables: Mapping[str, str], workdir: Path
) -> AfenvError | None:
    """E503 or E504 for a command that the unpacked image and the mounts do not have; None if they do."""
    if "/" in name:
        places = [name if name.startswith("/") else f"{workdir}/{name}"]
    else:
        places = [f"{folder}/{name}" for folder in variables.get("PATH", "").split(":") if folder]
    found = False
    for place in places:
        here = resolve(root, mounts, place)
        try:
            status = here.stat() if here else None
        except OSError:
            continue
        if status is None:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
            return None
        found = found or "/" in name or stat.S_ISREG(status.st_mode)
    return not_executable(name) if found else no_command(name)


def resolve(root: Path, mounts: Sequence[Mount], path: str) -> Path | None:
    """Where a path of the container lies on the host, every symbolic link followed inside the container."""
    rest = [part for part in path.split("/") if part not in ("", ".")]
    done: list[str] = []
    links = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        here = _on_host(root, mounts, [*done, part])
        if here.is_symlink():
            links += 1
            if links > MAX_LINKS:
                return None
            target = os.readlink(here)  # noqa: PTH115
            rest = [step for step in target.split("/") if step not in ("", ".")] + rest
            if target.startswith("/"):
                done = []
            continue
        done.append(part)
    return _on_host(root, mounts, done)


def _on_host(root: Path, mounts: Sequence[Mount], parts: list[str]) -> Path:
    for mount in sorted(mounts, key=lambda mount: -mount.target.count("/")):
        target = [part for part in mount.target.split("/") if part]
        if parts[: len(target)] == target:
            return mount.source.joinpath(*parts[len(target) :])
    return root.joinpath(*parts)
