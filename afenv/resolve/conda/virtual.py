"""Virtual packages: what conda packages may expect of the system, out of the manifest and never of the host.

``__glibc`` is the C library of the base. ``__linux`` is the oldest kernel that facilities still run
(Enterprise Linux 8), because an image brings no kernel. ``__cuda`` is there only for an environment with a
GPU need. See CEP 30.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afenv.errors import AfenvError

KERNEL = "4.18"
MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
MOST_MINORS = 20  # of one major version of CUDA


def virtual_packages(
    subdir: str,
    glibc: tuple[int, int],
    cuda: str | None,
    stated: Mapping[str, str],
    cuda_architectures: Sequence[str] = (),
) -> dict[str, str]:
    """Virtual packages by name; ``stated`` wins over what follows from the base and the GPU need.

    ``__cuda_arch`` is the lowest of ``cuda_architectures``, and absent without any (CEP 46).
    A value is the version; that of ``__archspec`` is the name of a microarchitecture.
    """
    found = {
        "__archspec": MACHINES[subdir],
        "__glibc": f"{glibc[0]}.{glibc[1]}",
        "__linux": KERNEL,
        "__unix": "0",
    }
    if cuda is not None:
        found["__cuda"] = cuda
        if cuda_architectures:
            found["__cuda_arch"] = min(cuda_architectures, key=_major_minor)
    return dict(sorted((found | dict(stated)).items()))


def as_triple(name: str, value: str) -> tuple[str, str, str]:
    """Name, version and build string of a virtual package, as solvers see it."""
    return (name, "1", value) if name == "__archspec" else (name, value, "0")


def cuda_of(gpu: Mapping[str, Any] | None) -> str | None:
    """The lowest version of CUDA that a ``gpu`` section allows, as ``MAJOR.MINOR``; None without one.

    E014 if it states no lowest version, or allows none.
    """
    if not gpu:
        return None
    from packaging.specifiers import SpecifierSet

    text = str(gpu["cuda"]).strip()
    allowed = SpecifierSet("==" + text if text[0].isdigit() else text)
    starts = [
        (specifier.operator, specifier.version)
        for specifier in allowed
        if specifier.operator in ("==", ">=", ">", "~=")
    ]
    if not starts:
        raise AfenvError(
            "E014",
            f"gpu.cuda is {text!r}, which has no lowest version, and conda packages are chosen for that",
            remedy='Write it as ">=12.2" or ">=12.2,<13".',
        )
    major, minor = max(_major_minor(version) for _, version in starts)
    for candidate in range(minor, minor + MOST_MINORS):
        if allowed.contains(f"{major}.{candidate}"):
            return f"{major}.{candidate}"
    raise AfenvError("E014", f"gpu.cuda is {text!r}, which no version of CUDA fits")


def _major_minor(version: str) -> tuple[int, int]:
    parts = [int(part) for part in version.split(".")[:2]]
    return parts[0], parts[1] if len(parts) > 1 else 0
