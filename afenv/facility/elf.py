"""What is read of ELF files: sections, the notes about processors and kernels, versions of the C library.

Formats: System V ABI (generic and x86-64 psABI, "Program Property"), Linux Standard Base ("Note sections",
"Symbol versioning"). Little-endian files of 64 bits only; anything else, and what is damaged, has no answer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MACHINES = {62: "amd64", 183: "arm64", 21: "ppc64le", 243: "riscv64"}
CUDA = 190
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE, _VERNEED = 7, 0x6FFFFFFE
_NT_ABI_TAG, _NT_PROPERTY = 1, 5
_X86_ISA_1_NEEDED = 0xC0008002
MOST_SECTIONS = 65_000


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its name, type, place and size in the file, and the section that it refers to."""

    name: str
    kind: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF file: its machine, its flags, its sections, and the bytes that they lie in."""

    data: bytes | memoryview
    machine: int
    flags: int
    abi: int
    sections: tuple[Section, ...]

    def content(self, section: Section) -> bytes:
        """The bytes of a section; fewer than its size if the file ends before."""
        if section.kind == 8:  # no bytes in the file
            return b""
        return bytes(self.data[section.offset : section.offset + section.size])


def read_elf(data: bytes | memoryview) -> Elf | None:
    """The file in some bytes; None if it is no ELF file of the kind that is read."""
    if len(data) < _HEADER.size or bytes(data[:6]) != b"\x7fELF\x02\x01":
        return None
    ident, _, machine, _, _, _, table, flags, _, _, _, size, count, names = _HEADER.unpack_from(data)
    found = []
    if size == _SECTION.size and 0 < count < MOST_SECTIONS and table + count * size <= len(data):
        found = [_SECTION.unpack_from(data, table + number * size) for number in range(count)]
    text = b""
    if names < len(found):
        text = bytes(data[found[names][4] : found[names][4] + found[names][5]])
    sections = tuple(Section(_string(text, one[0]), one[1], one[4], one[5], one[6]) for one in found)
    return Elf(data, machine, flags, ident[8], sections)


def _string(table: bytes, start: int) -> str:
    end = table.find(b"\0", start)
    return table[start : end if end >= 0 else len(table)].decode("utf-8", "replace")


def _notes(elf: Elf) -> Iterator[tuple[bytes, int, bytes]]:
    """The notes: owner, type and description."""
    for section in elf.sections:
        if section.kind != _NOTE:
            continue
        data = elf.content(section)
        step = 8 if section.name == ".note.gnu.property" else 4
        place = 0
        while place + 12 <= len(data):
            name_size, size, kind = struct.unpack_from("<III", data, place)
            start = place + 12 + -(-name_size // 4) * 4
            if start + size > len(data):
                break
            yield data[place + 12 : place + 12 + name_size].rstrip(b"\0"), kind, data[start : start + size]
            place = start + -(-size // step) * step


def needed_level(elf: Elf) -> int | None:
    """The x86-64 level that the file declares to need, from 1 to 4; None if it declares nothing."""
    for owner, kind, data in _notes(elf):
        if owner != b"GNU" or kind != _NT_PROPERTY:
            continue
        place = 0
        while place + 8 <= len(data):
            name, size = struct.unpack_from("<II", data, place)
            if name == _X86_ISA_1_NEEDED and size == 4 and place + 12 <= len(data):
                (bits,) = struct.unpack_from("<I", data, place + 8)
                return min(int(bits).bit_length(), 4) or None
            place += 8 + -(-size // 8) * 8
    return None


def needed_kernel(elf: Elf) -> tuple[int, ...] | None:
    """The oldest Linux kernel that the file says it runs on."""
    for owner, kind, data in _notes(elf):
        if owner == b"GNU" and kind == _NT_ABI_TAG and len(data) >= 16:
            system, *release = struct.unpack_from("<IIII", data)
            if system == 0:
                return tuple(release)
    return None


def needed_glibc(elf: Elf) -> tuple[int, ...] | None:
    """The newest symbol version ``GLIBC_x.y`` that the file needs of its libraries."""
    newest: tuple[int, ...] | None = None
    for section in elf.sections:
        if section.kind != _VERNEED or section.link >= len(elf.sections):
            continue
        data, names = elf.content(section), elf.content(elf.sections[section.link])
        place = 0
        while place + 16 <= len(data):
            _, count, _, first, after = struct.unpack_from("<HHIII", data, place)
            at = place + first
            for _ in range(count):
                if at + 16 > len(data):
                    break
                _, _, _, name, more = struct.unpack_from("<IHHII", data, at)
                match = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.(\d+))?", _string(names, name))
                if match:
                    newest = max(newest or (), tuple(int(part) for part in match.groups() if part))
                if not more:
                    break
                at += more
            if not after:
                break
            place += after
    return newest


_DYNAMIC = 6
_DT_NEEDED, _DT_RPATH, _DT_RUNPATH = 1, 15, 29


def libraries(elf: Elf) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The libraries that a file needs, by name, and the folders that it names to look in (ELF, chapter 5)."""
    needed: list[str] = []
    folders: list[str] = []
    for section in elf.sections:
        if section.kind != _DYNAMIC or section.link >= len(elf.sections):
            continue
        data, names = elf.content(section), elf.content(elf.sections[section.link])
        for tag, value in struct.iter_unpack("<qQ", data[: len(data) // 16 * 16]):
            if tag == 0:
                break
            if tag == _DT_NEEDED:
                needed.append(_string(names, value))
            elif tag in (_DT_RPATH, _DT_RUNPATH):
                folders += [part for part in _string(names, value).split(":") if part]
    return tuple(needed), tuple(folders)
