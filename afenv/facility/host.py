"""What a machine is, read from its own files: processor, kernel, C library, CVMFS, free space.

Each function takes the text or the root folder that it reads, and has None where nothing can be told.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from afenv.documents.facility import Cpu, Cvmfs, Kernel, Place, Repository

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "riscv64": "riscv64"}
# x86-64 psABI, table "Micro-Architecture Levels", in the words of /proc/cpuinfo; `abm` stands for LZCNT and
# `pni` for SSE3, and XSAVE enabled by the system (OSXSAVE) is what `xsave` says there.
LEVEL_FLAGS: tuple[frozenset[str], ...] = (
    frozenset({"cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2", "lm"}),
    frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def cpu_level(flags: frozenset[str]) -> str | None:
    """The highest x86-64 level whose flags are all there; None for less than the first."""
    level = 0
    for number, wanted in enumerate(LEVEL_FLAGS, 1):
        if not wanted <= flags:
            break
        level = number
    return f"x86-64-v{level}" if level else None


def read_cpu(cpuinfo: str, cores: int | None = None) -> Cpu:
    """The processors in ``/proc/cpuinfo``: of several kinds, what all have."""
    flags: frozenset[str] | None = None
    models = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            found = frozenset(value.split())
            flags = found if flags is None else flags & found
        elif key.strip() == "model name":
            models.add(value.strip())
    return Cpu(
        level=cpu_level(flags) if flags else None,
        model=models.pop() if len(models) == 1 else None,
        cores=cores,
    )


def vsyscall_of(maps: str, cmdline: str) -> str | None:
    """How the kernel treats the vsyscall page, from ``/proc/self/maps`` and ``/proc/cmdline``.

    The page is shown as ``r-xp`` when it is emulated or native, as ``--xp`` when it can only be executed, and
    not at all without it (Linux, kernel-parameters.txt, ``vsyscall=``).
    """
    if not maps:
        return None
    asked = re.findall(r"(?:^|\s)vsyscall=(\w+)", cmdline)
    for line in maps.splitlines():
        if line.endswith("[vsyscall]"):
            if line.split()[1].startswith("r"):
                return "native" if asked[-1:] == ["native"] else "emulate"
            return "xonly"
    return "none"


def read_kernel(root: Path = Path("/"), release: str | None = None, machine: str | None = None) -> Kernel:
    """The kernel of this machine."""
    maps, cmdline = _text(root / "proc/self/maps"), _text(root / "proc/cmdline")
    intel = (machine or platform.machine()) == "x86_64"
    return Kernel(
        release=release or platform.release() or None,
        vsyscall=vsyscall_of(maps, cmdline) if intel else None,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def host_glibc() -> str | None:
    """The version of this machine's C library; None if it is not glibc."""
    try:
        name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return number if name == "glibc" and number else None


def read_cvmfs(mounts: str, root: Path = Path("/cvmfs"), *, attributes: bool = True) -> Cvmfs:
    """The CVMFS repositories that are mounted, with revision and root hash where the client tells them.

    ``mounts`` is ``/proc/mounts``. An automounter on ``/cvmfs`` mounts others when they are looked at.
    """
    names = set()
    others = False
    for line in mounts.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        place, kind = parts[1], parts[2]
        others = others or (place == str(root) and kind == "autofs")
        if Path(place).parent == root and (parts[0].startswith("cvmfs") or kind == "fuse.cvmfs2"):
            names.add(Path(place).name)
    found = (_repository(root / name, attributes) for name in sorted(names) if "." in name)
    return Cvmfs(repositories=tuple(found), others=others)


def _repository(path: Path, attributes: bool) -> Repository:
    values = _attributes(path) if attributes else {}
    revision, root_hash = values.get("revision", ""), values.get("root_hash", "")
    return Repository(
        name=path.name,
        revision=int(revision) if revision.isdigit() else None,
        root_hash=root_hash if re.fullmatch(r"[0-9a-f]{40}(-[a-z0-9]+)?", root_hash) else None,
    )


def _attributes(path: Path) -> Mapping[str, str]:
    """The extended attributes that CVMFS gives a repository's root."""
    found = {}
    for name in ("revision", "root_hash"):
        try:
            found[name] = os.getxattr(path, f"user.{name}").decode("ascii", "replace").strip("\0\n ")
        except (OSError, AttributeError):
            continue
    return found


def free_space(path: Path, purpose: str) -> Place | None:
    """A place with the bytes that are free for a user there, or above it if it is not there yet."""
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        state = os.statvfs(nearest)
    except OSError:
        return None
    return Place(path=str(path), purpose=purpose, free=state.f_bavail * state.f_frsize)
