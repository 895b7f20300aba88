"""Rules about the machine: architecture, processor level, kernel, vsyscall. Pure.

========================== =========================================================================
``architecture``            OCI image-spec, config.md: a container runs on its ``architecture``
                           32-bit programs need a kernel with CONFIG_IA32_EMULATION
``cpu-level``               x86-64 psABI, micro-architecture levels: a higher one has instructions that
                           a lower one ends with SIGILL; ELF's GNU_PROPERTY_X86_ISA_1_NEEDED
``kernel``                  ELF NT_GNU_ABI_TAG: the C library ends with "FATAL: kernel too old"
``vsyscall``                Linux, kernel-parameters.txt: ``vsyscall=none`` ends programs that call the
                           page, as those of a C library before 2.15 do
========================== =========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

from afenv.documents.cuda import dotted, version
from afenv.documents.facility import LEVELS, FacilityProfile
from afenv.facility.needs import Needs
from afenv.facility.reason import Reason

VSYSCALL_FREE = (2, 15)  # the first C library whose programs do not call the vsyscall page


def machine_reasons(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    """What the machine itself lacks."""
    if needs.architecture is None:
        yield Reason(rule="architecture", outcome="unknown", message="the image does not say for which it is")
    elif facility.architecture is None:
        yield Reason(
            rule="architecture", outcome="unknown", message="the facility's architecture is not known"
        )
    elif (needs.architecture, facility.architecture) == ("386", "amd64"):
        yield Reason(
            rule="architecture",
            outcome="unknown",
            message="the image is for 32 bits; whether the machines' kernels run such programs is not known",
            remedy=f"Try it there; where it does not run, boot it in a virtual machine: {_machine(needs)}.",
        )
    elif needs.architecture != facility.architecture:
        yield Reason(
            rule="architecture",
            outcome="cannot",
            message=f"the image is for {needs.architecture}, the machines are {facility.architecture}",
            remedy=f"Build it with `platform: linux/{facility.architecture}`, or let QEMU emulate the "
            f"processor: {_machine(needs)}.",
        )
        return
    if needs.architecture == "amd64":
        yield from _level(needs, facility)
        yield from _vsyscall(needs, facility)
    yield from _kernel(needs, facility)


def _machine(needs: Needs) -> str:
    """The command that makes or boots a virtual machine."""
    return "`afenv restore --to vm`" if needs.in_bag else "`afenv run --vm`"


def _level(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    have = facility.cpu.level if facility.cpu else None
    if needs.level is None:
        if have not in LEVELS[-1:]:
            message = "which processor level the image needs is not known"
            remedy = "Check the OCI image: its files may declare it."
            yield Reason(rule="cpu-level", outcome="unknown", message=message, remedy=remedy)
    elif needs.level > 1 and have is None:
        message = f"the image needs x86-64-v{needs.level}; the processors' level is not known"
        yield Reason(rule="cpu-level", outcome="unknown", message=message)
    elif have is not None and needs.level > LEVELS.index(have) + 1:
        because = f" ({needs.level_of})" if needs.level_of else ""
        yield Reason(
            rule="cpu-level",
            outcome="cannot",
            message=f"the image needs x86-64-v{needs.level}{because}, the processors are {have}",
            remedy="Build it on a base, or with packages, for the lower level, or ask for newer processors.",
        )


def _vsyscall(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    if needs.glibc is None:
        return
    if needs.glibc >= VSYSCALL_FREE:
        return
    what = f"the image's C library {dotted(needs.glibc)} is older than 2.15 and calls the vsyscall page"
    state = facility.kernel.vsyscall if facility.kernel else None
    if state is None:
        yield Reason(
            rule="vsyscall", outcome="unknown", message=f"{what}; how the kernel treats it is not known"
        )
    elif state == "none":
        yield Reason(
            rule="vsyscall",
            outcome="cannot",
            message=f"{what}, which the kernel does not have",
            remedy=f"Boot it in a virtual machine: {_machine(needs)}; or ask for the kernel parameter "
            "vsyscall=emulate.",
        )


def _kernel(needs: Needs, facility: FacilityProfile) -> Iterator[Reason]:
    if needs.kernel is None:
        return
    release = facility.kernel.release if facility.kernel else None
    if release is None:
        message = f"the image needs Linux {dotted(needs.kernel)}; the kernel is not known"
        yield Reason(rule="kernel", outcome="unknown", message=message)
    elif version(release) < needs.kernel:
        yield Reason(
            rule="kernel",
            outcome="cannot",
            message=f"the image's C library needs Linux {dotted(needs.kernel)}, the kernel is {release}",
            remedy="Build it on an older base.",
        )
