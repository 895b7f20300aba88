"""A facility's profile as frozen values. The norm is ``specs/facility/v1``.

Design goals of the format: one page that a person writes or a probe; what is absent is not known, what is
an empty list is not there; nothing is concluded from names. :mod:`afenv.documents.facility_file` reads and
writes files.
"""

from __future__ import annotations

from afenv.record import record

FORMAT_VERSION = 1
FILE_NAME = "facility.yaml"
LEVELS = ("x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4")


@record
class Cpu:
    """The processors: psABI level, their own name of themselves, and how many a job sees."""

    level: str | None = None
    model: str | None = None
    cores: int | None = None


@record
class Kernel:
    """The kernel: what ``uname -r`` says, and how it treats the vsyscall page."""

    release: str | None = None
    vsyscall: str | None = None


@record
class FacilityRuntime:
    """A container runtime that users can start."""

    name: str
    version: str | None = None
    rootless: bool | None = None
    gpu: bool | None = None


@record
class Repository:
    """A CVMFS repository that is mounted; ``pinned`` if it stays at its revision."""

    name: str
    revision: int | None = None
    root_hash: str | None = None
    pinned: bool = False


@record
class Cvmfs:
    """The repositories that are mounted; ``others`` if more may be."""

    repositories: tuple[Repository, ...] | None = None
    others: bool = False


@record
class Gpu:
    """A kind of GPU; memory in MiB, ``cuda`` and ``driver_glibc`` as the driver has them."""

    model: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    driver_glibc: str | None = None
    data_center: bool | None = None
    memory: int | None = None
    count: int | None = None


@record
class Registry:
    """A registry, as HOST[:PORT], and whether it answers."""

    host: str
    reachable: bool = True


@record
class Place:
    """Where files go; ``free`` is in bytes."""

    path: str
    purpose: str = "images"
    free: int | None = None


@record
class DataProxy:
    """What a cache for data serves: URIs that begin with ``prefix``, as ``replacement`` and the rest."""

    prefix: str
    replacement: str


@record
class Hub:
    """The JupyterHub that starts images; ``only`` if there is no other way in."""

    version: str
    only: bool = False


@record
class FacilityProfile:
    """A whole profile. None is not known; an empty tuple is none."""

    name: str
    description: str | None = None
    probed: str | None = None
    architecture: str | None = None
    cpu: Cpu | None = None
    kernel: Kernel | None = None
    glibc: str | None = None
    user_namespaces: bool | None = None
    runtimes: tuple[FacilityRuntime, ...] | None = None
    cvmfs: Cvmfs | None = None
    gpus: tuple[Gpu, ...] | None = None
    network: str | None = None
    hosts: tuple[str, ...] | None = None
    registries: tuple[Registry, ...] | None = None
    data: tuple[str, ...] | None = None
    data_proxies: tuple[DataProxy, ...] | None = None
    storage: tuple[Place, ...] | None = None
    jupyterhub: Hub | None = None

    def runtime(self, name: str) -> FacilityRuntime | None:
        """The runtime of that name, if it is known to be there."""
        return next((one for one in self.runtimes or () if one.name == name), None)

    def through_proxies(self, uri: str) -> tuple[str, ...]:
        """The URIs by which the facility's caches serve a URI, in the order of the profile."""
        rules = self.data_proxies or ()
        return tuple(one.replacement + uri[len(one.prefix) :] for one in rules if uri.startswith(one.prefix))
