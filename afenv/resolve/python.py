"""Which Python and which C library a set of Debian packages gives.

Wheels are chosen, and bytecode is compiled, for these and never for the host's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from afenv.documents.lock import LockedDeb, LockedPython
from afenv.errors import AfenvError

_INTERPRETER = re.compile(r"python(3\.\d+)-minimal\Z")
_DEPENDS = re.compile(r"(?:\A|[\s,])python(3\.\d+)(?:-minimal)?(?=[\s,:(]|\Z)")


def upstream_version(version: str) -> str:
    """A Debian version without epoch and revision: ``1:3.11.2-6+deb12u7`` gives ``3.11.2``."""
    return version.split(":", 1)[-1].rsplit("-", 1)[0]


def locked_python(debs: Sequence[LockedDeb]) -> LockedPython | None:
    """The Python that the packages install, or None if they install none with its standard library.

    Where there are several, ``python3`` decides by what it depends on; else the newest is taken. The
    paths are those that Debian's own interpreter searches for packages installed by the administrator
    (Debian Python Policy, "Module Path").
    """
    by_name = {deb.name: deb for deb in debs}
    found = {match[1]: deb for deb in debs if (match := _INTERPRETER.match(deb.name))}
    found = {minor: deb for minor, deb in found.items() if f"libpython{minor}-stdlib" in by_name}
    if not found:
        return None
    minor = max(found, key=lambda text: int(text.split(".")[1]))
    default = by_name.get("python3")
    if default is not None:
        named = _DEPENDS.search(default.control.get("Depends", ""))
        preferred = named[1] if named else ".".join(upstream_version(default.version).split(".")[:2])
        minor = preferred if preferred in found else minor
    return LockedPython(
        version=upstream_version(found[minor].version).replace("~", ""),
        executable=f"/usr/bin/python{minor}",
        site_packages=f"/usr/local/lib/python{minor}/dist-packages",
        scripts="/usr/local/bin",
    )


def required_python(debs: Sequence[LockedDeb], path: str | None = None) -> LockedPython:
    """As :func:`locked_python`, but E106 if there is none; ``path`` is the place in the manifest."""
    python = locked_python(debs)
    if python is None:
        raise AfenvError("E106", "PyPI packages are asked for, and the base has no Python", path=path)
    return python


def glibc_version(debs: Sequence[LockedDeb]) -> tuple[int, int]:
    """Major and minor version of the GNU C library; E106 if the packages hold none."""
    for deb in debs:
        if deb.name == "libc6":
            major, minor = upstream_version(deb.version).split(".")[:2]
            return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]
    raise AfenvError(
        "E106",
        "the base has no GNU C library (libc6), which wheels for Linux need",
        remedy="Add python3 to base.packages; it brings libc6.",
    )
