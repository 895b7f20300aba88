# ruff: noqa: E501 -- a table is read by its columns
"""The verdict, as a table: each case names the documented rule that it comes from.

A case changes one thing of an image and of a facility that go together, and says which rule answers how.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from afenv.documents.facility import (
    Cpu,
    Cvmfs,
    DataProxy,
    FacilityProfile,
    FacilityRuntime,
    Gpu,
    Hub,
    Kernel,
    Place,
    Registry,
    Repository,
)
from afenv.facility.needs import CvmfsNeed, DataNeed, GpuCode, GpuNeed, Needs
from afenv.facility.verdict import verdict
from afenv.record import replace

NEEDS = Needs(
    name="image",
    architecture="amd64",
    level=1,
    glibc=(2, 36),
    compression=("gzip",),
    layers=91,
    size=10**9,
    unpacked=2 * 10**9,
)
FACILITY = FacilityProfile(
    name="facility",
    architecture="amd64",
    cpu=Cpu(level="x86-64-v3"),
    kernel=Kernel(release="5.14.0-427.el9.x86_64", vsyscall="xonly"),
    glibc="2.34",
    user_namespaces=True,
    runtimes=(FacilityRuntime(name="apptainer", version="1.3.4", rootless=True, gpu=True),),
    cvmfs=Cvmfs(repositories=(Repository(name="sft.cern.ch", revision=100, root_hash="a" * 40),)),
    gpus=(),
    network="full",
    data=("root://eos.example.org//eos/",),
    registries=(Registry(host="registry.example.org"),),
    storage=(Place(path="/images", free=5 * 10**9),),
)

RELEASE_NOTES = "CUDA Toolkit release notes, toolkit and driver versions"
MINOR = "CUDA Compatibility, minor-version compatibility"
FORWARD = "CUDA Compatibility, forward compatibility"
MATRIX = "CUDA Toolkit, Driver, and Architecture Matrix"
BINARY = "CUDA programming guide, binary compatibility"
PTX = "CUDA Compatibility, PTX and error 222"
FAMILY = "PTX ISA, .target"
PSABI = "x86-64 psABI, micro-architecture levels"
VSYSCALL = "Linux kernel-parameters, vsyscall="
ABI_TAG = "Linux Standard Base, NT_GNU_ABI_TAG"
OCI = "OCI image-spec, config.md"
NV = "Apptainer user guide, --nv"
ENGINE = "Docker release notes 23.0, zstd; containerd release notes 1.5"
LAYERS = "Docker 20.10 and overlayfs, number of layers"
USERNS = "user_namespaces(7)"
OVERLAY = "Linux 5.11, overlayfs in user namespaces"
CTK = "NVIDIA container toolkit, runtime configuration"
CVMFS = "CernVM-FS documentation, client"
HUB = "JupyterHub documentation, single-user server versions"
NONE = "specs/facility/v1, known, none, not known"
CACHE = DataProxy(prefix="root://", replacement="root://xcache.example.org//root://")


def gpu(capability: str | None = "8.0", driver: str | None = "550.54.15", **more: Any) -> Gpu:
    return Gpu(model="GPU", compute_capability=capability, driver=driver, **more)


def need(toolkit: tuple[int, ...] | None = (12, 4), code: str | None = "sm_80", **more: Any) -> GpuNeed:
    """A need whose window is by the tables; ``code`` such as ``sm_80 compute_90a``."""
    from afenv.documents.cuda import cuda_tables

    tables = cuda_tables()
    found = None
    if code is not None:
        found = tuple(_code(word) for word in code.split())
    values: dict[str, Any] = {
        "toolkit": toolkit,
        "least_driver": tables.least_driver(toolkit) if toolkit else None,
        "full_driver": tables.full_driver(toolkit) if toolkit and len(toolkit) > 1 else None,
        "code": found,
    }
    return GpuNeed(**values | more)


def _code(word: str) -> GpuCode:
    kind, _, number = word.partition("_")
    digits = number.rstrip("af")
    return GpuCode(
        kind="cubin" if kind == "sm" else "ptx",
        capability=(int(digits[:-1]), int(digits[-1])),
        variant=number[len(digits) :],
    )


class Case(NamedTuple):
    name: str
    source: str
    needs: dict[str, Any]
    facility: dict[str, Any]
    outcome: str  # of the verdict
    rule: str = ""  # which has to be among the reasons
    said: str = ""  # its outcome, if it is not the verdict's


def with_gpu(*gpus: Gpu, **more: Any) -> dict[str, Any]:
    return {"gpus": gpus, "glibc": "2.34", **more}


def runtime(name: str, number: str | None = None, **more: Any) -> dict[str, Any]:
    return {"runtimes": (FacilityRuntime(name=name, version=number, **more),)}


CASES = [
    Case("all is there", OCI, {}, {}, "runs"),
    # architecture and processor
    Case("another architecture", OCI, {"architecture": "arm64"}, {}, "cannot", "architecture"),
    Case("32-bit image on 64 bits", "Linux Kconfig, IA32_EMULATION", {"architecture": "386"}, {}, "runs", "architecture", "unknown"),
    Case("32-bit image on another processor", OCI, {"architecture": "386"}, {"architecture": "arm64"}, "cannot", "architecture"),
    Case("image without architecture", OCI, {"architecture": None}, {}, "runs", "architecture", "unknown"),
    Case("facility of unknown architecture", NONE, {}, {"architecture": None}, "runs", "architecture", "unknown"),
    Case("v3 on v3", PSABI, {"level": 3}, {}, "runs"),
    Case("v2 on v3", PSABI, {"level": 2}, {}, "runs"),
    Case("v4 on v3", PSABI, {"level": 4}, {}, "cannot", "cpu-level"),
    Case("v3 on v2", PSABI, {"level": 3}, {"cpu": Cpu(level="x86-64-v2")}, "cannot", "cpu-level"),
    Case("v3 on not known", NONE, {"level": 3}, {"cpu": Cpu()}, "runs", "cpu-level", "unknown"),
    Case("v1 on not known", PSABI, {}, {"cpu": None}, "runs"),
    Case("not known on v3", NONE, {"level": None}, {}, "runs", "cpu-level", "unknown"),
    Case("not known on v4", PSABI, {"level": None}, {"cpu": Cpu(level="x86-64-v4")}, "runs"),
    # kernel and C library
    Case("old glibc, vsyscall none", VSYSCALL, {"glibc": (2, 12)}, {"kernel": Kernel(release="6.1.0", vsyscall="none")}, "cannot", "vsyscall"),
    Case("old glibc, vsyscall xonly", VSYSCALL, {"glibc": (2, 12)}, {}, "runs"),
    Case("old glibc, vsyscall emulate", VSYSCALL, {"glibc": (2, 5)}, {"kernel": Kernel(release="4.18.0", vsyscall="emulate")}, "runs"),
    Case("old glibc, vsyscall not known", VSYSCALL, {"glibc": (2, 12)}, {"kernel": Kernel(release="6.1.0")}, "runs", "vsyscall", "unknown"),
    Case("glibc 2.14, vsyscall none", VSYSCALL, {"glibc": (2, 14)}, {"kernel": Kernel(release="6.1.0", vsyscall="none")}, "cannot", "vsyscall"),
    Case("glibc 2.15, vsyscall none", VSYSCALL, {"glibc": (2, 15)}, {"kernel": Kernel(release="6.1.0", vsyscall="none")}, "runs"),
    Case("kernel too old", ABI_TAG, {"kernel": (3, 2, 0)}, {"kernel": Kernel(release="2.6.32-754.el6", vsyscall="native")}, "cannot", "kernel"),
    Case("kernel as old as can be", ABI_TAG, {"kernel": (3, 10, 0)}, {"kernel": Kernel(release="3.10.0-1160.el7", vsyscall="native")}, "runs"),
    Case("kernel not known", NONE, {"kernel": (3, 2, 0)}, {"kernel": None}, "runs", "kernel", "unknown"),
    # runtimes and forms
    Case("no runtime", NONE, {}, {"runtimes": ()}, "cannot", "runtime"),
    Case("runtimes not known", NONE, {}, {"runtimes": None}, "runs", "runtime", "unknown"),
    Case("SIF with Docker", "OCI distribution; SIF is Apptainer's", {"forms": ("sif",)}, runtime("docker", "27.3.1"), "cannot", "runtime.form"),
    Case("SIF with Apptainer", "Apptainer user guide, SIF", {"forms": ("sif",)}, {}, "runs"),
    Case("SIF with Singularity", "Apptainer user guide, SIF", {"forms": ("sif",)}, runtime("singularity", "3.8.7"), "runs"),
    Case("zstd with Docker 20.10", ENGINE, {"compression": ("zstd",)}, runtime("docker", "20.10.24"), "cannot", "runtime.zstd"),
    Case("zstd with Docker 23", ENGINE, {"compression": ("zstd",)}, runtime("docker", "23.0.1"), "runs"),
    Case("zstd with Docker of no version", NONE, {"compression": ("zstd",)}, runtime("docker"), "runs", "runtime.zstd", "unknown"),
    Case("zstd with containerd 1.4", ENGINE, {"compression": ("zstd",)}, runtime("containerd", "1.4.13"), "cannot", "runtime.zstd"),
    Case("gzip with Docker 20.10", ENGINE, {}, runtime("docker", "20.10.24"), "runs"),
    Case("126 layers with Docker", LAYERS, {"layers": 126}, runtime("docker", "20.10.24"), "cannot", "runtime.layers"),
    Case("125 layers with Docker", LAYERS, {"layers": 125}, runtime("docker", "20.10.24"), "runs"),
    Case("126 layers with Podman", LAYERS, {"layers": 126}, runtime("podman", "5.2.0"), "runs"),
    Case("the second runtime will do", ENGINE, {"compression": ("zstd",)}, {"runtimes": (FacilityRuntime(name="docker", version="20.10.24"), FacilityRuntime(name="apptainer"))}, "runs"),
    Case("rootless without namespaces", USERNS, {}, {"user_namespaces": False}, "cannot", "runtime.user-namespaces"),
    Case("rootless, namespaces not known", NONE, {}, {"user_namespaces": None}, "runs", "runtime.user-namespaces", "unknown"),
    Case("set-user-ID without namespaces", "Apptainer administrator guide, set-user-ID", {}, {"user_namespaces": False, **runtime("apptainer", rootless=False)}, "runs"),
    Case("plain namespace on Linux 5.4", OVERLAY, {}, {"kernel": Kernel(release="5.4.0"), **runtime("userns")}, "cannot", "runtime.kernel"),
    Case("plain namespace on Linux 5.14", OVERLAY, {}, runtime("userns"), "runs"),
    # disk
    Case("disk full for Docker", "Docker keeps compressed and unpacked layers", {}, {**runtime("docker", "27.3.1"), "storage": (Place(path="/d", free=2 * 10**9),)}, "cannot", "disk"),
    Case("enough for a SIF", "a SIF is one compressed file", {}, {"storage": (Place(path="/d", free=2 * 10**9),)}, "runs"),
    Case("disk not known", NONE, {}, {"storage": None}, "runs", "disk", "unknown"),
    Case("scratch is not for images", "specs/facility/v1, storage", {}, {"storage": (Place(path="/d", purpose="scratch", free=10**12),)}, "runs", "disk", "unknown"),
    Case("disk full, and unpacked on CVMFS", "Apptainer user guide, sandbox folders; CernVM-FS, unpacked.cern.ch", {"size": 10**11, "unpacked_at": "/cvmfs/sft.cern.ch/a", "registry": "docker.io"}, {}, "runs"),
    Case("unpacked on CVMFS that is not there", CVMFS, {"size": 10**11, "unpacked_at": "/cvmfs/unpacked.cern.ch/a"}, {}, "cannot", "disk"),
    Case("unpacked on CVMFS, for Docker", CVMFS, {"size": 10**11, "unpacked_at": "/cvmfs/sft.cern.ch/a"}, runtime("docker", "27.3.1"), "cannot", "disk"),
    # GPUs: there or not
    Case("no GPU", CTK, {"gpu": need()}, {}, "cannot", "gpu"),
    Case("no GPU, optional", CTK, {"gpu": need(optional=True)}, {}, "degraded", "gpu"),
    Case("GPUs not known", NONE, {"gpu": need()}, {"gpus": None}, "runs", "gpu", "unknown"),
    Case("no need, no GPU", CTK, {}, {}, "runs"),
    Case("Docker without the toolkit", CTK, {"gpu": need()}, with_gpu(gpu(), **runtime("docker", "27.3.1", gpu=False)), "cannot", "runtime.gpu"),
    Case("Docker without the toolkit, optional", CTK, {"gpu": need(optional=True)}, with_gpu(gpu(), **runtime("docker", "27.3.1", gpu=False)), "degraded", "runtime.gpu"),
    Case("Docker, not known", NONE, {"gpu": need()}, with_gpu(gpu(), **runtime("docker", "27.3.1")), "runs", "runtime.gpu", "unknown"),
    # GPUs: driver window
    Case("12.4 on its own driver", RELEASE_NOTES, {"gpu": need()}, with_gpu(gpu()), "runs"),
    Case("12.4 on a newer driver", RELEASE_NOTES, {"gpu": need()}, with_gpu(gpu(driver="580.95.05")), "runs"),
    Case("12.4 on 12.0's driver", MINOR, {"gpu": need()}, with_gpu(gpu(driver="525.60.13")), "degraded", "gpu.features"),
    Case("12.4 on 11.8's driver", MINOR, {"gpu": need()}, with_gpu(gpu(driver="520.61.05")), "cannot", "gpu.driver"),
    Case("11.8 on 450.80.02", MINOR, {"gpu": need((11, 8))}, with_gpu(gpu(driver="450.80.02")), "degraded", "gpu.features"),
    Case("11.8 on 450.51.06", MINOR, {"gpu": need((11, 8))}, with_gpu(gpu(driver="450.51.06")), "cannot", "gpu.driver"),
    Case("13.0 on R575", MINOR, {"gpu": need((13, 0))}, with_gpu(gpu(driver="575.57.08")), "cannot", "gpu.driver"),
    Case("13.1 on R580", MINOR, {"gpu": need((13, 1))}, with_gpu(gpu(driver="580.65.06")), "degraded", "gpu.features"),
    Case("10.2 on 10.1's driver", RELEASE_NOTES, {"gpu": need((10, 2), "sm_75")}, with_gpu(gpu("7.5", "418.39")), "cannot", "gpu.driver"),
    Case("10.2 on 12's driver", RELEASE_NOTES, {"gpu": need((10, 2), "sm_75")}, with_gpu(gpu("7.5", "535.54.03")), "runs"),
    Case("driver too old, optional", MINOR, {"gpu": need(optional=True)}, with_gpu(gpu(driver="470.82.01")), "degraded", "gpu.driver"),
    Case("driver not known", NONE, {"gpu": need()}, with_gpu(gpu(driver=None)), "runs", "gpu.driver", "unknown"),
    Case("driver by its CUDA", RELEASE_NOTES, {"gpu": need()}, with_gpu(gpu(driver=None, cuda="12.6")), "runs"),
    Case("driver by its old CUDA", MINOR, {"gpu": need()}, with_gpu(gpu(driver=None, cuda="11.4")), "cannot", "gpu.driver"),
    Case("toolkit not known", NONE, {"gpu": need(None)}, with_gpu(gpu()), "runs", "gpu.driver", "unknown"),
    Case("compat package on a data-center GPU", FORWARD, {"gpu": need(compatibility=True)}, with_gpu(gpu(driver="470.82.01", data_center=True)), "runs", "gpu.forward", "unknown"),
    Case("compat package on another GPU", FORWARD, {"gpu": need(compatibility=True)}, with_gpu(gpu(driver="470.82.01", data_center=False)), "cannot", "gpu.driver"),
    # GPUs: architectures
    Case("code for it", BINARY, {"gpu": need(code="sm_70 sm_80")}, with_gpu(gpu()), "runs"),
    Case("code for a lower minor", BINARY, {"gpu": need(code="sm_80")}, with_gpu(gpu("8.6")), "runs"),
    Case("code for a higher minor", BINARY, {"gpu": need(code="sm_86")}, with_gpu(gpu("8.0")), "cannot", "gpu.binary"),
    Case("code for another major", BINARY, {"gpu": need(code="sm_80")}, with_gpu(gpu("9.0")), "cannot", "gpu.binary"),
    Case("PTX for an older one", PTX, {"gpu": need(code="sm_70 compute_80")}, with_gpu(gpu("9.0")), "degraded", "gpu.ptx"),
    Case("PTX for a newer one", PTX, {"gpu": need(code="compute_90")}, with_gpu(gpu("8.0")), "cannot", "gpu.binary"),
    Case("PTX newer than the driver", PTX, {"gpu": need(code="compute_80")}, with_gpu(gpu("8.0", "535.104.05")), "cannot", "gpu.ptx"),
    Case("PTX, toolkit of no minor version", NONE, {"gpu": need((12,), "compute_80")}, with_gpu(gpu()), "runs", "gpu.ptx", "unknown"),
    Case("one library of two has no code", BINARY, {"gpu": need(code="sm_80 sm_90", files=(("a.so", (_code("sm_80"),)), ("b.so", (_code("sm_90"),))))}, with_gpu(gpu()), "degraded", "gpu.binary"),
    Case("no library has code at all", NONE, {"gpu": need(code="")}, with_gpu(gpu()), "runs", "gpu.binary", "unknown"),
    Case("sm_90a on 9.0", FAMILY, {"gpu": need(code="sm_90a")}, with_gpu(gpu("9.0")), "runs"),
    Case("compute_90a on 10.0", FAMILY, {"gpu": need((12, 8), "compute_90a")}, with_gpu(gpu("10.0", "570.124.06")), "cannot", "gpu.binary"),
    Case("sm_100f on 10.3", FAMILY, {"gpu": need((13, 0), "sm_100f")}, with_gpu(gpu("10.3", "580.95.05")), "runs"),
    Case("Volta with CUDA 13", MATRIX, {"gpu": need((13, 0), "sm_75")}, with_gpu(gpu("7.0", "580.95.05")), "cannot", "gpu.architecture"),
    Case("Volta with CUDA 12", MATRIX, {"gpu": need((12, 9), "sm_70")}, with_gpu(gpu("7.0", "580.95.05")), "runs"),
    Case("Kepler with CUDA 12", MATRIX, {"gpu": need((12, 0), None)}, with_gpu(gpu("3.5", "470.82.01")), "cannot", "gpu.architecture"),
    Case("Kepler 3.0 with CUDA 11", MATRIX, {"gpu": need((11, 0), None)}, with_gpu(gpu("3.0", "470.82.01")), "cannot", "gpu.architecture"),
    Case("GPU that is not known", NONE, {"gpu": need(code=None)}, with_gpu(gpu("99.0")), "runs", "gpu.architecture", "unknown"),
    Case("capability not known", NONE, {"gpu": need()}, with_gpu(gpu(None)), "runs", "gpu.architecture", "unknown"),
    Case("binaries not read", NONE, {"gpu": need(code=None)}, with_gpu(gpu()), "runs", "gpu.binary", "unknown"),
    Case("binaries not read, declared", "specs/manifest/v1, gpu", {"gpu": need(code=None, architectures=((8, 0),))}, with_gpu(gpu()), "runs"),
    Case("binaries not read, another declared", NONE, {"gpu": need(code=None, architectures=((7, 0),))}, with_gpu(gpu()), "runs", "gpu.binary", "unknown"),
    Case("one kind of two will do", MATRIX, {"gpu": need()}, with_gpu(gpu("7.0", "470.82.01"), gpu()), "runs"),
    # --nv
    Case("old image with --nv", NV, {"gpu": need(), "glibc": (2, 28)}, with_gpu(gpu()), "degraded", "runtime.nv-glibc"),
    Case("new image with --nv", NV, {"gpu": need()}, with_gpu(gpu()), "runs"),
    Case("driver's needs are met", NV, {"gpu": need(), "glibc": (2, 17)}, with_gpu(gpu(driver_glibc="2.17")), "runs"),
    Case("driver needs more", NV, {"gpu": need(), "glibc": (2, 17)}, with_gpu(gpu(driver_glibc="2.27")), "cannot", "runtime.nv-glibc"),
    Case("driver needs more, optional", NV, {"gpu": need(optional=True), "glibc": (2, 17)}, with_gpu(gpu(driver_glibc="2.27")), "degraded", "runtime.nv-glibc"),
    Case("image's glibc not known", NONE, {"gpu": need(), "glibc": None}, with_gpu(gpu()), "runs", "runtime.nv-glibc", "unknown"),
    # CVMFS
    Case("mounted", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch"),)}, {}, "runs"),
    Case("not mounted", CVMFS, {"cvmfs": (CvmfsNeed(name="lhcb.cern.ch"),)}, {}, "cannot", "cvmfs"),
    Case("others may be mounted", CVMFS, {"cvmfs": (CvmfsNeed(name="lhcb.cern.ch"),)}, {"cvmfs": Cvmfs(repositories=(), others=True)}, "runs", "cvmfs", "unknown"),
    Case("CVMFS not known", NONE, {"cvmfs": (CvmfsNeed(name="sft.cern.ch"),)}, {"cvmfs": None}, "runs", "cvmfs", "unknown"),
    Case("the same root hash", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", revision=100, root_hash="a" * 40),)}, {}, "runs"),
    Case("a newer revision", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", revision=90),)}, {}, "degraded", "cvmfs.revision"),
    Case("an older revision", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", revision=110),)}, {}, "degraded", "cvmfs.revision"),
    Case("an older revision for ever", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", revision=110),)}, {"cvmfs": Cvmfs(repositories=(Repository(name="sft.cern.ch", revision=100, pinned=True),))}, "cannot", "cvmfs.revision"),
    Case("revision not known", NONE, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", revision=110),)}, {"cvmfs": Cvmfs(repositories=(Repository(name="sft.cern.ch"),))}, "runs", "cvmfs.revision", "unknown"),
    Case("another root hash", CVMFS, {"cvmfs": (CvmfsNeed(name="sft.cern.ch", root_hash="b" * 40),)}, {}, "degraded", "cvmfs.revision"),
    # network and data
    Case("network needed and there", "specs/facility/v1, network", {"network": True}, {}, "runs"),
    Case("network needed and none", "specs/facility/v1, network", {"network": True}, {"network": "none"}, "cannot", "network"),
    Case("network needed, some hosts", "specs/facility/v1, network", {"network": True}, {"network": "listed", "hosts": ("a.org",)}, "degraded", "network"),
    Case("network needed, not known", NONE, {"network": True}, {"network": None}, "runs", "network", "unknown"),
    Case("data held there", "specs/facility/v1, data", {"data": (DataNeed(name="d", uris=("root://eos.example.org//eos/x",)),)}, {"network": "none"}, "runs"),
    Case("data elsewhere, no network", "specs/facility/v1, data", {"data": (DataNeed(name="d", uris=("root://other.org//x",)),)}, {"network": "none"}, "cannot", "data"),
    Case("data elsewhere, network", "specs/facility/v1, data", {"data": (DataNeed(name="d", uris=("root://other.org//x",)),)}, {}, "runs"),
    Case("one of two replicas is held", "specs/facility/v1, data", {"data": (DataNeed(name="d", uris=("root://other.org//x", "root://eos.example.org//eos/x")),)}, {"network": "none"}, "runs"),
    Case("data at a host that is listed", "specs/facility/v1, hosts", {"data": (DataNeed(name="d", uris=("https://data.other.org/x",)),)}, {"network": "listed", "hosts": ("*.other.org",)}, "runs"),
    Case("data at a host that is not", "specs/facility/v1, hosts", {"data": (DataNeed(name="d", uris=("https://data.other.org/x",)),)}, {"network": "listed", "hosts": ("a.org",)}, "cannot", "data"),
    Case("data, nothing known", NONE, {"data": (DataNeed(name="d", uris=("https://x.org/x",)),)}, {"network": None}, "runs", "data", "unknown"),
    Case("data in a file", "RFC 8089, file URIs", {"data": (DataNeed(name="d", uris=("file:///data/x",)),)}, {"network": "none"}, "runs"),
    Case("data through a cache", "specs/facility/v1, data-proxies", {"data": (DataNeed(name="d", uris=("root://other.org//x",)),)}, {"network": "none", "data_proxies": (CACHE,)}, "runs"),
    Case("data that the cache does not serve", "specs/facility/v1, data-proxies", {"data": (DataNeed(name="d", uris=("https://other.org/x",)),)}, {"network": "none", "data_proxies": (CACHE,)}, "cannot", "data"),
    Case("data of a record, network", NONE, {"data": (DataNeed(name="d", uris=("doi:10.5281/zenodo.1",)),)}, {}, "runs"),
    Case("data of a record, no network", NONE, {"data": (DataNeed(name="d", uris=("doi:10.5281/zenodo.1",)),)}, {"network": "none"}, "runs", "data", "unknown"),
    # registry and hub
    Case("registry reached", "specs/facility/v1, registries", {"registry": "registry.example.org"}, {}, "runs"),
    Case("registry not reached", "specs/facility/v1, registries", {"registry": "registry.example.org"}, {"registries": (Registry(host="registry.example.org", reachable=False),)}, "degraded", "registry"),
    Case("no registry", "specs/facility/v1, registries", {"registry": "docker.io"}, {"registries": ()}, "degraded", "registry"),
    Case("registry not listed", NONE, {"registry": "docker.io"}, {}, "runs", "registry", "unknown"),
    Case("hub of the same major version", HUB, {"jupyterhub": "5.0.0"}, {"jupyterhub": Hub(version="5.2.1")}, "runs"),
    Case("hub of another", HUB, {"jupyterhub": "4.1.6"}, {"jupyterhub": Hub(version="5.2.1")}, "degraded", "jupyterhub"),
    Case("hub of another, and nothing else", HUB, {"jupyterhub": "4.1.6"}, {"jupyterhub": Hub(version="5.2.1", only=True)}, "cannot", "jupyterhub"),
    Case("no jupyterhub in it", HUB, {}, {"jupyterhub": Hub(version="5.2.1", only=True)}, "cannot", "jupyterhub"),
    Case("hub of a newer minor version", HUB, {"jupyterhub": "6.0.0"}, {"jupyterhub": Hub(version="6.1.1", only=True)}, "runs"),
    Case("Debian's package for a hub", HUB, {"jupyterhub": "3.0.0+ds1"}, {"jupyterhub": Hub(version="3.1.1", only=True)}, "runs"),
    Case("a hub of two digits", HUB, {"jupyterhub": "1.5.0"}, {"jupyterhub": Hub(version="10.0.0", only=True)}, "cannot", "jupyterhub"),
    Case("packages not known", NONE, {"packages": False}, {"jupyterhub": Hub(version="5.2.1", only=True)}, "runs", "jupyterhub", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    found = verdict(replace(NEEDS, **case.needs), replace(FACILITY, **case.facility))
    said = {(reason.rule, reason.outcome) for reason in found.reasons}
    assert found.outcome == case.outcome, said
    expected = {(case.rule, case.said or case.outcome)} if case.rule else set()
    assert said >= expected if case.rule else said == set()
    for reason in found.reasons:
        if reason.outcome in ("cannot",):
            assert reason.remedy or reason.rule in ("gpu",), reason


def test_there_are_enough_cases_each_from_a_rule() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.source for case in CASES)


def test_every_rule_is_in_the_table() -> None:
    """The rules that the modules name in their docstrings are all tried."""
    import re

    from afenv.facility import rules_gpu, rules_machine, rules_place, rules_runtime

    named = set()
    for module in (rules_gpu, rules_machine, rules_place, rules_runtime):
        named |= set(re.findall(r"^``([a-z.-]+)``", module.__doc__ or "", re.MULTILINE))
    assert named == {case.rule for case in CASES if case.rule}


def test_what_is_not_known_is_no_verdict_and_is_said() -> None:
    found = verdict(replace(NEEDS, gpu=need()), FacilityProfile(name="nothing known"))
    assert found.outcome == "runs" and found.unknown and not found.as_json()["certain"]
    assert {reason.outcome for reason in found.reasons} == {"unknown"}
