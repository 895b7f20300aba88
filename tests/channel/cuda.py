"""CUDA's runtime under conda-forge's names, from the wheel that NVIDIA publishes on PyPI."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from packages import File, Package

WHEEL = "nvidia-cuda-runtime-cu12"


def cuda_packages(wheel: Path, version: str) -> Iterator[Package]:
    """The runtime library, and the package that ties it to a driver."""
    major, number = version.split(".")[:2]
    minor = f"{major}.{number}"
    yield Package(
        name="cuda-version",
        version=minor,
        noarch="generic",
        constrains=(f"cudatoolkit {minor}|{minor}.*", "__cuda >=12"),
    )
    files = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            folder, _, file_name = name.rpartition("/")
            if folder == "nvidia/cuda_runtime/lib" and ".so." in file_name:
                files.append(File(path=f"lib/{file_name}", content=archive.read(name), mode=0o755))
                target = f"lib{file_name.removeprefix('lib').split('.so')[0]}.so.{version}"
                files.append(File(path=f"lib/{target}", kind="symlink", target=file_name))
    assert files, "the wheel of CUDA's runtime has changed"
    yield Package(
        name="cuda-cudart",
        version=version,
        subdir="linux-64",
        license="LicenseRef-NVIDIA-End-User-License-Agreement",
        depends=("__glibc >=2.17,<3.0.a0", f"cuda-version >={minor},<{major}.{int(number) + 1}.0a0"),
        files=tuple(files),
    )
