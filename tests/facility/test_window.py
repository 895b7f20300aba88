"""The toolkit that a lock brings, and the drivers that it runs on, by the figures of ``specs/cuda.toml``."""

from __future__ import annotations

import pytest

from afenv.documents.cuda import cuda_tables, version
from afenv.documents.lock import LockedConda, LockedEnvironment, LockedFile, LockedGpu, LockedWheel
from afenv.documents.lockfile import dump_lock, parse_lock
from afenv.documents.manifest import Environment, GpuSection
from afenv.errors import AfenvError
from afenv.facility.toolkit import find_toolkit, needed_cuda
from afenv.facility.window import driver_window, locked_gpu, lowest_allowed
from afenv.oci.nvidia import nvidia_variables, on_base
from afenv.resolve.conda.virtual import virtual_packages
from afenv.workflow.check import gpu_of_variables
from afenv.workflow.lock_fits import gpu_fits, with_gpu

FILE = LockedFile(urls=("https://example.org/x",), size=1, sha256="0" * 64)
TABLES = cuda_tables()


def environment(*packages: str, constrains: tuple[str, ...] = ()) -> LockedEnvironment:
    """``name version`` is a wheel, ``conda:name version`` a conda package."""
    wheels, conda = [], []
    for text in packages:
        name, number = text.removeprefix("conda:").split()
        if text.startswith("conda:"):
            conda.append(
                LockedConda(
                    name=name,
                    version=number,
                    build="0",
                    build_number=0,
                    channel="conda-forge",
                    subdir="linux-64",
                    file=FILE,
                    constrains=constrains,
                )
            )
        else:
            wheels.append(LockedWheel(name=name, version=number, file=FILE))
    return LockedEnvironment(
        request="sha256:" + "0" * 64,
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        wheels=tuple(wheels),
        conda=tuple(conda),
    )


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        (("conda:cuda-version 12.4",), (12, 4)),
        (("conda:cudatoolkit 11.8.0",), (11, 8)),
        (("conda:pytorch-cuda 12.1",), (12, 1)),
        (("conda:cuda-cudart 12.6.77", "conda:cuda-version 12.6"), (12, 6)),
        (("nvidia-cuda-runtime-cu12 12.4.127",), (12, 4)),
        (("nvidia-cuda-runtime 13.0.48",), (13, 0)),
        (("nvidia-cuda-runtime 0.0.1a1",), None),  # a placeholder
        (("nvidia-cublas-cu12 12.8.4.1",), (12,)),  # cuBLAS is not numbered as the toolkit
        (("nvidia-nvjitlink-cu12 12.8.93", "nvidia-cublas-cu12 12.8.4.1"), (12, 8)),
        (("torch 2.5.1+cu124",), (12, 4)),
        (("torch 2.5.1",), None),
        (("torch 2.0.1+cpu",), None),
        (("cupy-cuda12x 13.3.0",), (12,)),
        (("cupy-cuda118 10.6.0",), (11, 8)),
        (("jax-cuda12-plugin 0.4.35", "jax-cuda12-pjrt 0.4.35"), (12,)),
        (("jax-cuda13-plugin 0.8.0",), (13,)),
        (("torch 2.5.1+cu118", "nvidia-cuda-runtime-cu12 12.1.105"), (12, 1)),  # the newest decides
        (("numpy 2.1.0",), None),
    ],
)
def test_toolkit(packages: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    found = find_toolkit(environment(*packages))
    assert (found.version if found else None) == expected


def test_toolkit_names_its_packages() -> None:
    found = find_toolkit(environment("nvidia-cuda-runtime-cu12 12.4.127", "torch 2.5.1+cu124"))
    assert found is not None
    assert found.packages == ("nvidia-cuda-runtime-cu12 12.4.127", "torch 2.5.1+cu124")


@pytest.mark.parametrize(
    ("toolkit", "architectures", "cuda", "least", "full", "last"),
    [
        ((13, 1), (), (13, 0), (580,), (590, 44, 1), None),
        ((12, 4), (), (12, 0), (525,), (550, 54, 14), None),
        ((12,), (), (12, 0), (525,), None, None),
        ((12, 7), (), (12, 0), (525,), None, None),  # not in the tables: its full driver is not known
        ((11, 8), (), (11, 0), (450, 80, 2), (520, 61, 5), None),
        ((10, 2), (), (10, 2), (440, 33), (440, 33), None),  # no minor-version compatibility before 11
        ((12, 4), ((7, 0), (9, 0)), (12, 0), (525,), (550, 54, 14), 580),
        ((11, 4), ((3, 5), (7, 0)), (11, 0), (450, 80, 2), (470, 42, 1), 470),
        ((12, 4), ((99, 0),), (12, 0), (525,), (550, 54, 14), None),  # an architecture that is not known
        ((14, 0), (), (14, 0), None, None, None),
    ],
)
def test_window(
    toolkit: tuple[int, ...],
    architectures: tuple[tuple[int, ...], ...],
    cuda: tuple[int, ...],
    least: tuple[int, ...] | None,
    full: tuple[int, ...] | None,
    last: int | None,
) -> None:
    window = driver_window(toolkit, architectures, TABLES)
    assert (window.cuda, window.least, window.full, window.last) == (cuda, least, full, last)


def test_what_packages_ask_of_the_driver_is_no_subject_of_compatibility() -> None:
    locked = environment("conda:cuda-version 12.6", constrains=("__cuda >=12.4", "other"))
    assert needed_cuda(locked) == (12, 4)
    found = locked_gpu(GpuSection(cuda=">=12"), locked, TABLES)
    assert (found.least_cuda, found.least_driver, found.full_driver) == ("12.4", "550.54.14", "560.28.03")


def test_lock() -> None:
    wanted = GpuSection(cuda=">=12.2", architectures=("7.0", "9.0"))
    found = locked_gpu(wanted, environment("torch 2.5.1+cu124"), TABLES)
    assert found == LockedGpu(
        cuda=">=12.2",
        architectures=("7.0", "9.0"),
        toolkit="12.4",
        found_in=("torch 2.5.1+cu124",),
        least_cuda="12.0",
        least_driver="525",
        full_driver="550.54.14",
        last_driver="580",
    )


def test_without_a_package_the_manifest_s_lowest_version_stands() -> None:
    found = locked_gpu(GpuSection(cuda=">=11.8,<13"), environment(), TABLES)
    assert (found.toolkit, found.least_cuda, found.full_driver) == (None, "11.0", "520.61.05")
    assert locked_gpu(GpuSection(cuda="<13"), environment(), TABLES).least_cuda is None
    assert lowest_allowed("12.4") == (12, 4)
    assert lowest_allowed("~=12.2") == (12, 2)
    assert lowest_allowed("<13") is None


@pytest.mark.parametrize(
    ("wanted", "packages"),
    [
        (GpuSection(cuda=">=12.2,<13"), "nvidia-cuda-runtime 13.0.48"),
        (GpuSection(cuda="<12"), "cupy-cuda12x 13.3.0"),
        (GpuSection(cuda=">=12", architectures=("7.0",)), "jax-cuda13-plugin 0.8.0"),
        (GpuSection(cuda=">=11", architectures=("10.0",)), "torch 2.5.1+cu124"),
    ],
)
def test_contradictions(wanted: GpuSection, packages: str) -> None:
    with pytest.raises(AfenvError) as caught:
        locked_gpu(wanted, environment(packages), TABLES)
    assert caught.value.code == "E115"


def test_an_older_toolkit_is_no_contradiction() -> None:
    assert locked_gpu(GpuSection(cuda=">=12.2"), environment("torch 2.0.1+cu118"), TABLES).toolkit == "11.8"
    assert locked_gpu(GpuSection(cuda="12"), environment("torch 2.5.1+cu124"), TABLES).toolkit == "12.4"


def test_variables_of_the_image() -> None:
    gpu = LockedGpu(cuda=">=12", toolkit="12.4", least_cuda="12.0")
    assert nvidia_variables(None) == {}
    assert nvidia_variables(gpu) == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.0",
    }
    optional = LockedGpu(cuda=">=12", toolkit="12.4", least_cuda="12.0", optional=True)
    assert "NVIDIA_REQUIRE_CUDA" not in nvidia_variables(optional)
    below = {
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.4 brand=tesla,driver>=470",
        "NVIDIA_VISIBLE_DEVICES": "0",
        "A": "b",
    }
    assert on_base(None, below) == below
    assert on_base(gpu, below) == {
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.0",
        "NVIDIA_VISIBLE_DEVICES": "0",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "A": "b",
    }
    unknown = LockedGpu(cuda=">=12", least_cuda="12.0")  # the base's own toolkit: its maker knows better
    assert on_base(unknown, below)["NVIDIA_REQUIRE_CUDA"].startswith("cuda>=12.4")


def test_the_lock_keeps_it() -> None:
    import json

    text = json.dumps(
        {
            "afenv-lock": 1,
            "assembly-version": 1,
            "name": "x",
            "version": "1",
            "environments": {
                "default": {
                    "request": "sha256:" + "0" * 64,
                    "platform": "linux/amd64",
                    "as-of": "2026-01-01T00:00:00Z",
                    "gpu": {"cuda": ">=12", "toolkit": "12.4", "found-in": ["a 1"], "least-driver": "525"},
                }
            },
        }
    ).encode()
    lock = parse_lock(text, "afenv.lock")
    gpu = lock.environments["default"].gpu
    assert gpu is not None and gpu.least_driver == "525" and gpu.found_in == ("a 1",)
    assert parse_lock(dump_lock(lock), "again") == lock


def test_the_lowest_architecture_is_a_virtual_package() -> None:
    found = virtual_packages("linux-64", (2, 36), "12.2", {}, ("9.0", "10.0", "8.6"))
    assert (found["__cuda"], found["__cuda_arch"]) == ("12.2", "8.6")
    assert "__cuda_arch" not in virtual_packages("linux-64", (2, 36), "12.2", {})
    assert "__cuda_arch" not in virtual_packages("linux-64", (2, 36), None, {}, ("8.6",))
    stated = virtual_packages("linux-64", (2, 36), "12.2", {"__cuda_arch": "7.5"}, ("8.6",))
    assert stated["__cuda_arch"] == "7.5"


def test_a_lock_of_before_stays_as_it_is() -> None:
    wanted = Environment(gpu=GpuSection(cuda=">=12"))
    conda, wheels = environment("conda:cuda-version 12.4"), environment("torch 2.5.1+cu124")
    assert gpu_fits(conda, wanted) and with_gpu(conda, wanted) is conda
    assert not gpu_fits(wheels, wanted)
    new = with_gpu(wheels, wanted)
    assert new.gpu is not None and new.gpu.toolkit == "12.4" and gpu_fits(new, wanted)
    assert with_gpu(new, Environment()).gpu is None
    changed = Environment(gpu=GpuSection(cuda=">=12", optional=True))
    assert not gpu_fits(new, changed)


def test_the_need_of_an_image_without_its_lock() -> None:
    assert gpu_of_variables(["PATH=/bin"]) is None
    assert gpu_of_variables(["NVIDIA_VISIBLE_DEVICES=void"]) is None
    theirs = gpu_of_variables(["CUDA_VERSION=12.4.1", "NVIDIA_VISIBLE_DEVICES=all"])
    assert theirs is not None and (theirs.toolkit, theirs.least_driver) == ((12, 4), (525,))
    ours = gpu_of_variables(["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=12.0"], ours=True)
    assert ours is not None and ours.least_driver == (525, 60, 13) and not ours.optional
    optional = gpu_of_variables(["NVIDIA_VISIBLE_DEVICES=all"], ours=True)
    assert optional is not None and optional.optional


def test_a_number_without_end_is_a_large_one() -> None:
    assert version("550.54." + "1" * 5000) == (550, 54, 111_111_111)
