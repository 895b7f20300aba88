"""What the files of an image declare to need: processor level, kernel, and the GPU code that they hold.

Files in folders of ``glibc-hwcaps`` are alternatives for newer processors, and do not count. The C library's
version is that of the text in it.
"""

from __future__ import annotations

import mmap
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from afenv.documents.cuda import Version, version
from afenv.facility.elf import needed_kernel, needed_level, read_elf
from afenv.facility.fatbin import gpu_code, has_gpu_code, in_order
from afenv.facility.needs import GpuCode, Needs
from afenv.record import record, replace

IN_MEMORY = 64 << 20  # bytes; larger files are put on the disk
_ALTERNATIVES = ("glibc-hwcaps", "haswell", "avx512_1")
_LIBC = re.compile(r"(?:^|/)libc(?:\.so\.6|-2\.\d+\.so)\Z")
_RELEASE = re.compile(rb"GNU C Library[^\n]{0,60}(?:stable|development) release version (\d+\.\d+)")


@record
class Declared:
    """What files declare; ``level_of`` is the path of the one with the highest level.

    ``size`` is that of all files together, in bytes. ``gpu`` tells whether any file has room
    for GPU code, ``files`` which code each of them holds.
    """

    level: int | None = None
    level_of: str = ""
    kernel: Version | None = None
    glibc: Version | None = None
    gpu: bool = False
    files: tuple[tuple[str, tuple[GpuCode, ...]], ...] = ()
    size: int = 0

    @property
    def code(self) -> tuple[GpuCode, ...]:
        """The GPU code of all files together."""
        return in_order(code for _, codes in self.files for code in codes)

    def as_json(self) -> dict[str, Any]:
        """What is kept of a layer."""
        return {
            "level": self.level,
            "level_of": self.level_of,
            "kernel": list(self.kernel) if self.kernel else None,
            "glibc": list(self.glibc) if self.glibc else None,
            "gpu": self.gpu,
            "files": [
                [path, [[code.kind, list(code.capability), code.variant] for code in codes]]
                for path, codes in self.files
            ],
            "size": self.size,
        }


def declared_from_json(value: Any) -> Declared:
    """What :meth:`Declared.as_json` gave."""
    return Declared(
        level=value["level"],
        level_of=value["level_of"],
        kernel=tuple(value["kernel"]) if value["kernel"] else None,
        glibc=tuple(value["glibc"]) if value["glibc"] else None,
        gpu=value["gpu"],
        files=tuple(
            (
                path,
                tuple(
                    GpuCode(kind=kind, capability=tuple(numbers), variant=variant)
                    for kind, numbers, variant in codes
                ),
            )
            for path, codes in value["files"]
        ),
        size=value["size"],
    )


def together(parts: Iterable[Declared]) -> Declared:
    """What several sets of files declare, the uppermost last: its C library is the one that counts."""
    level, level_of, kernel, glibc = None, "", None, None
    gpu, files, size = False, dict[str, tuple[GpuCode, ...]](), 0
    for part in parts:
        size += part.size
        if part.level is not None and part.level > (level or 0):
            level, level_of = part.level, part.level_of
        glibc = part.glibc or glibc
        kernel = part.kernel if part.glibc else kernel
        gpu = gpu or part.gpu
        files |= dict(part.files)
    return Declared(
        level=level,
        level_of=level_of,
        kernel=kernel,
        glibc=glibc,
        gpu=gpu,
        files=tuple(sorted(files.items())),
        size=size,
    )


def read_file(path: str, data: bytes | memoryview) -> Declared | None:
    """What one file declares; None if it is no program or library."""
    elf = read_elf(data)
    if elf is None or any(name in PurePosixPath(path).parts for name in _ALTERNATIVES):
        return None
    glibc = kernel = None
    if _LIBC.search(path):
        match = _RELEASE.search(bytes(data))
        glibc, kernel = (version(match[1].decode()) if match else None), needed_kernel(elf)
    level, code = needed_level(elf), gpu_code(elf)
    return Declared(
        level=level,
        level_of=path if level is not None else "",
        kernel=kernel,
        glibc=glibc,
        gpu=has_gpu_code(elf),
        files=((path, code),) if code else (),
    )


def read_tar(stream: BinaryIO) -> Declared:
    """What the files of a layer declare; whiteouts are not looked at."""
    found, size = [], 0
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            size += member.size if member.isreg() else 0
            if not member.isreg() or member.size < 64:
                continue
            file = tar.extractfile(member)
            if file is None:
                continue
            start = file.read(6)
            if start != b"\x7fELF\x02\x01":
                continue
            declared = _read_member(member.name.lstrip("./"), start, file, member.size)
            if declared is not None:
                found.append(declared)
    return replace(together(found), size=size)


def is_libc(path: str) -> bool:
    """Whether a path is that of the C library, by its name."""
    return bool(_LIBC.search(path))


def _read_member(path: str, start: bytes, file: IO[bytes], size: int) -> Declared | None:
    if size <= IN_MEMORY:
        return read_file(path, start + file.read())
    with tempfile.TemporaryFile() as copy:
        copy.write(start)
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        with mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return read_file(path, view)


def with_binaries(needs: Needs, declared: Declared) -> Needs:
    """The needs with what the files declare; what the lock states stays, but for a higher level."""
    level, level_of = needs.level, needs.level_of
    if declared.level is not None and declared.level > (level or 0):
        level, level_of = declared.level, declared.level_of
    gpu = needs.gpu
    if gpu is not None and (declared.files or not declared.gpu):
        gpu = replace(gpu, code=declared.code, files=declared.files)
    return replace(
        needs,
        level=level,
        level_of=level_of,
        glibc=needs.glibc or declared.glibc,
        kernel=needs.kernel or declared.kernel,
        gpu=gpu,
        unpacked=declared.size or needs.unpacked,
    )
