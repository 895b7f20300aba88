"""The platform and Python that wheels are chosen for: uv's name of it, markers, and wheel tags.

Everything follows from the lock (the Python of the base, its C library, the platform); the host that
runs afenv has no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afenv.errors import AfenvError

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.tags import Tag

MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}

# What `uv pip compile --python-platform` offers; a C library between two of them takes the older one.
_UV_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # PEP 600
_OLDEST = {"x86_64": 5, "aarch64": 17}  # minor version of glibc 2 with which each machine began


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A CPython on a GNU/Linux: full version, machine as ``uname -m`` says it, version of glibc."""

    python: str
    machine: str
    glibc: tuple[int, int]

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor version of Python."""
        major, minor = self.python.split(".")[:2]
        return int(major), int(minor)

    @property
    def uv_platform(self) -> str:
        """The target as uv names it; E120 if the C library is older than any that uv knows."""
        known = [minor for minor in _UV_GLIBC if (2, minor) <= self.glibc]
        if not known:
            raise AfenvError("E120", f"glibc {self.glibc[0]}.{self.glibc[1]} is too old for uv")
        return f"{self.machine}-manylinux_2_{known[-1]}"

    def platforms(self) -> Iterator[str]:
        """The platform tags that the target accepts, the best first (PEP 600, PEP 425)."""
        for minor in range(self.glibc[1], _OLDEST[self.machine] - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{self.machine}"
        yield f"linux_{self.machine}"

    def tags(self) -> list[Tag]:
        """The wheel tags that the target accepts, the best first."""
        from packaging import tags

        abi = f"cp{self.minor[0]}{self.minor[1]}"
        platforms = list(self.platforms())
        return [
            *tags.cpython_tags(self.minor, abis=[abi], platforms=platforms),
            *tags.compatible_tags(self.minor, interpreter=abi, platforms=platforms),
        ]

    def markers(self) -> Environment:
        """The values of environment markers (PEP 508) on the target.

        ``platform_release`` and ``platform_version`` are of a kernel, which an image has none of: they
        are empty, as uv sets them.
        """
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "platform_python_implementation": "CPython",
            "python_version": f"{self.minor[0]}.{self.minor[1]}",
            "sys_platform": "linux",
        }


def target_of(python: str, glibc: tuple[int, int], platform: str) -> Target:
    """The target of an environment; E016 for a platform that is not supported."""
    if platform not in MACHINES:
        raise AfenvError("E016", f"PyPI packages for {platform} are not supported yet")
    return Target(python=python, machine=MACHINES[platform], glibc=glibc)
