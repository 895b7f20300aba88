"""A facility's profile in words."""

from __future__ import annotations

from collections.abc import Iterator

from afenv.documents.facility import FacilityProfile, Gpu
from afenv.progress import counted, human_size

NEEDED = ("architecture", "cpu", "kernel", "glibc", "user_namespaces", "runtimes", "cvmfs", "gpus", "network")


def not_known(profile: FacilityProfile) -> list[str]:
    """What a verdict may need and the profile does not say."""
    found = [name.replace("_", "-") for name in NEEDED if getattr(profile, name) is None]
    if profile.cpu is not None and profile.cpu.level is None and profile.architecture in (None, "amd64"):
        found.append("cpu.level")
    if profile.kernel is not None and profile.kernel.vsyscall is None and profile.architecture == "amd64":
        found.append("kernel.vsyscall")
    for index, gpu in enumerate(profile.gpus or ()):
        found += [
            f"gpus[{index}].{key.replace('_', '-')}"
            for key in ("compute_capability", "driver")
            if getattr(gpu, key) is None
        ]
    if not any(place.free is not None for place in profile.storage or ()):
        found.append("storage")
    return found


def describe(profile: FacilityProfile) -> str:
    """The profile for people, one line for each thing."""
    return "\n".join(_lines(profile))


def _lines(profile: FacilityProfile) -> Iterator[str]:
    yield profile.name + (f": {profile.description}" if profile.description else "")
    cpu, kernel = profile.cpu, profile.kernel
    level = (cpu.level if cpu else None) or profile.architecture
    cores = f", {counted(cpu.cores, 'core')}" if cpu and cpu.cores else ""
    yield f"  processors   {level or 'not known'}{cores}"
    release = (kernel.release if kernel else None) or "not known"
    vsyscall = f", vsyscall {kernel.vsyscall}" if kernel and kernel.vsyscall else ""
    yield f"  kernel       {release}{vsyscall}; C library {profile.glibc or 'not known'}"
    runtimes = [" ".join(filter(None, (one.name, one.version))) for one in profile.runtimes or ()]
    yield f"  runtimes     {_listed(profile.runtimes, runtimes)}"
    repositories = profile.cvmfs.repositories if profile.cvmfs else None
    names = [
        one.name + (f" r{one.revision}" if one.revision is not None else "") for one in repositories or ()
    ]
    others = ", others too" if profile.cvmfs and profile.cvmfs.others else ""
    yield f"  CVMFS        {_listed(repositories, names)}{others}"
    yield f"  GPUs         {_listed(profile.gpus, [_gpu(gpu) for gpu in profile.gpus or ()])}"
    hosts = f": {', '.join(profile.hosts)}" if profile.hosts else ""
    yield f"  network      {profile.network or 'not known'}{hosts}"
    for proxy in profile.data_proxies or ():
        yield f"  data         {proxy.prefix}… by way of {proxy.replacement}…"
    for place in profile.storage or ():
        free = human_size(place.free) + " free" if place.free is not None else "not known"
        yield f"  {place.purpose:<12} {place.path}, {free}"
    if profile.jupyterhub:
        yield f"  JupyterHub   {profile.jupyterhub.version}"


def _listed(value: object, words: list[str]) -> str:
    return "not known" if value is None else ", ".join(words) or "none"


def _gpu(gpu: Gpu) -> str:
    count = f"{gpu.count} × " if gpu.count and gpu.count > 1 else ""
    parts = [
        f"compute capability {gpu.compute_capability or 'not known'}",
        f"driver {gpu.driver or 'not known'}",
    ]
    return f"{count}{gpu.model or 'GPU'} ({', '.join(parts)})"
