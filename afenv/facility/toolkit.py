"""Which CUDA toolkit the packages of a lock bring, told by their names and versions. Pure.

Packages that carry the toolkit's own version decide; where there are several, the newest, because the driver
has to do for all. Others name a major version only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from afenv.documents.cuda import Version, version
from afenv.documents.lock import LockedEnvironment
from afenv.record import record

# Of conda: `cuda-version` is what conda-forge's packages agree by, the others have the toolkit's version.
_CONDA = re.compile(r"cuda-version|cudatoolkit|cuda-toolkit|cuda-cudart|cuda-runtime|pytorch-cuda")
# Of PyPI: components that are numbered as the toolkit is (cuBLAS, cuDNN and others are not).
_WHEEL = re.compile(r"nvidia-(?:cuda-(?:runtime|nvrtc|cupti|nvcc)|nvjitlink)(?:-cu\d+)?|cuda-toolkit")
_WHEEL_MAJOR = re.compile(r"nvidia-[a-z0-9-]+-cu(\d{2})|jax-cuda(\d{2})-(?:plugin|pjrt)|cupy-cuda(\d{2})x")
_CUPY = re.compile(r"cupy-cuda(\d{2})(\d)")
_LOCAL = re.compile(r"\+cu(\d{2})(\d)\b")
_FIRST_PYPI = 5  # nvidia-cuda-runtime before 5 are placeholders


@record
class Toolkit:
    """A toolkit: its version, of one number where only that is told, and the packages that tell it."""

    version: Version
    packages: tuple[str, ...]


def find_toolkit(environment: LockedEnvironment) -> Toolkit | None:
    """The toolkit in a locked environment; None if no package tells one."""
    found = sorted(set(_told(environment)))
    exact = [one for one in found if len(one[0]) > 1]
    newest = max((one[0] for one in found), key=lambda told: told[:1], default=None)
    if newest is None:
        return None
    best = [one for one in exact if one[0][0] == newest[0]]
    decides = max((one[0] for one in best), default=newest[:1])
    return Toolkit(version=decides, packages=tuple(text for told, text in found if told == decides))


def _told(environment: LockedEnvironment) -> Iterator[tuple[Version, str]]:
    for package in environment.conda:
        if _CONDA.fullmatch(package.name):
            yield version(package.version)[:2], f"{package.name} {package.version}"
    for wheel in environment.wheels:
        text = f"{wheel.name} {wheel.version}"
        local = _LOCAL.search(wheel.version)
        cupy = _CUPY.fullmatch(wheel.name)
        major = _WHEEL_MAJOR.fullmatch(wheel.name)
        if _WHEEL.fullmatch(wheel.name) and version(wheel.version) >= (_FIRST_PYPI,):
            yield version(wheel.version)[:2], text
        elif local or cupy:
            digits = (local or cupy).groups()  # type: ignore[union-attr]
            yield (int(digits[0]), int(digits[1])), text
        elif major:
            yield (int(next(filter(None, major.groups()))),), text


def needed_cuda(environment: LockedEnvironment) -> Version | None:
    """The newest version of CUDA that conda packages ask of the driver (``__cuda >=12.4``)."""
    needs = [
        version(match[1])[:2]
        for package in environment.conda
        for match in _cuda_specs((*package.depends, *package.constrains))
    ]
    return max(needs, default=None)


def _cuda_specs(specs: Iterable[str]) -> Iterator[re.Match[str]]:
    for spec in specs:
        match = re.match(r"__cuda\s*>=\s*(\d+(?:\.\d+)*)", spec)
        if match:
            yield match
