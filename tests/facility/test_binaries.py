"""What the files of an image declare: ELF notes, the C library, fat binaries made here, and real ones."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from afenv.facility.binaries import Declared, declared_from_json, read_file, read_tar, together, with_binaries
from afenv.facility.elf import needed_level, read_elf
from afenv.facility.fatbin import capability_of, gpu_code
from afenv.facility.needs import GpuCode, GpuNeed, Needs


def elf(sections: dict[str, tuple[int, bytes]], *, machine: int = 62, flags: int = 0, abi: int = 0) -> bytes:
    """A little-endian ELF file of 64 bits with these sections (type and content)."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers = b"", [struct.pack("<IIQQQQIIQQ", *(0,) * 10)]
    at = 64
    for name, (kind, content) in {**sections, ".shstrtab": (3, names)}.items():
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(struct.pack("<IIQQQQIIQQ", place, kind, 0, 0, at, len(content), 0, 0, 8, 0))
        body += content
        at += len(content)
    ident = b"\x7fELF\x02\x01\x01\0" + bytes([abi]) + bytes(7)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        ident, 3, machine, 1, 0, 0, at, flags, 64, 0, 0, 64, len(headers), len(headers) - 1,
    )  # fmt: skip
    return head + body + b"".join(headers)


def isa(bits: int) -> dict[str, tuple[int, bytes]]:
    """A note of the program property that names the levels needed."""
    described = struct.pack("<IIII", 0xC0008002, 4, bits, 0)
    note = struct.pack("<III", 4, len(described), 5) + b"GNU\0" + described
    return {".note.gnu.property": (7, note)}


def entry(kind: int, number: int, code: bytes = b"") -> bytes:
    padded = code + bytes(-len(code) % 8)
    head = struct.pack("<HHIQ", kind, 0x101, 64, len(padded)) + bytes(12) + struct.pack("<I", number)
    return head.ljust(64, b"\0") + padded


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@pytest.mark.parametrize(("bits", "level"), [(1, 1), (2, 2), (3, 2), (7, 3), (15, 4), (8, 4)])
def test_level_of_the_note(bits: int, level: int) -> None:
    found = read_elf(elf(isa(bits)))
    assert found is not None and needed_level(found) == level


def test_no_note_declares_nothing() -> None:
    found = read_elf(elf({".text": (1, b"x" * 8)}))
    assert found is not None and needed_level(found) is None
    assert gpu_code(found) == ()


def test_fat_binaries() -> None:
    ptx = b".version 8.0\n.target sm_90a\n.address_size 64\n"
    data = (
        container(entry(2, 80), entry(2, 90), entry(1, 90, ptx))
        + bytes(8)
        + container(entry(1, 80), entry(2, 80))
    )
    found = read_elf(elf({".nv_fatbin": (1, data)}))
    assert found is not None
    assert [str(code) for code in gpu_code(found)] == ["sm_80", "sm_90", "compute_80", "compute_90a"]


@pytest.mark.parametrize(
    ("flags", "abi", "name"),
    [(0x500550, 7, "sm_80"), (0x5A0D5A, 7, "sm_90a"), (0x6006402, 8, "sm_100"), (0x600640A, 8, "sm_100a")],
)
def test_cubins(flags: int, abi: int, name: str) -> None:
    """The flags are those that NVIDIA's ptxas 12.9 writes."""
    found = read_elf(elf({}, machine=190, flags=flags, abi=abi))
    assert found is not None and [str(code) for code in gpu_code(found)] == [name]


@pytest.mark.parametrize(("attribute", "name"), [(0, "sm_90"), (1, "sm_90a")])
def test_cubins_of_cuda_13(attribute: int, name: str) -> None:
    """Flags and section as ptxas 13.0 writes them for sm_90 and sm_90a."""
    compat = bytes([4, 11, 4, 0, 9, 9, 9, 9, 2, 2, 1, 0, 2, 9, attribute, 0])
    found = read_elf(elf({".nv.compat": (0x70000086, compat)}, machine=190, flags=0x6005A04, abi=8))
    assert found is not None and [str(code) for code in gpu_code(found)] == [name]


def test_damaged_files_have_no_answer_and_no_traceback() -> None:
    whole = elf({".nv_fatbin": (1, container(entry(2, 80), entry(1, 90)))} | isa(7))
    for size in range(0, len(whole), 3):
        read_file("lib/x.so", whole[:size])
    for place in range(0, len(whole), 2):
        read_file("lib/x.so", whole[:place] + b"\xff\xff" + whole[place + 2 :])
    assert capability_of(5) is None and capability_of(100) == (10, 0)


def _tar(files: dict[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = elf({".rodata": (1, b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n")})
    files = {
        "usr/lib/libc.so.6": libc,
        "usr/lib/a.so": elf(isa(2)),
        "usr/lib/glibc-hwcaps/x86-64-v4/a.so": elf(isa(15)),
        "usr/share/text": b"no program" * 100,
        "usr/lib/gpu.so": elf({".nv_fatbin": (1, container(entry(2, 80)))}),
    }
    expected = Declared(
        level=2,
        level_of="usr/lib/a.so",
        glibc=(2, 36),
        gpu=True,
        files=(("usr/lib/gpu.so", (GpuCode(kind="cubin", capability=(8, 0)),)),),
        size=sum(map(len, files.values())),
    )
    assert read_tar(_tar(files)) == expected
    assert declared_from_json(expected.as_json()) == expected
    monkeypatch.setattr("afenv.facility.binaries.IN_MEMORY", 100)  # larger files go by the disk
    assert read_tar(_tar(files)) == expected


def test_what_files_declare_joins_what_the_lock_says() -> None:
    needs = Needs(name="x", level=1, gpu=GpuNeed())
    code = (GpuCode(kind="cubin", capability=(8, 0)),)
    found = with_binaries(
        needs, Declared(level=3, level_of="lib/a.so", glibc=(2, 28), gpu=True, files=(("lib/g.so", code),))
    )
    assert (found.level, found.level_of, found.glibc) == (3, "lib/a.so", (2, 28))
    assert found.gpu is not None and found.gpu.code == code
    assert with_binaries(needs, Declared(level=1)).level == 1
    assert (found.unpacked, with_binaries(needs, Declared(size=7)).unpacked) == (None, 7)
    both = together([Declared(glibc=(2, 28), kernel=(3, 2, 0)), Declared(level=2), Declared(glibc=(2, 36))])
    assert (both.glibc, both.kernel, both.level) == ((2, 36), None, 2)


def test_cuobjdump_agrees_where_it_is_installed(tmp_path: Path) -> None:
    """With CUDA at hand its own assembler makes cubins, and ``cuobjdump`` lists what is in them."""
    ptxas, lister = shutil.which("ptxas"), shutil.which("cuobjdump")
    if not ptxas:
        pytest.skip("no ptxas on this machine")
    for name in ("75", "80", "90", "90a"):
        (tmp_path / "k.ptx").write_text(
            f".version 8.0\n.target sm_{name}\n.address_size 64\n.visible .entry k(){{ret;}}\n"
        )
        output = tmp_path / f"{name}.cubin"
        subprocess.run([ptxas, f"-arch=sm_{name}", str(tmp_path / "k.ptx"), "-o", str(output)], check=True)
        found = read_elf(output.read_bytes())
        assert found is not None and [str(code) for code in gpu_code(found)] == [f"sm_{name}"]
        if lister:
            said = subprocess.run([lister, "-lelf", str(output)], capture_output=True, text=True, check=True)
            assert f"sm_{name}" in said.stdout
