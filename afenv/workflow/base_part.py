"""What the base of an environment comes to in a lock, whatever kind of base it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from afenv.documents.lock import LockedBase, LockedDeb, LockedIndex, LockedPython
from afenv.documents.manifest import Environment
from afenv.errors import AfenvError

# Libraries that every manylinux wheel may expect of its host (PEP 600 and auditwheel's policy) and that a
# Debian base with Python alone lacks. Those of X11 and OpenGL, which the policy names too, are left to the
# manifest.
MANYLINUX_LIBRARIES = ("libstdc++6",)
# The C library of each Debian release, the oldest first.
GLIBC = {"bullseye": (2, 31), "bookworm": (2, 36), "trixie": (2, 41)}


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePart:
    """What a base comes to in a lock, and what it means for the packages on top of it.

    ``glibc`` is None where there is no GNU C library; ``provided`` has the distributions of the base's own
    Python, where that is the environment's; ``name`` is for messages.
    """

    name: str
    base: LockedBase | None = None
    minimal: bool = False
    suite: str | None = None
    indexes: tuple[LockedIndex, ...] = ()
    debs: tuple[LockedDeb, ...] = ()
    python: LockedPython | None = None
    glibc: tuple[int, int] | None = None
    has_musl: bool = False
    provided: dict[str, str] = field(default_factory=dict)

    def need_glibc(self, what: str) -> tuple[int, int]:
        """The version of the C library; E113 if there is none, and ``what`` needs it."""
        if self.glibc is None:
            has = "the C library musl" if self.has_musl else "no C library"
            raise AfenvError("E113", f"{what} need the GNU C library, and {self.name} has {has}")
        return self.glibc


def may_have_wheels(environment: Environment) -> bool:
    """Whether wheels may come into the environment, so that they need what wheels expect of a system."""
    asked = environment.conda
    return environment.pypi is not None or (asked is not None and bool(asked.file or asked.lock))


def parsed_glibc(version: str | None) -> tuple[int, int] | None:
    """Major and minor version of a C library."""
    if version is None:
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
