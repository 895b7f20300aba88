"""The driver window of an environment: what its toolkit needs, and what its oldest GPU has at most. Pure.

Sources are named in ``specs/cuda.toml``. Minor-version compatibility lowers the floor: a toolkit of a major
version runs on the first driver of that major version, with a limited feature set; compiling PTX needs the
toolkit's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from afenv.documents.cuda import CudaTables, Version, dotted, driver_text, version
from afenv.documents.lock import LockedEnvironment, LockedGpu
from afenv.documents.manifest import GpuSection
from afenv.errors import AfenvError
from afenv.facility.toolkit import find_toolkit, needed_cuda
from afenv.record import record

CHOOSE = "Change gpu.cuda, or the packages that bring CUDA."


@record
class Window:
    """The drivers that will do.

    ``cuda`` is the oldest version of CUDA that a driver may have, ``least`` the first driver; ``full`` is the
    first with the toolkit's full feature set; ``last`` the last branch for the oldest architecture. None is
    not known, and no limit for ``last``.
    """

    cuda: Version
    least: Version | None
    full: Version | None
    last: int | None = None


def driver_window(
    toolkit: Version, architectures: Sequence[Version], tables: CudaTables, needed: Version | None = None
) -> Window:
    """The window of a toolkit for GPUs of some compute capabilities.

    ``needed`` is a version of CUDA that packages ask of the driver, compatibility or not.
    """
    compatible = toolkit[0] in tables.minor_version
    cuda = (toolkit[0], 0) if compatible or len(toolkit) == 1 else toolkit[:2]
    least = tables.least_driver(toolkit)
    if needed is not None and needed > cuda:
        cuda, least = needed, max(least or (), tables.full_driver(needed) or ()) or None
    families = [tables.architecture(one) for one in architectures]
    ends = [family.last_driver for family in families if family and family.last_driver is not None]
    full = tables.full_driver(toolkit) if len(toolkit) > 1 else None
    return Window(cuda=cuda, least=least, full=full, last=min(ends, default=None))


def locked_gpu(wanted: GpuSection, environment: LockedEnvironment, tables: CudaTables) -> LockedGpu:
    """What the lock says of the GPU need: the toolkit found, and the driver window.

    Without a package that tells a toolkit, the lowest version that ``gpu.cuda`` allows stands for it. E115 if
    the packages bring a CUDA newer than the manifest allows, or one without a GPU that it names.
    """
    found = find_toolkit(environment)
    stated = lowest_allowed(wanted.cuda)
    if found is not None:
        _check_allowed(wanted, found.version, found.packages, stated)
    toolkit = found.version if found is not None else stated
    capabilities = [version(text) for text in wanted.architectures]
    if toolkit is None:
        return LockedGpu(cuda=wanted.cuda, architectures=wanted.architectures, optional=wanted.optional)
    _check_architectures(toolkit, capabilities, tables)
    window = driver_window(toolkit, capabilities, tables, needed_cuda(environment))
    return LockedGpu(
        cuda=wanted.cuda,
        architectures=wanted.architectures,
        optional=wanted.optional,
        toolkit=_text(found.version) if found is not None else None,
        found_in=found.packages if found is not None else (),
        least_cuda=dotted(window.cuda),
        least_driver=driver_text(window.least) if window.least else None,
        full_driver=driver_text(window.full) if window.full else None,
        last_driver=str(window.last) if window.last is not None else None,
    )


def _text(numbers: Version) -> str:
    return ".".join(map(str, numbers))


def lowest_allowed(text: str) -> Version | None:
    """The lowest version that ``gpu.cuda`` states, such as ``(12, 2)``; None if it states none."""
    from packaging.specifiers import SpecifierSet

    text = text.strip()
    allowed = SpecifierSet("==" + text if text[0].isdigit() else text)
    starts = [version(one.version)[:2] for one in allowed if one.operator in ("==", ">=", ">", "~=")]
    return max(((*start, 0)[:2] for start in starts), default=None)


def _check_allowed(
    wanted: GpuSection, toolkit: Version, packages: Sequence[str], stated: Version | None
) -> None:
    from packaging.specifiers import SpecifierSet

    text = wanted.cuda.strip()
    allowed = SpecifierSet("==" + text + ".*" if text[0].isdigit() else text)
    number = dotted(toolkit)
    newer = stated is None or toolkit > stated[: len(toolkit)]
    any_minor = [f"{toolkit[0]}.{minor}" for minor in range(20)] if len(toolkit) == 1 else [number]
    if newer and not any(allowed.contains(one) for one in any_minor):
        message = f"gpu.cuda is {wanted.cuda!r}, and {', '.join(packages)} brings CUDA {_text(toolkit)}"
        raise AfenvError("E115", message, path="gpu.cuda", remedy=CHOOSE)


def _check_architectures(toolkit: Version, capabilities: Sequence[Version], tables: CudaTables) -> None:
    for capability in capabilities:
        family = tables.architecture(capability)
        if family is None:
            continue
        what = f"{dotted(capability)} ({family.name})"
        if family.ended_before(toolkit):
            last = _text(family.last or ())
            message = (
                f"gpu.architectures names {what}, which CUDA {_text(toolkit)} no longer has; {last} had it"
            )
            raise AfenvError("E115", message, path="gpu.architectures")
        if family.first is not None and toolkit < family.first[: len(toolkit)]:
            message = f"gpu.architectures names {what}, which begins with CUDA {_text(family.first)}"
            message += f"; the packages bring {_text(toolkit)}"
            raise AfenvError("E115", message, path="gpu.architectures")
