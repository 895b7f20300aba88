"""The GPU code that a file holds: CUDA's fat binaries in ELF sections, and cubins. Pure.

NVIDIA does not document the form; what is read here is what the tools agree on. A section ``.nv_fatbin``
or ``__nv_relfatbin`` is a row of containers: magic 0xBA55ED50, version (u16), size of this header (u16),
size of what follows (u64). In it entries: kind (u16, 1 PTX, 2 cubin), version (u16), size of the header
(u32), size of the code with padding (u64), …, architecture (u32 at 28). The code may be compressed; the
header is not. A cubin is an ELF file for machine 190, whose flags have the architecture in their low byte, or
with ABI version 8 and later in the second one; 0x800 or 0x8 marks an architecture-specific (``a``) one (LLVM,
BinaryFormat/ELF.h). CUDA 13 marks it in a section ``.nv.compat`` instead: a row of attributes, of which
number 9 is 1 (seen in what ptxas 13.0 writes). A family-specific (``f``) cubin looks like a plain one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

from afenv.documents.cuda import Version
from afenv.facility.elf import CUDA, Elf, read_elf
from afenv.facility.needs import GpuCode

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQ")
_PTX, _CUBIN = 1, 2
_ARCHITECTURE_AT = 28
_NEW_ABI = 8
_TARGET = re.compile(rb"\.target\s+sm_(\d{2,3})([af]?)")


def gpu_code(elf: Elf) -> tuple[GpuCode, ...]:
    """The GPU code in a file, each kind once, sorted; empty if it has none."""
    if elf.machine == CUDA:
        return (_cubin(elf),)
    found = [
        code for section in elf.sections if section.name in SECTIONS for code in _codes(elf.content(section))
    ]
    return in_order(found)


def in_order(codes: Iterable[GpuCode]) -> tuple[GpuCode, ...]:
    """Each once: machine code first, by architecture."""
    return tuple(sorted(set(codes), key=lambda code: (code.kind, code.capability, code.variant)))


def has_gpu_code(elf: Elf) -> bool:
    """Whether the file has a section for GPU code at all."""
    return elf.machine == CUDA or any(section.name in SECTIONS for section in elf.sections)


def capability_of(number: int) -> Version | None:
    """``90`` as ``(9, 0)``; None for what is no architecture."""
    return (number // 10, number % 10) if 10 <= number < 1000 else None


def _codes(data: bytes) -> Iterator[GpuCode]:
    place = 0
    while place + _CONTAINER.size <= len(data):
        magic, _, header, size = _CONTAINER.unpack_from(data, place)
        if magic != MAGIC or header < _CONTAINER.size:
            place += 8  # padding between containers
            continue
        end = min(place + header + size, len(data))
        yield from _entries(data, place + header, end)
        place = max(end, place + header)


def _entries(data: bytes, place: int, end: int) -> Iterator[GpuCode]:
    while place + _ARCHITECTURE_AT + 4 <= end:
        kind, _, header, size = _ENTRY.unpack_from(data, place)
        if header < _ARCHITECTURE_AT + 4:
            return
        (number,) = struct.unpack_from("<I", data, place + _ARCHITECTURE_AT)
        capability = capability_of(number)
        if capability is not None and kind in (_PTX, _CUBIN):
            code = data[place + header : min(place + header + size, end)]
            yield GpuCode(
                kind="ptx" if kind == _PTX else "cubin", capability=capability, variant=_variant(kind, code)
            )
        place += header + size


def _variant(kind: int, code: bytes) -> str:
    """``a`` or ``f`` where the code says so; it cannot be told of compressed code."""
    if kind == _PTX:
        match = _TARGET.search(code[:4096])
        return match[2].decode() if match else ""
    elf = read_elf(code)
    return _cubin(elf).variant if elf is not None and elf.machine == CUDA else ""


def _cubin(elf: Elf) -> GpuCode:
    new = elf.abi >= _NEW_ABI
    number = elf.flags >> 8 & 0xFF if new else elf.flags & 0xFF
    own = bool(elf.flags & (0x8 if new else 0x800)) or any(
        _is_own(elf.content(section)) for section in elf.sections if section.name == ".nv.compat"
    )
    return GpuCode(kind="cubin", capability=capability_of(number) or (0, 0), variant="a" if own else "")


def _is_own(compat: bytes) -> bool:
    """Whether attribute 9 is 1. Attributes of form 4 have a size (u16) and data, others two bytes."""
    place = 0
    while place + 4 <= len(compat):
        form, name, value, _ = compat[place : place + 4]
        if form != 4 and name == 9:
            return value == 1
        place += 4 + (int.from_bytes(compat[place + 2 : place + 4], "little") if form == 4 else 0)
    return False
