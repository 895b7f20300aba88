"""Rules about GPUs: driver window, architectures, PTX, forward compatibility. Pure.

======================== ============================================================================
``gpu``                   an environment whose GPU is not optional needs one
``gpu.driver``            CUDA Toolkit release notes: the first driver of each toolkit; CUDA Compatibility
                         guide, minor-version compatibility: the first driver of the major version
``gpu.features``          the same guide: between the two, with a limited feature set
``gpu.forward``           the same guide, forward compatibility: cuda-compat on data-center GPUs
``gpu.architecture``      CUDA Toolkit, Driver, and Architecture Matrix: first and last toolkit of each
``gpu.binary``            CUDA programming guide: machine code runs on its own major compute capability, at
                         the same or a higher minor one; ``a`` on that one alone, ``f`` in its family
``gpu.ptx``               PTX is compiled by the driver for newer GPUs; a driver older than the compiler
                         that made it refuses it (error 222)
======================== ============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

from afenv.documents.cuda import Version, cuda_tables, dotted, driver_text, version
from afenv.documents.facility import FacilityProfile, Gpu
from afenv.facility.needs import GpuCode, GpuNeed, Needs
from afenv.facility.reason import Outcome, Reason, worst
from afenv.record import replace


def gpu_reasons(needs: Needs, facility: FacilityProfile) -> list[Reason]:
    """What there is to say of the GPUs: of the kind that fits best; of all if none does."""
    need = needs.gpu
    if need is None:
        return []
    if facility.gpus is None:
        return [Reason(rule="gpu", outcome="unknown", message="whether the facility has GPUs is not known")]
    if not facility.gpus:
        outcome: Outcome = "degraded" if need.optional else "cannot"
        message = "there is no GPU" + ("; it runs without" if need.optional else ", which it needs")
        remedy = "" if need.optional else "Choose a facility with GPUs, or make the GPU optional."
        return [Reason(rule="gpu", outcome=outcome, message=message, remedy=remedy)]
    found = [list(_of(gpu, need)) for gpu in facility.gpus]
    best = min(found, key=worst)
    if worst(best) == 3:
        best = list(dict.fromkeys(one for some in found for one in some if one.outcome == "cannot"))
        if need.optional:
            best = [
                replace(one, outcome="degraded", message=f"{one.message}; it runs without") for one in best
            ]
    return best


def _name(gpu: Gpu) -> str:
    return gpu.model or (f"the GPU of {gpu.compute_capability}" if gpu.compute_capability else "the GPU")


def _of(gpu: Gpu, need: GpuNeed) -> Iterator[Reason]:
    driver = version(gpu.driver) if gpu.driver else None
    tables = cuda_tables()
    if driver is None and gpu.cuda:
        driver = tables.full_driver(version(gpu.cuda))
    yield from _driver(gpu, need, driver)
    yield from _architecture(gpu, need, driver)


def _toolkit(need: GpuNeed) -> str:
    return f"CUDA {'.'.join(map(str, need.toolkit))}" if need.toolkit else "its CUDA"


def _driver(gpu: Gpu, need: GpuNeed, driver: Version | None) -> Iterator[Reason]:
    what = _toolkit(need)
    if driver is None:
        message = f"{_name(gpu)}: the driver is not known"
        yield Reason(rule="gpu.driver", outcome="unknown", message=message)
        return
    if need.least_driver is None:
        message = f"which driver {what} needs is not known"
        yield Reason(rule="gpu.driver", outcome="unknown", message=message)
        return
    shown = f"driver {gpu.driver}" if gpu.driver else f"a driver of CUDA {gpu.cuda}"
    if driver < need.least_driver:
        message = f"{_name(gpu)} has {shown}; {what} needs {driver_text(need.least_driver)} or newer"
        if need.compatibility and gpu.data_center:
            yield Reason(
                rule="gpu.forward",
                outcome="unknown",
                message=f"{message}. The image has a forward-compatibility package and it is a data-center "
                "GPU; for which drivers that works is not known here",
            )
            return
        remedy = f"Ask for a newer driver, or lock a CUDA that {shown} runs"
        older = cuda_tables().cuda_of_driver(driver)
        remedy += f", such as {dotted(older)}." if older else "."
        if gpu.data_center:
            remedy += " On data-center GPUs a cuda-compat package may do."
        yield Reason(rule="gpu.driver", outcome="cannot", message=message, remedy=remedy)
    elif need.full_driver is not None and driver < need.full_driver:
        yield Reason(
            rule="gpu.features",
            outcome="degraded",
            message=f"{_name(gpu)} has {shown}; {what} runs by minor-version compatibility, with less "
            f"than from {driver_text(need.full_driver)} on",
            remedy="Nothing, unless a feature is missed.",
        )


def runs_on(code: GpuCode, capability: Version) -> bool:
    """Whether machine code, or PTX once compiled, runs on a GPU of a compute capability."""
    if code.variant == "a":
        return code.capability == capability
    if code.kind == "cubin" or code.variant == "f":
        return code.capability[0] == capability[0] and code.capability <= capability
    return code.capability <= capability


def _architecture(gpu: Gpu, need: GpuNeed, driver: Version | None) -> Iterator[Reason]:
    if gpu.compute_capability is None:
        message = f"{_name(gpu)}: the compute capability is not known"
        yield Reason(rule="gpu.architecture", outcome="unknown", message=message)
        return
    capability = version(gpu.compute_capability)
    family = cuda_tables().architecture(capability)
    what = f"{_name(gpu)} ({gpu.compute_capability})"
    if family is None and need.code is None:
        message = f"{what}: the tables do not have this compute capability"
        yield Reason(rule="gpu.architecture", outcome="unknown", message=message)
    if need.toolkit and family is not None and family.ended_before(need.toolkit):
        yield Reason(
            rule="gpu.architecture",
            outcome="cannot",
            message=f"{_toolkit(need)} has nothing for {what}: {family.name} ends with CUDA "
            f"{'.'.join(map(str, family.last or ()))}",
            remedy=f"Lock CUDA {'.'.join(map(str, family.last or ()))} or older, or use a newer GPU.",
        )
        return
    if need.code is None:
        yield from _declared(need, capability, what)
        return
    if not need.code:
        message = f"no file holds code for GPUs; what is compiled for {what} as it runs is not known"
        yield Reason(rule="gpu.binary", outcome="unknown", message=message)
        return
    yield from _lacking(need, capability, what)
    if any(code.kind == "cubin" and runs_on(code, capability) for code in need.code):
        return
    if any(code.kind == "ptx" and runs_on(code, capability) for code in need.code):
        yield from _compiled(need, driver, what)
        return
    yield Reason(
        rule="gpu.binary",
        outcome="cannot",
        message=f"the image has no code for {what}; it has {', '.join(map(str, need.code))}",
        remedy="Build with this architecture, or choose packages that have it.",
    )


def _lacking(need: GpuNeed, capability: Version, what: str) -> Iterator[Reason]:
    """Files without code for a GPU, where others have some."""
    lacking = [path for path, codes in need.files if not any(runs_on(code, capability) for code in codes)]
    if lacking and len(lacking) < len(need.files):
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        yield Reason(
            rule="gpu.binary",
            outcome="degraded",
            message=f"no code for {what} is in {', '.join(lacking[:3])}{more}; what uses it fails",
            remedy="Choose packages with this architecture, if the analysis uses these.",
        )


def _declared(need: GpuNeed, capability: Version, what: str) -> Iterator[Reason]:
    """Without the binaries: what the manifest says that they are for."""
    for declared in need.architectures:
        if runs_on(GpuCode(kind="cubin", capability=declared), capability):
            return
    if need.architectures:
        names = ", ".join(map(dotted, need.architectures))
        message = f"the manifest names {names}; whether there is PTX for {what} is not known"
    else:
        message = f"which architectures the binaries hold is not known, {what} or others"
    remedy = "Check the OCI image: its binaries are read."
    yield Reason(rule="gpu.binary", outcome="unknown", message=message, remedy=remedy)


def _compiled(need: GpuNeed, driver: Version | None, what: str) -> Iterator[Reason]:
    if driver is None or need.full_driver is None:
        message = f"{what} runs compiled PTX only; whether the driver is as new as its compiler is not known"
        yield Reason(rule="gpu.ptx", outcome="unknown", message=message)
    elif driver < need.full_driver:
        yield Reason(
            rule="gpu.ptx",
            outcome="cannot",
            message=f"{what} would need PTX compiled, which the driver refuses: {_toolkit(need)} "
            f"has driver {driver_text(need.full_driver)} (error 222)",
            remedy="Ask for a newer driver, or build with machine code for this GPU.",
        )
    else:
        yield Reason(
            rule="gpu.ptx",
            outcome="degraded",
            message=f"there is no machine code for {what}: PTX is compiled at the first start",
            remedy="Build with machine code for this GPU.",
        )
