"""What the sandbox needs of the host: bubblewrap, and user namespaces.

Bubblewrap makes the namespaces; `unshare` and `mount` of util-linux lay an overlay on the image's files,
where the kernel lets an ordinary user do so (Linux 5.11 and later). Without that, the files are copied.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from afenv.errors import AfenvError

_SYSTEM_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
_NEEDED = ("--die-with-parent", "--hostname", "--info-fd", "--unsetenv", "--unshare-user")


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The program, and the options that it knows."""

    path: str
    options: frozenset[str]


def find_tool(name: str) -> str | None:
    """Where a program of the host is; also in the system's folders where PATH leaves them out."""
    return shutil.which(name) or shutil.which(name, path=":".join(_SYSTEM_FOLDERS))


@cache
def find_bubblewrap() -> Bubblewrap:
    """Bubblewrap, tried; E520 if there is none that will do, E521 if the host forbids user namespaces."""
    path = os.environ.get("AFENV_BWRAP") or find_tool("bwrap")
    if path is None:
        raise AfenvError("E520", "bubblewrap (bwrap) is not installed")
    done = _run([path, "--help"])
    options = frozenset(word for word in (done.stdout + done.stderr).split() if word.startswith("--"))
    missing = [option for option in _NEEDED if option not in options]
    if missing:
        raise AfenvError("E520", f"{path} is too old: it does not know {', '.join(missing)}")
    tried = _run([path, "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "--proc", "/proc", "true"])
    if tried.returncode:
        raise _forbidden(tried.stderr.strip().splitlines()[-1:])
    return Bubblewrap(path, options)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AfenvError("E520", f"{command[0]} does not run: {error}") from None


def _forbidden(words: list[str]) -> AfenvError:
    """Why there is no user namespace, and what an administrator can do about it."""
    message = f"this host does not let you make a user namespace: {words[0] if words else 'no reason given'}"
    return AfenvError("E521", message, remedy=remedy(_sysctl))


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name.replace(".", "/")).read_text().strip()
    except OSError:
        return ""


def remedy(sysctl: Callable[[str], str]) -> str:
    """What to ask the administrator for, by what ``sysctl(name)`` says of this kernel."""
    settings = {
        "user.max_user_namespaces": ("0", "15000"),
        "kernel.unprivileged_userns_clone": ("0", "1"),  # kernels of Debian
    }
    for name, (bad, good) in settings.items():
        if sysctl(name) == bad:
            return f"Ask the administrator for `sysctl -w {name}={good}`, kept in a file in /etc/sysctl.d."
    if sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":  # Ubuntu's kernels
        return (
            "Ask the administrator for an AppArmor profile that grants `userns` to bwrap, "
            "or for `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`."
        )
    return (
        "Inside a container, it has to be started so that namespaces and mounts are allowed (for Docker and "
        "Podman: --security-opt seccomp=unconfined --security-opt systempaths=unconfined); "
        "elsewhere, ask the administrator to allow user namespaces."
    )


def can_overlay(folder: Path) -> bool:
    """Whether an ordinary user may lay an overlay whose upper folder is in ``folder``."""
    unshare, mount = find_tool("unshare"), find_tool("mount")
    if unshare is None or mount is None or os.environ.get("AFENV_BUILD_OVERLAY") == "0":
        return False
    probe = folder / "probe"
    for name in ("lower/folder", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    options = "userxattr,lowerdir=lower,upperdir=upper,workdir=work"
    script = '"$0" -t overlay overlay -o "$1" merged && rmdir merged/folder && mkdir merged/folder'
    command = [unshare, "--user", "--map-root-user", "--mount", "--", "/bin/sh", "-c", script, mount, options]
    try:
        done = subprocess.run(command, cwd=probe, capture_output=True, timeout=60, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        shutil.rmtree(probe, ignore_errors=True)
