"""What is read of a machine, from files that are made here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from afenv.documents.facility import Gpu
from afenv.facility import host_gpu
from afenv.facility.describe import describe, not_known
from afenv.facility.elf import needed_glibc, needed_kernel, read_elf
from afenv.facility.host import LEVEL_FLAGS, cpu_level, free_space, read_cpu, read_cvmfs, vsyscall_of
from afenv.facility.host_gpu import (
    by_driver_files,
    by_nvidia_smi,
    by_nvml,
    driver_glibc,
    merged,
    parse_smi,
    read_gpus,
)
from afenv.facility.labels import gpu_of_labels, profile_of_nodes

V1, V2, V3, V4 = LEVEL_FLAGS
MAPS = "ffffffffff600000-ffffffffff601000 {} 00000000 00:00 0                  [vsyscall]\n"


def test_cpu_levels_are_those_of_the_psabi() -> None:
    assert cpu_level(frozenset()) is None
    assert cpu_level(V1) == "x86-64-v1"
    assert cpu_level(V1 | V2) == "x86-64-v2"
    assert cpu_level(V1 | V2 | V3) == "x86-64-v3"
    assert cpu_level(V1 | V2 | V3 | V4) == "x86-64-v4"
    assert cpu_level(V1 | V2 | V3 - {"movbe"}) == "x86-64-v2"
    assert cpu_level(V1 | V2 | V4) == "x86-64-v2"  # no level is skipped


def test_several_processors_have_what_all_have() -> None:
    def one(flags: frozenset[str], model: str) -> str:
        return f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {' '.join(flags)}\n\n"

    both = read_cpu(one(V1 | V2 | V3, "new") + one(V1 | V2, "old"), 2)
    assert (both.level, both.model, both.cores) == ("x86-64-v2", None, 2)
    assert read_cpu(one(V1, "same") * 2).model == "same"
    assert read_cpu("Features\t: fp asimd\n").level is None


def test_vsyscall() -> None:
    assert vsyscall_of(MAPS.format("--xp"), "quiet") == "xonly"
    assert vsyscall_of(MAPS.format("r-xp"), "") == "emulate"
    assert vsyscall_of(MAPS.format("r-xp"), "ro vsyscall=native") == "native"
    assert vsyscall_of("00400000-00401000 r-xp 00000000 00:00 0 /bin/cat\n", "") == "none"
    assert vsyscall_of("", "") is None


def test_cvmfs_mounts() -> None:
    mounts = (
        "/etc/auto.cvmfs /cvmfs autofs rw 0 0\n"
        "cvmfs2 /cvmfs/sft.cern.ch fuse ro,nosuid 0 0\n"
        "tmpfs /cvmfs-other tmpfs rw 0 0\n"
    )
    found = read_cvmfs(mounts)
    assert [one.name for one in found.repositories or ()] == ["sft.cern.ch"]
    assert found.others
    none = read_cvmfs("tmpfs /tmp tmpfs rw 0 0\n")
    assert none.repositories == () and not none.others


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    place = free_space(tmp_path / "a" / "b", "images")
    assert place is not None and place.free and place.path.endswith("/a/b")


def test_gpus_by_nvidia_smi() -> None:
    text = "NVIDIA H100 80GB HBM3, 9.0, 580.95.05, 81559\nTesla K80, [N/A], 470.82.01, [N/A]\nnonsense\n"
    assert parse_smi(text) == [
        Gpu(model="NVIDIA H100 80GB HBM3", compute_capability="9.0", driver="580.95.05", memory=81559),
        Gpu(model="Tesla K80", driver="470.82.01"),
    ]
    script = f"print({text!r})"
    assert len(by_nvidia_smi((sys.executable, "-c", script, "--"))) == 2
    assert by_nvidia_smi((sys.executable, "-c", "raise SystemExit(9)", "--")) == []
    assert by_nvidia_smi(("/there/is/none",)) == []


def test_gpus_by_the_driver_s_files_have_no_compute_capability(tmp_path: Path) -> None:
    folder = tmp_path / "proc/driver/nvidia"
    for number in (0, 1):
        (folder / f"gpus/0000:0{number}:00.0").mkdir(parents=True)
        (folder / f"gpus/0000:0{number}:00.0/information").write_text("Model: \t\t NVIDIA A100\nIRQ: 1\n")
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    )
    found = merged(by_driver_files(tmp_path))
    assert found == (Gpu(model="NVIDIA A100", driver="550.54.15", count=2),)
    (folder / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    )
    assert by_driver_files(tmp_path)[0].driver == "580.95.05"


def test_no_driver_is_no_gpu_and_a_silent_one_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_gpus(tmp_path) == ()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    monkeypatch.setattr(host_gpu, "by_nvml", list)
    monkeypatch.setattr(host_gpu, "by_nvidia_smi", list)
    assert read_gpus(tmp_path) is None


class _Nvml:
    """NVML as its binding shows it, on a machine with two GPUs of a kind."""

    class NVMLError(Exception):
        pass

    nvmlInit = nvmlShutdown = staticmethod(lambda: None)
    nvmlDeviceGetCount = staticmethod(lambda: 2)
    nvmlDeviceGetHandleByIndex = staticmethod(lambda number: number)
    nvmlDeviceGetCudaComputeCapability = staticmethod(lambda handle: (9, 0))
    nvmlSystemGetCudaDriverVersion_v2 = staticmethod(lambda: 12080)
    nvmlSystemGetDriverVersion = staticmethod(lambda: b"570.124.06")
    nvmlDeviceGetName = staticmethod(lambda handle: "NVIDIA H100")

    @staticmethod
    def nvmlDeviceGetMemoryInfo(handle: int) -> object:
        return type("Memory", (), {"total": 80 << 30})


def test_gpus_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _Nvml)  # type: ignore[arg-type]
    assert merged(by_nvml()) == (
        Gpu(
            model="NVIDIA H100",
            compute_capability="9.0",
            driver="570.124.06",
            cuda="12.8",
            memory=81920,
            count=2,
        ),
    )
    monkeypatch.setattr(_Nvml, "nvmlInit", staticmethod(lambda: (_ for _ in ()).throw(_Nvml.NVMLError())))
    assert by_nvml() == []


def test_what_a_library_needs_of_the_c_library() -> None:
    elf = read_elf(Path(sys.executable).resolve().read_bytes())
    assert elf is not None
    needed = needed_glibc(elf)
    assert needed is not None and needed >= (2, 2)
    said = subprocess.run(["objdump", "-p", sys.executable], capture_output=True, text=True, check=False)
    if said.returncode == 0:
        import re

        versions = [tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_([\d.]+)", said.stdout)]
        assert needed == max(versions)
    assert needed_kernel(elf) is None or needed_kernel(elf) >= (2, 6)  # type: ignore[operator]
    assert read_elf(b"\x7fELF") is None
    assert driver_glibc("nothing") is None


LABELS = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
    "nvidia.com/gpu.memory": "40960",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/cuda.driver-version.full": "550.54.15",
    "nvidia.com/cuda.runtime-version.full": "12.4",
    "kubernetes.io/arch": "amd64",
}


def test_labels_of_gpu_feature_discovery() -> None:
    gpu, remarks = gpu_of_labels(LABELS)
    assert gpu == Gpu(
        model="NVIDIA A100 SXM4 40GB",
        compute_capability="8.0",
        driver="550.54.15",
        cuda="12.4",
        memory=40960,
        count=4,
    )
    assert remarks == ()


def test_deprecated_labels() -> None:
    old = {key: value for key, value in LABELS.items() if "-version." not in key}
    old |= {
        f"nvidia.com/cuda.driver.{key}": value
        for key, value in (("major", "470"), ("minor", "82"), ("rev", "01"))
    }
    old |= {"nvidia.com/cuda.runtime.major": "11", "nvidia.com/cuda.runtime.minor": "4"}
    gpu, _ = gpu_of_labels(old)
    assert gpu is not None and (gpu.driver, gpu.cuda) == ("470.82.01", "11.4")


def test_labels_that_are_not_understood_are_said() -> None:
    gpu, remarks = gpu_of_labels(LABELS | {"nvidia.com/gpu.compute.major": "eight"})
    assert gpu is not None and gpu.compute_capability is None
    assert "nvidia.com/gpu.compute.major is 'eight', which is not understood" in remarks
    assert "no label tells the compute capability" in remarks


def test_nodes_of_kubernetes() -> None:
    def node(kernel: str, **labels: str) -> dict[str, object]:
        info = {
            "kernelVersion": kernel,
            "containerRuntimeVersion": "containerd://1.7.2",
            "architecture": "amd64",
        }
        return {"metadata": {"labels": labels}, "status": {"nodeInfo": info}}

    imported = profile_of_nodes("cluster", [node("5.15.0-91-generic", **LABELS), node("5.15.0-91-generic")])
    profile = imported.profile
    assert profile.architecture == "amd64"
    assert profile.kernel is not None and profile.kernel.release == "5.15.0-91-generic"
    assert profile.runtimes is not None and profile.runtimes[0].version == "1.7.2"
    assert profile.gpus is not None and len(profile.gpus) == 1
    other = profile_of_nodes("cluster", [node("5.15.0"), node("6.1.0")])
    assert other.profile.kernel is None and other.profile.gpus is None
    assert any("differ in their kernel" in remark for remark in other.remarks)


def test_none_is_not_the_same_as_not_known() -> None:
    none = profile_of_nodes("n", [{"nvidia.com/gpu.present": "false"}]).profile
    assert none.gpus == ()
    assert "gpus" in not_known(profile_of_nodes("n", [{"kubernetes.io/arch": "amd64"}]).profile)
    assert "GPUs         none" in describe(none)
    assert "kernel       not known" in describe(none)
