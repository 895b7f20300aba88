"""What to do about a host on which images cannot be run: pure functions of what was found there.

Sources: user_namespaces(7); Debian's and Ubuntu's kernel documentation of ``unprivileged_userns_clone`` and
``apparmor_restrict_unprivileged_userns``; Apptainer's administrator guide, "User Namespaces".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SETTINGS = {
    "max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "apparmor_restrict_unprivileged_userns": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
}
APPARMOR = (
    "Ask the administrator for an AppArmor profile that gives bwrap `userns,`, or for "
    "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`."
)
CONTAINED = (
    "Inside a container, start the outer one with user namespaces allowed (Docker: "
    "`--security-opt seccomp=unconfined`, Kubernetes: an unconfined seccomp profile); else ask the "
    "administrator."
)
ELSEWHERE = "`afenv build` works without a runtime: the image can be taken to a host that has one."


def namespace_settings(root: Path = Path("/")) -> dict[str, str]:
    """The kernel settings that decide about user namespaces, those that this kernel has."""
    found = {}
    for name, path in SETTINGS.items():
        try:
            found[name] = (root / path.lstrip("/")).read_text().strip()
        except OSError:
            continue
    return found


def why_no_user_namespaces(said: str, settings: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Why a user namespace cannot be made, and what to ask the administrator for."""
    settings = namespace_settings() if settings is None else settings
    ask = "Ask the administrator for `sysctl {}` (lasting in /etc/sysctl.d), or for Apptainer or Podman."
    if settings.get("max_user_namespaces") == "0":
        return "the kernel allows no user namespaces", ask.format("user.max_user_namespaces=15000")
    if settings.get("unprivileged_userns_clone") == "0":
        return "only root may make user namespaces", ask.format("kernel.unprivileged_userns_clone=1")
    if settings.get("apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor keeps users from making user namespaces", APPARMOR
    return f"a user namespace cannot be made ({said or 'no reason given'})", CONTAINED


def apptainer_remedy(said: str, settings: Mapping[str, str] | None = None) -> str | None:
    """What to do about a failure of Apptainer, from its own words; None where nothing better is known."""
    text = said.lower()
    if "fuse" in text:
        return (
            "Apptainer could not mount the image through /dev/fuse. Ask the administrator for mode 0666 of "
            "/dev/fuse and for squashfuse, or set AFENV_APPTAINER_IMAGE=sandbox to run from a folder."
        )
    if "user namespace" in text or "setuid" in text or "failed to create namespace" in text:
        return why_no_user_namespaces(said, settings)[1]
    if "rlimit" in text or "resource" in text:
        return (
            "Ask the administrator for `root default capabilities = no` in apptainer.conf, or run as a user."
        )
    if "no space" in text:
        return "Free space in the cache and in TMPDIR, or set AFENV_CACHE_DIR and TMPDIR to larger disks."
    return None


def no_runtime_remedy(identifiers: str, *, root: bool, contained: bool) -> str:
    """What to install, or whom to ask, on a host without any runtime.

    ``identifiers`` are ``ID`` and ``ID_LIKE`` of os-release(5), ``contained`` says that this is a container
    itself.
    """
    words = set(identifiers.lower().split())
    if contained:
        return (
            "This is a container itself: use an image that has bubblewrap, and allow it user namespaces. "
            + ELSEWHERE
        )
    if words & {"debian", "ubuntu"}:
        command = "apt install podman uidmap` (or `apt install bubblewrap"
    elif words & {"rhel", "fedora", "centos", "almalinux", "rocky"}:
        command = "dnf install podman` (or, with EPEL, `dnf install apptainer"
    elif words & {"suse", "opensuse", "sles"}:
        command = "zypper install podman"
    else:
        command = ""
    who = "Run" if root else "Ask the administrator for"
    install = f"{who} `{command}`)." if "(" in command else f"{who} `{command}`." if command else ""
    if not install:
        install = (
            "Install Podman, Apptainer, Docker or bubblewrap."
            if root
            else ("Ask the administrator for Podman, Apptainer, Docker or bubblewrap.")
        )
    module = (
        "" if root else " At a computing facility try `module load apptainer`, and a node other than login."
    )
    return f"{install}{module} {ELSEWHERE}"


def host_remedy(root_folder: Path = Path("/")) -> str:
    """:func:`no_runtime_remedy` for this host."""
    import os

    identifiers = []
    try:
        for line in (root_folder / "etc/os-release").read_text().splitlines():
            key, _, value = line.partition("=")
            if key in ("ID", "ID_LIKE"):
                identifiers.append(value.strip("\"'"))
    except OSError:
        pass
    marks = (".dockerenv", "run/.containerenv", ".singularity.d")
    contained = any((root_folder / name).exists() for name in marks)
    return no_runtime_remedy(" ".join(identifiers), root=os.geteuid() == 0, contained=contained)
