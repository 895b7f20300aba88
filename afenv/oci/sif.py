"""SIF, the Singularity Image Format: a header, a table of descriptors, and the data objects they name.

Version 01, as Apptainer 1.4 writes it (sylabs/sif, pkg/sif). All numbers are little-endian. The header
has 128 bytes at 0; 48 descriptors of 585 bytes begin at 4096; data begins at 32176; partitions begin on a
multiple of 4096. A descriptor that is not used is all zero, or has a false ``used``.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from afenv.errors import AfenvError
from afenv.record import record

MAGIC = b"SIF_MAGIC\0"
VERSION = b"01\0"
LAUNCH = b"#!/usr/bin/env run-singularity\n"
DEFINITION, PARTITION, SIGNATURE, JSON = 0x4001, 0x4004, 0x4005, 0x4006
SQUASHFS, SYSTEM = 1, 2  # file system and purpose of a partition
OUR_RECORD = "afenv.json"
METADATA = "inspect-metadata.json"
OCI_CONFIG = "oci-config.json"

_HEADER = struct.Struct("<32s10s3s3s16s8q")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_PARTITION = struct.Struct("<ii3s")
_SIGNATURE = struct.Struct("<i64s")
_DESCRIPTORS_AT, _DESCRIPTORS, _DATA_AT = 4096, 48, 32176
_ALIGNMENT = 4096
_GROUP = 0xF0000000
_MOST = 4096  # descriptors that are read
_LARGEST = 16 << 20  # bytes of an object that is read as a whole

ARCHITECTURES = {
    "386": b"01",
    "amd64": b"02",
    "arm": b"03",
    "arm64": b"04",
    "ppc64": b"05",
    "ppc64le": b"06",
    "mips": b"07",
    "mipsle": b"08",
    "mips64": b"09",
    "mips64le": b"10",
    "s390x": b"11",
    "riscv64": b"12",
}


@record
class SifObject:
    """One data object: ``kind`` is its type number, ``offset`` and ``size`` are in bytes of the file.

    ``group`` and ``link`` are numbers of groups and objects, 0 for none. ``file_system``, ``purpose`` and
    ``architecture`` (Go's name, empty if unknown) are a partition's; ``fingerprint`` is that of a
    signature's key, in capital hexadecimal digits.
    """

    kind: int
    number: int
    offset: int
    size: int
    name: str = ""
    group: int = 1
    link: int = 0
    file_system: int = 0
    purpose: int = 0
    architecture: str = ""
    fingerprint: str = ""


@record
class Sif:
    """A SIF's header and objects; ``created`` and ``modified`` are in seconds since 1970."""

    architecture: str
    identity: uuid.UUID
    created: int
    modified: int
    objects: tuple[SifObject, ...]
    path: Path

    def system(self) -> SifObject:
        """The partition that a container is started from; E510 if there is none in squashfs."""
        for one in self.objects:
            if one.kind == PARTITION and one.purpose == SYSTEM:
                if one.file_system != SQUASHFS:
                    raise _refused(self.path, "its system partition is not squashfs, or is encrypted")
                return one
        raise _refused(self.path, "it has no system partition")

    def signatures(self) -> tuple[SifObject, ...]:
        """The signatures, unchecked: ``apptainer verify`` checks them."""
        return tuple(one for one in self.objects if one.kind == SIGNATURE)

    def read(self, name: str) -> bytes | None:
        """A named JSON object, or None."""
        return next(
            (self.content(one) for one in self.objects if one.kind == JSON and one.name == name), None
        )

    def content(self, one: SifObject) -> bytes:
        """The bytes of a small object; E510 if it is not small."""
        if one.size > _LARGEST:
            raise _refused(self.path, f"its object {one.number} has {one.size} bytes")
        with self.path.open("rb") as file:
            file.seek(one.offset)
            return file.read(one.size)


def is_sif(start: bytes) -> bool:
    """Whether a file that begins with these bytes (at least 42) is a SIF."""
    return start[32:42] == MAGIC


def read_sif(path: Path) -> Sif:
    """Read header and descriptors; E001 if there is no such file, E510 if it is no whole SIF."""
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None


def _read(file: BinaryIO, path: Path) -> Sif:
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEADER.size)
    if not is_sif(head):
        raise _refused(path, "it does not have SIF's magic number")
    if len(head) < _HEADER.size:
        raise _refused(path, "it ends inside the header")
    _, _, version, architecture, identity, *numbers = _HEADER.unpack(head)
    created, modified, _, total, at, table_size, _, _ = numbers
    if version != VERSION:
        raise _refused(path, f"it is of version {_text(version)!r}; only 01 is known")
    if not 0 < total <= _MOST or table_size < total * _DESCRIPTOR.size:
        if 0 < int.from_bytes(head[88:96], "big") <= _MOST:
            raise _refused(path, "its numbers are big-endian; SIF is little-endian")
        raise _refused(path, f"its table of descriptors cannot be: {total} in {table_size} bytes")
    if at < _HEADER.size or at + total * _DESCRIPTOR.size > size:
        raise _refused(path, "it ends before its table of descriptors does")
    file.seek(at)
    table = file.read(total * _DESCRIPTOR.size)
    objects = []
    for fields in _DESCRIPTOR.iter_unpack(table):
        if fields[1]:
            one = _object(*fields)
            if one.offset < _HEADER.size or one.size < 0 or one.offset + one.size > size:
                raise _refused(
                    path,
                    f"its object {one.number} lies at {one.offset} with {one.size} bytes, "
                    f"and the file has {size}",
                )
            objects.append(one)
    if not objects:
        raise _refused(path, "it has no data")
    return Sif(
        architecture=_architecture(architecture),
        identity=uuid.UUID(bytes=identity),
        created=created,
        modified=modified,
        objects=tuple(objects),
        path=path,
    )


def _object(
    kind: int,
    used: bool,
    number: int,
    group: int,
    link: int,
    offset: int,
    size: int,
    padded: int,
    created: int,
    modified: int,
    uid: int,
    gid: int,
    name: bytes,
    extra: bytes,
) -> SifObject:
    file_system, purpose, architecture, fingerprint = 0, 0, "", ""
    if kind == PARTITION:
        file_system, purpose, code = _PARTITION.unpack_from(extra)
        architecture = _architecture(code)
    elif kind == SIGNATURE:
        fingerprint = _SIGNATURE.unpack_from(extra)[1][:20].hex().upper()
    return SifObject(
        kind=kind,
        number=number,
        offset=offset,
        size=size,
        name=_text(name),
        group=group & ~_GROUP,
        link=link & ~_GROUP,
        file_system=file_system,
        purpose=purpose,
        architecture=architecture,
        fingerprint=fingerprint,
    )


def _architecture(code: bytes) -> str:
    return next((name for name, known in ARCHITECTURES.items() if known == code[:2]), "")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _refused(path: Path, why: str) -> AfenvError:
    return AfenvError("E510", f"this is not a SIF that can be read: {why}", place=str(path))


def partition_offset(sizes: Iterable[int]) -> int:
    """Where the partition begins that follows objects of these sizes in bytes."""
    end = _DATA_AT + sum(sizes)
    return end + -end % _ALIGNMENT


def sif_head(
    *,
    objects: Sequence[tuple[int, str, bytes]],
    partition_size: int,
    architecture: str,
    identity: uuid.UUID,
    created: int,
) -> bytes:
    """Everything of a SIF that comes before its only partition, a system in squashfs.

    ``objects`` are type number, name and content of what stands before the partition; ``architecture``
    is Go's name of it; E510 for one that SIF does not know.
    """
    code = ARCHITECTURES.get(architecture)
    if code is None:
        raise AfenvError("E510", f"SIF has no number for the architecture {architecture!r}")
    start = partition_offset(len(content) for _, _, content in objects)
    table: list[bytes] = []
    data: list[bytes] = []
    end = _DATA_AT

    def describe(kind: int, name: str, offset: int, size: int, extra: bytes = b"") -> None:
        nonlocal end
        padded = offset + size - end
        table.append(
            _DESCRIPTOR.pack(
                *(kind, True, len(table) + 1, _GROUP | 1, 0, offset, size, padded, created, created, 0, 0),
                *(name.encode(), extra),
            )
        )
        end = offset + size

    for kind, name, content in objects:
        describe(kind, name, end, len(content))
        data.append(content)
    describe(PARTITION, "", start, partition_size, _PARTITION.pack(SQUASHFS, SYSTEM, code + b"\0"))
    header = _HEADER.pack(
        *(LAUNCH, MAGIC, VERSION, code + b"\0", identity.bytes, created, created),
        *(_DESCRIPTORS - len(table), _DESCRIPTORS, _DESCRIPTORS_AT, _DESCRIPTORS * _DESCRIPTOR.size),
        *(_DATA_AT, end - _DATA_AT),
    )
    head = header.ljust(_DESCRIPTORS_AT, b"\0") + b"".join(table).ljust(_DATA_AT - _DESCRIPTORS_AT, b"\0")
    return (head + b"".join(data)).ljust(start, b"\0")
