"""What an image needs of a facility, as values; and what a locked environment says of it. Pure.

None is not known. An image that is read tells more than its lock: :mod:`afenv.facility.binaries` adds what
its files declare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

from afenv.documents.cuda import Version, version
from afenv.documents.cvmfs import MOUNT
from afenv.documents.data import LockedData
from afenv.documents.lock import LockedEnvironment, LockedGpu
from afenv.record import record

# Systems whose packages are compiled for more than the first level, by their first release that is:
# Red Hat, "Building Red Hat Enterprise Linux 9 for the x86-64-v2 microarchitecture level", and for 10 and v3.
_SYSTEM_LEVELS = {9: 2, 10: 3}
_ENTERPRISE = ("rhel", "centos", "almalinux", "rocky", "ol")
_ARCHSPEC = re.compile(r"x86[-_]64[-_]v([1-4])\Z")
_HUB = ("jupyterhub", "jupyterhub-base", "jupyterhub-singleuser")


@record
class GpuCode:
    """Code for GPUs in a file: machine code of one architecture (``cubin``), or ``ptx`` to be compiled.

    ``variant`` is ``a`` for an architecture alone, ``f`` for a family, empty otherwise.
    """

    kind: Literal["cubin", "ptx"]
    capability: Version
    variant: str = ""

    def __str__(self) -> str:
        number = "".join(map(str, self.capability))
        return f"{'sm' if self.kind == 'cubin' else 'compute'}_{number}{self.variant}"


@record
class GpuNeed:
    """What is needed of a GPU and its driver.

    ``code`` is what the binaries hold together, None if they were not read; ``files`` what each holds.
    """

    optional: bool = False
    toolkit: Version | None = None
    least_driver: Version | None = None
    least_cuda: Version | None = None
    full_driver: Version | None = None
    architectures: tuple[Version, ...] = ()
    code: tuple[GpuCode, ...] | None = None
    files: tuple[tuple[str, tuple[GpuCode, ...]], ...] = ()
    compatibility: bool = False  # whether a forward-compatibility package is in the image


@record
class CvmfsNeed:
    """A CVMFS repository, and the revision that was locked."""

    name: str
    revision: int | None = None
    root_hash: str | None = None


@record
class DataNeed:
    """Data by name, and the URIs of its replicas."""

    name: str
    uris: tuple[str, ...]


@record
class Needs:
    """All that a verdict is made of. Sizes are in bytes; ``size`` is as transferred, ``unpacked`` as files.

    ``forms`` are those in which the image can be had: ``oci`` and ``sif``. ``packages`` tells whether the
    packages are known, so that one that is not named is not there. ``registry`` is where the image is from,
    ``unpacked_at`` the folder below ``/cvmfs`` where it lies unpacked, if it does. An image ``in_bag`` has to
    be restored before it runs.
    """

    name: str
    architecture: str | None = None
    level: int | None = None
    level_of: str = ""
    glibc: Version | None = None
    kernel: Version | None = None
    gpu: GpuNeed | None = None
    cvmfs: tuple[CvmfsNeed, ...] = ()
    data: tuple[DataNeed, ...] = ()
    network: bool = False
    forms: tuple[str, ...] = ("oci", "sif")
    compression: tuple[str, ...] = ()
    layers: int | None = None
    size: int | None = None
    unpacked: int | None = None
    registry: str | None = None
    jupyterhub: str | None = None
    packages: bool = True
    unpacked_at: str | None = None
    in_bag: bool = False


def gpu_need(gpu: LockedGpu | None, *, compatibility: bool = False) -> GpuNeed | None:
    """The GPU need of a lock."""
    if gpu is None:
        return None

    def numbers(text: str | None) -> Version | None:
        return version(text) if text else None

    return GpuNeed(
        optional=gpu.optional,
        toolkit=numbers(gpu.toolkit),
        least_driver=numbers(gpu.least_driver),
        least_cuda=numbers(gpu.least_cuda),
        full_driver=numbers(gpu.full_driver),
        architectures=tuple(version(text) for text in gpu.architectures),
        compatibility=compatibility,
    )


def needs_of_environment(
    name: str,
    environment: LockedEnvironment,
    *,
    data: Iterable[LockedData] = (),
    gpu: LockedGpu | None = None,
    network: bool = False,
) -> Needs:
    """What a locked environment needs, as far as its packages tell.

    ``data`` is that of the lock; ``gpu`` stands in for the lock's where an older lock has none.
    """
    level, level_of = _level(environment)
    mounted = {
        one.repository: CvmfsNeed(name=one.repository, revision=one.revision, root_hash=one.root_hash)
        for one in environment.cvmfs
        if one.delivery == MOUNT
    }
    names = [package.name for package in environment.conda] + [deb.name for deb in environment.debs]
    compatibility = any(one.startswith("cuda-compat") for one in names)
    return Needs(
        name=name,
        architecture=environment.platform.split("/")[1],
        level=level,
        level_of=level_of,
        glibc=_glibc(environment),
        gpu=gpu_need(environment.gpu or gpu, compatibility=compatibility),
        cvmfs=tuple(mounted[name] for name in sorted(mounted)),
        data=tuple(needs_of_data(data)),
        network=network,
        jupyterhub=_hub(environment),
        packages=environment.base is None,
    )


def needs_of_data(data: Iterable[LockedData]) -> Iterable[DataNeed]:
    """The replicas of data; of many files at the same places, those of the first one stand for all.

    Where the files of a record are not known, its own URI stands for them.
    """
    for entry in data:
        if not entry.files:
            yield DataNeed(name=entry.name, uris=(entry.uri,))
        places: set[tuple[str, ...]] = set()
        for file in entry.files:
            place = tuple(
                uri[: -len(file.path)] if uri.endswith(file.path) else _host(uri) for uri in file.uris
            )
            if place not in places:
                places.add(place)
                yield DataNeed(name=entry.name, uris=file.uris)


def _host(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def _level(environment: LockedEnvironment) -> tuple[int | None, str]:
    if not environment.platform.startswith("linux/amd64"):
        return None, ""
    best, reason = 1, "Debian's amd64" if environment.base is None else ""
    match = _ARCHSPEC.match(environment.virtual_packages.get("__archspec", ""))
    if match:
        best, reason = int(match[1]), "the __archspec that conda packages were chosen for"
    for package in environment.conda:
        for spec in package.depends:
            words = spec.split()
            found = _ARCHSPEC.match(words[-1]) if words and words[0] == "__archspec" else None
            if found and int(found[1]) > best:
                best, reason = int(found[1]), f"the conda package {package.name}"
    base = environment.base
    if base is not None:
        level = system_level(base.system)
        if level is not None and level >= best:
            return level, f"the base {base.system}"
        if best == 1:
            return None, ""
    return best, reason


def system_level(system: str | None) -> int | None:
    """The level that a system's packages are compiled for; None if it is not known."""
    name, _, release = (system or "").partition(" ")
    major = version(release)[:1]
    if name in ("debian", "ubuntu"):
        return 1
    if name in _ENTERPRISE and major:
        return max((level for first, level in _SYSTEM_LEVELS.items() if major[0] >= first), default=1)
    return None


def _glibc(environment: LockedEnvironment) -> Version | None:
    if environment.base is not None:
        return version(environment.base.glibc)[:2] if environment.base.glibc else None
    for deb in environment.debs:
        if deb.name == "libc6":
            return version(deb.version.rpartition(":")[2].partition("-")[0])[:2]
    text = environment.virtual_packages.get("__glibc")
    return version(text) if text else None


def _hub(environment: LockedEnvironment) -> str | None:
    """The version of jupyterhub; of several that which ``PATH`` finds: wheels, then conda, then Debian."""
    versions = {deb.name: deb.version.rpartition(":")[2].partition("-")[0] for deb in environment.debs}
    versions |= {package.name: package.version for package in environment.conda}
    versions |= {wheel.name: wheel.version for wheel in environment.wheels}
    return next((versions[name] for name in _HUB if name in versions), None)
