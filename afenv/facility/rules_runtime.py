"""Rules about container runtimes: which of the facility's runs the image. Pure.

============================ ========================================================================
``runtime``                   a facility that starts no containers runs no image
``runtime.form``              Docker, Podman, containerd and CRI-O take OCI images, not SIFs
``runtime.zstd``              Docker before 23 and containerd before 1.5 read no layers in zstd
``runtime.layers``            Docker 20.10 loads 125 layers, Podman mounts 128, containerd 127
``runtime.user-namespaces``   user_namespaces(7): rootless runtimes need them
``runtime.kernel``            overlayfs: mounts by users come with Linux 5.11
``runtime.gpu``               engines show GPUs only with NVIDIA's container toolkit or CDI
``runtime.nv-glibc``          Apptainer, ``--nv``: the host's driver libraries are shown to the image, whose C
                             library has to be as new as they need
``disk``                      an image has to fit where the runtime keeps it
============================ ========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

from afenv.documents.cuda import dotted, version
from afenv.documents.facility import FacilityProfile, FacilityRuntime
from afenv.facility.needs import Needs
from afenv.facility.reason import Outcome, Reason, worst
from afenv.progress import human_size

MOST_LAYERS = {"docker": 125, "podman": 128, "containerd": 127}
FIRST_ZSTD = {"docker": (23,), "containerd": (1, 5)}
OVERLAY_BY_USERS = (5, 11)
_SIF = ("apptainer", "singularity")


def runtime_reasons(needs: Needs, facility: FacilityProfile) -> tuple[str | None, list[Reason]]:
    """The runtime to use, and what there is to say of it; of all of them if none will do."""
    if facility.runtimes is None:
        return None, [Reason(rule="runtime", outcome="unknown", message="the runtimes are not known")]
    if not facility.runtimes:
        remedy = "Ask for Apptainer or Podman, or for user namespaces."
        return None, [
            Reason(
                rule="runtime", outcome="cannot", message="the facility starts no containers", remedy=remedy
            )
        ]
    found = [(runtime, list(_of(runtime, needs, facility))) for runtime in facility.runtimes]
    best, reasons = min(found, key=lambda one: worst(one[1]))
    if worst(reasons) < 3:
        return best.name, reasons
    return None, [reason for _, some in found for reason in some if reason.outcome == "cannot"]


def _of(runtime: FacilityRuntime, needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    name, number = runtime.name, version(runtime.version) if runtime.version else None
    takes_sif = name in _SIF
    shown = f"{name} {runtime.version}" if runtime.version else name
    if not takes_sif and "oci" not in needs.forms:
        message, remedy = f"{name} takes no SIF", "Build or push the image as OCI as well."
        yield Reason(rule="runtime.form", outcome="cannot", message=message, remedy=remedy)
    if "zstd" in needs.compression and name in FIRST_ZSTD:
        first = FIRST_ZSTD[name]
        if number is None:
            message = f"the image has layers in zstd; the version of {name} is not known"
            yield Reason(rule="runtime.zstd", outcome="unknown", message=message)
        elif number < first:
            message = f"{shown} reads no layers in zstd; {'.'.join(map(str, first))} is the first that does"
            remedy = "Build the image with layers in gzip."
            yield Reason(rule="runtime.zstd", outcome="cannot", message=message, remedy=remedy)
    most = MOST_LAYERS.get(name)
    if most is not None and needs.layers is not None and needs.layers > most:
        message = f"the image has {needs.layers} layers, {name} takes {most}"
        remedy = "Build the image with fewer layers, or as a SIF."
        yield Reason(rule="runtime.layers", outcome="cannot", message=message, remedy=remedy)
    yield from _namespaces(runtime, facility)
    if needs.gpu is not None and facility.gpus != ():
        yield from _gpu(runtime, needs, facility)
    if not (takes_sif and lies_on_cvmfs(needs, facility)):
        yield from _disk(takes_sif, needs, facility)


def lies_on_cvmfs(needs: Needs, facility: FacilityProfile) -> bool:
    """Whether the image lies unpacked in a CVMFS repository that is mounted there: nothing is transferred."""
    name = needs.unpacked_at.split("/")[2] if needs.unpacked_at else ""
    mounted = (facility.cvmfs.repositories if facility.cvmfs else None) or ()
    return any(one.name == name for one in mounted)


def _namespaces(runtime: FacilityRuntime, facility: FacilityProfile) -> Iterator[Reason]:
    if not (runtime.rootless or runtime.name == "userns"):
        return
    if facility.user_namespaces is None:
        message = f"{runtime.name} needs user namespaces, of which nothing is known"
        yield Reason(rule="runtime.user-namespaces", outcome="unknown", message=message)
    elif not facility.user_namespaces:
        message = f"{runtime.name} needs user namespaces, which users cannot make"
        remedy = "Ask the administrator to allow them, or for Apptainer with set-user-ID."
        yield Reason(rule="runtime.user-namespaces", outcome="cannot", message=message, remedy=remedy)
    if runtime.name != "userns":
        return
    release = facility.kernel.release if facility.kernel else None
    if release is None:
        message = "a plain user namespace needs Linux 5.11; the kernel is not known"
        yield Reason(rule="runtime.kernel", outcome="unknown", message=message)
    elif version(release)[:2] < OVERLAY_BY_USERS:
        message = f"a plain user namespace needs Linux 5.11, the kernel is {release}"
        remedy = "Use Apptainer or Podman there."
        yield Reason(rule="runtime.kernel", outcome="cannot", message=message, remedy=remedy)


def _gpu(runtime: FacilityRuntime, needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    assert needs.gpu is not None
    without: Outcome = "degraded" if needs.gpu.optional else "cannot"
    if runtime.gpu is False:
        message = f"{runtime.name} shows no GPU there"
        remedy = "Ask for NVIDIA's container toolkit or its CDI files, or use Apptainer."
        yield Reason(rule="runtime.gpu", outcome=without, message=message, remedy=remedy)
    elif runtime.gpu is None and runtime.name not in _SIF:
        message = f"whether {runtime.name} can show GPUs is not known"
        yield Reason(rule="runtime.gpu", outcome="unknown", message=message)
    if runtime.name in (*_SIF, "userns") and runtime.gpu is not False:
        yield from _nv_glibc(runtime.name, needs, facility)


def _nv_glibc(name: str, needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    needed = {gpu.driver_glibc for gpu in facility.gpus or () if gpu.driver_glibc}
    if needs.glibc is None:
        message = f"{name} shows the host's driver libraries; the image's C library is not known"
        yield Reason(rule="runtime.nv-glibc", outcome="unknown", message=message)
    elif needed:
        newest = max(needed, key=version)
        if version(newest) > needs.glibc:
            message = (
                f"the driver's libraries, which {name} shows to the image, need glibc {newest}, "
                f"the image has {dotted(needs.glibc)}"
            )
            remedy = "Build it on a base with a C library at least as new."
            outcome: Outcome = "degraded" if needs.gpu and needs.gpu.optional else "cannot"
            yield Reason(rule="runtime.nv-glibc", outcome=outcome, message=message, remedy=remedy)
    elif facility.glibc is None:
        message = f"{name} shows the host's driver libraries; what C library they need is not known"
        yield Reason(rule="runtime.nv-glibc", outcome="unknown", message=message)
    elif version(facility.glibc)[:2] > needs.glibc[:2]:
        message = (
            f"{name} shows the host's driver libraries, made for glibc {facility.glibc} at most; "
            f"the image has {dotted(needs.glibc)}, and which version they need is not known"
        )
        remedy = "Probe the facility on a machine with a GPU: `afenv facility probe` reads what they need."
        yield Reason(rule="runtime.nv-glibc", outcome="degraded", message=message, remedy=remedy)


def _disk(takes_sif: bool, needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    if needs.size is None:
        return
    wanted = needs.size + (0 if takes_sif else needs.unpacked or 0)
    places = [place for place in facility.storage or () if place.purpose == "images"]
    known = [place for place in places if place.free is not None]
    if not known:
        message = f"the image needs {human_size(wanted)}; the free space is not known"
        yield Reason(rule="disk", outcome="unknown", message=message)
        return
    roomiest = max(known, key=lambda place: place.free or 0)
    if (roomiest.free or 0) < wanted:
        message = (
            f"the image needs {human_size(wanted)}, {roomiest.path} has {human_size(roomiest.free or 0)}"
        )
        remedy = "Free space there, use a SIF, or run from CVMFS."
        yield Reason(rule="disk", outcome="cannot", message=message, remedy=remedy)
