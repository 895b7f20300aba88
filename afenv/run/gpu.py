"""GPUs: whether the host has a driver, and what of it a plain user namespace has to show.

Engines and Apptainer bring NVIDIA's driver into a container themselves; the list for the user namespace is
that of Apptainer's ``nvliblist.conf`` in kind: libraries of the driver, its programs and its devices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from afenv.errors import AfenvError
from afenv.facility.loader_cache import loader_cache

LIBRARIES = "/run/nvidia/lib"  # in the container
_NAMES = r"lib(?:cuda|nvidia-[\w-]+|nvcuvid|nvoptix|cudadebugger)\.so\S*"
_LIBRARY = re.compile(rf"\s+{_NAMES} \(.*x86-64.*\) => (\S+)")
_PROGRAMS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")


def has_driver(root: Path = Path("/")) -> bool:
    """Whether this host has NVIDIA's driver (or the one of Windows' Linux subsystem)."""
    places = ("dev/nvidiactl", "proc/driver/nvidia/version", "dev/dxg")
    return any((root / place).exists() for place in places)


def wants_gpu(
    needed: bool, optional: bool, *, warn: Callable[[str], None], present: Callable[[], bool] = has_driver
) -> bool:
    """Whether the GPU goes into the container.

    ``needed`` says that the environment asks for one. Without a driver that is E505, or a warning if the
    GPU is ``optional``.
    """
    if not needed:
        return False
    if present():
        return True
    if not optional:
        raise AfenvError("E505", "the environment asks for a GPU, and this host has no NVIDIA driver")
    warn("the environment can use a GPU, and this host has no NVIDIA driver: it runs without")
    return False


def driver_files(root: Path = Path("/"), listing: str | None = None) -> dict[str, str]:
    """Devices, programs and libraries of the driver, with their places in the container.

    Libraries go into :data:`LIBRARIES`, since the image may look for its own elsewhere than the host does.
    ``listing`` is what ``ldconfig -p`` prints.
    """
    if listing is None:
        listing = loader_cache()
    devices = [f"/dev/{path.name}" for path in sorted((root / "dev").glob("nvidia*"))]
    devices += [f"/dev/{name}" for name in ("dxg", "dri") if (root / "dev" / name).exists()]
    programs = [f"/usr/bin/{name}" for name in _PROGRAMS if (root / "usr/bin" / name).exists()]
    libraries = sorted({match[1] for match in _LIBRARY.finditer(listing)})
    places = {path: path for path in (*devices, *programs)}
    return places | {path: f"{LIBRARIES}/{path.rpartition('/')[2]}" for path in libraries}
