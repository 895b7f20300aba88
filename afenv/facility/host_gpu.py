"""The NVIDIA GPUs of this machine, by the best way there is: NVML, ``nvidia-smi``, or the driver's files.

The last one tells model and driver only; what is not told stays not known.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from afenv.documents.facility import Gpu
from afenv.facility.elf import needed_glibc, read_elf
from afenv.facility.loader_cache import loader_cache
from afenv.record import replace

QUERY = ("name", "compute_cap", "driver_version", "memory.total")
PATIENCE = 30.0  # seconds that nvidia-smi may take; it loads the driver


def read_gpus(root: Path = Path("/")) -> tuple[Gpu, ...] | None:
    """The kinds of GPU here; empty if there is no driver, None if there is one that tells nothing."""
    if not (root / "proc/driver/nvidia/version").exists() and not (root / "dev/nvidiactl").exists():
        return () if not (root / "dev/dxg").exists() else None
    found = by_nvml() or by_nvidia_smi() or by_driver_files(root)
    needs = driver_glibc()
    return merged(replace(gpu, driver_glibc=needs) for gpu in found) if found else None


def merged(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """GPUs of one kind as one, with their count."""
    counted: dict[Gpu, int] = {}
    for gpu in gpus:
        one = replace(gpu, count=None)
        counted[one] = counted.get(one, 0) + (gpu.count or 1)
    return tuple(replace(gpu, count=count) for gpu, count in counted.items())


def by_nvml() -> list[Gpu]:
    """The GPUs as NVML lists them, if its binding (``nvidia-ml-py``) is installed and the driver answers."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_from_nvml(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _from_nvml(nvml: Any, number: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()  # 12040 is 12.4
    return Gpu(
        model=_text(nvml.nvmlDeviceGetName(handle)),
        compute_capability=f"{major}.{minor}",
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}",
        memory=nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def by_nvidia_smi(command: Sequence[str] | None = None) -> list[Gpu]:
    """The GPUs as ``nvidia-smi`` lists them."""
    path = shutil.which("nvidia-smi")
    command = command or ((path,) if path else None)
    if command is None:
        return []
    try:
        done = subprocess.run(
            (*command, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_smi(done.stdout) if done.returncode == 0 else []


def parse_smi(text: str) -> list[Gpu]:
    """The GPUs in what ``nvidia-smi --query-gpu`` prints; a field that is not as expected is not known."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(QUERY):
            continue
        name, capability, driver, memory = fields
        found.append(
            Gpu(
                model=name or None,
                compute_capability=capability if re.fullmatch(r"\d+\.\d+", capability) else None,
                driver=driver if re.fullmatch(r"\d+(\.\d+){1,2}", driver) else None,
                memory=int(memory) if memory.isdigit() and int(memory) else None,
            )
        )
    return found


def by_driver_files(root: Path = Path("/")) -> list[Gpu]:
    """The GPUs in ``/proc/driver/nvidia``: model and driver, nothing else."""
    folder = root / "proc/driver/nvidia"
    try:
        text = (folder / "version").read_text(errors="replace")
    except OSError:
        text = ""
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+){1,2})\s", text)
    driver = match[1] if match else None
    found = []
    for path in sorted((folder / "gpus").glob("*/information")):
        model = re.search(r"^Model:\s*(\S.*?)\s*$", path.read_text(errors="replace"), re.MULTILINE)
        found.append(Gpu(model=model[1] if model else None, driver=driver))
    return found


def driver_glibc(listing: str | None = None) -> str | None:
    """The newest glibc that the driver's libraries for programs need; None if they are not found.

    ``listing`` is what ``ldconfig -p`` prints.
    """
    if listing is None:
        listing = loader_cache()
    newest: tuple[int, ...] | None = None
    for path in re.findall(r"lib(?:cuda|nvidia-ml)\.so\.1 \(.*x86-64.*\) => (\S+)", listing):
        try:
            elf = read_elf(Path(path).read_bytes())
        except OSError:
            continue
        needed = needed_glibc(elf) if elf else None
        if needed:
            newest = max(newest or (), needed)
    return ".".join(map(str, newest)) if newest else None
