"""Records, a facility with GPUs, and a spawner that has only a user."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afenv.catalogue.file import make_catalogue
from afenv.catalogue.record import Checked, Form, ImageRecord, Metadata
from afenv.documents.cuda import cuda_tables
from afenv.documents.facility import Cpu, Cvmfs, FacilityProfile, FacilityRuntime, Gpu, Kernel, Place
from afenv.facility.needs import GpuCode, GpuNeed, Needs
from afenv_registry.jupyterhub import CatalogueSource, Offering

REGISTRY = "registry.example.org"
A100 = Gpu(model="NVIDIA A100-SXM4-40GB", compute_capability="8.0", driver="550.54.15")
V100 = Gpu(model="Tesla V100-SXM2-32GB", compute_capability="7.0", driver="470.82.01")
FACILITY = FacilityProfile(
    name="notebooks",
    architecture="amd64",
    cpu=Cpu(level="x86-64-v3"),
    kernel=Kernel(release="6.1.0", vsyscall="xonly"),
    glibc="2.36",
    user_namespaces=True,
    runtimes=(FacilityRuntime(name="containerd", version="1.7.13", gpu=True),),
    cvmfs=Cvmfs(repositories=()),
    gpus=(A100, V100),
    network="full",
    storage=(Place(path="/images", free=10**12),),
)


def gpu_need(
    toolkit: tuple[int, int] = (12, 4), code: str | None = "80", *, optional: bool = False
) -> GpuNeed:
    """A need by the tables; ``code`` are capabilities, None for binaries that were not read."""
    tables = cuda_tables()
    found = None
    if code is not None:
        found = tuple(GpuCode(kind="cubin", capability=(int(one[0]), int(one[1]))) for one in code.split())
    return GpuNeed(
        optional=optional,
        toolkit=toolkit,
        least_driver=tables.least_driver(toolkit),
        full_driver=tables.full_driver(toolkit),
        code=found,
    )


def image(
    name: str = "dimuon",
    *,
    hub: str | None = "6.0.0",
    gpu: GpuNeed | None = None,
    version: str | None = "1.0",
    title: str | None = None,
    number: int = 1,
    packages: bool = True,
    state: str | None = None,
    forms: tuple[Form, ...] = (),
) -> ImageRecord:
    """A record; ``number`` makes its digest."""
    return ImageRecord(
        name=name,
        version=version,
        reference=f"{REGISTRY}/group/{name}:{version or 'latest'}",
        digest=f"sha256:{number:064x}",
        image_id=f"sha256:{number + 1000:064x}",
        added=f"2026-01-{number % 28 + 1:02}T00:00:00Z",
        needs=Needs(
            name=name,
            architecture="amd64",
            level=1,
            glibc=(2, 36),
            compression=("gzip",),
            layers=10,
            size=10**8,
            jupyterhub=hub,
            gpu=gpu,
            packages=packages,
            forms=("oci",),
            registry=REGISTRY,
        ),
        forms=forms or (Form(form="oci", size=10**8),),
        metadata=Metadata(title=title),
        checked=Checked(time="2026-02-01T00:00:00Z", state=state) if state else None,
    )


def spawner(*groups: str, **options: Any) -> Any:
    """A spawner of a user in some groups, with user options."""
    user = SimpleNamespace(name="alice", groups=[SimpleNamespace(name=name) for name in groups])
    return SimpleNamespace(user=user, user_options=options)


Offer = Callable[..., Offering]


@pytest.fixture
def offering(tmp_path: Path) -> Offer:
    """An offering of some records at :data:`FACILITY`, for a hub of version 6.1.1."""

    number = count()

    def made(*records: ImageRecord, **more: Any) -> Offering:
        data = make_catalogue("test", records).data
        source = CatalogueSource(lambda: data, "test", tmp_path / f"kept-{next(number)}")
        source.wait()
        facility = more.pop("facility", FACILITY)
        return Offering(source, facility, **{"hub_version": "6.1.1", **more})

    return made
