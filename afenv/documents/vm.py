"""The description of a virtual machine, ``vm.json``, as frozen values.

Design goals: the folder says of itself what it is, so that in twenty years QEMU and this file are enough
to boot it; each file has its size and digest; the packages that the kernel came from are named, so that it
can be made again. The norm is ``specs/vm/v1``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.documents.lock import LockedFile
from afenv.errors import AfenvError
from afenv.record import field, record

FILE_NAME = "vm.json"
FORMAT_VERSION = 1
MOST = 1 << 20  # bytes of the file
KERNEL, INITRAMFS, ROOT = "kernel", "initramfs", "root.squashfs"
START = "run.sh"  # which machines of before do not have
FILES = (KERNEL, INITRAMFS, ROOT, START)


@record
class VmPackage:
    """A Debian package that the kernel or the tools came from."""

    name: str
    version: str
    architecture: str
    file: LockedFile


@record
class VmFile:
    """A file of the machine: its size in bytes and its digest."""

    size: int
    sha256: str


@record
class VirtualMachine:
    """A machine: the image in it, by its ID and with its settings, and the files that QEMU boots.

    ``architecture`` is as OCI calls it, ``release`` is the kernel's, ``parameters`` is its command line
    without what depends on the host. ``config`` is the ``config`` of the image's configuration.
    """

    name: str
    image_id: str
    architecture: str
    release: str
    parameters: str
    files: Mapping[str, VmFile]
    packages: tuple[VmPackage, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


def package_tree(package: VmPackage) -> dict[str, Any]:
    """A package as the file has it."""
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "urls": list(package.file.urls),
        "size": package.file.size,
        "sha256": package.file.sha256,
    }


def package_of(tree: Mapping[str, Any]) -> VmPackage:
    """The package of :func:`package_tree`."""
    return VmPackage(
        name=tree["name"],
        version=tree["version"],
        architecture=tree["architecture"],
        file=LockedFile(urls=tuple(tree["urls"]), size=tree["size"], sha256=tree["sha256"]),
    )


def dump_vm(machine: VirtualMachine) -> bytes:
    """The file's bytes: canonical JSON, indented."""
    return canonical.indented(
        {
            "afenv-vm": FORMAT_VERSION,
            "name": machine.name,
            "image-id": machine.image_id,
            "architecture": machine.architecture,
            "kernel": {
                "release": machine.release,
                "parameters": machine.parameters,
                "packages": [package_tree(one) for one in machine.packages],
            },
            "files": {
                name: {"size": one.size, "sha256": one.sha256} for name, one in sorted(machine.files.items())
            },
            "config": dict(machine.config),
        }
    )


def parse_vm(data: bytes, place: str) -> VirtualMachine:
    """The machine that some bytes describe; ``place`` is what messages show.

    E002 for what is no JSON, E015 for a newer format, E010 to E013 for what the schema does not allow.
    """
    from afenv.documents.schema import schema_of, schema_problems
    from afenv.documents.yaml_tree import read_yaml

    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AfenvError("E002", f"this is not JSON: {error}", place=place) from None
    number = tree.get("afenv-vm") if isinstance(tree, dict) else None
    if isinstance(number, int) and not isinstance(number, bool) and number != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {number}"
        raise AfenvError("E015", message, place=place, path="afenv-vm")
    document = read_yaml(data, place)
    problems = [*document.problems, *schema_problems(document, schema_of("vm"))]
    if problems:
        raise AfenvError.many(problems)
    kernel = tree["kernel"]
    return VirtualMachine(
        name=tree["name"],
        image_id=tree["image-id"],
        architecture=tree["architecture"],
        release=kernel["release"],
        parameters=kernel["parameters"],
        packages=tuple(package_of(one) for one in kernel["packages"]),
        files={name: VmFile(size=one["size"], sha256=one["sha256"]) for name, one in tree["files"].items()},
        config=tree["config"],
    )


def is_vm(folder: Path) -> bool:
    """Whether a folder holds a virtual machine of afenv."""
    return (folder / FILE_NAME).is_file() and (folder / KERNEL).is_file()


def read_vm(folder: Path, *, verify: bool = False) -> VirtualMachine:
    """The machine in a folder, all of whose files are there; with ``verify`` their digests are checked too.

    E001 and E301 besides what :func:`parse_vm` raises.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MOST)
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    machine = parse_vm(data, str(path))
    for name, expected in machine.files.items():
        _check(folder / name, expected, verify)
    return machine


def _check(path: Path, expected: VmFile, verify: bool) -> None:
    from afenv.digest import sha256_file

    try:
        size = path.stat().st_size
        found = sha256_file(path) if verify else "sha256:" + expected.sha256
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    if size != expected.size:
        raise AfenvError("E301", f"{size} bytes, and {FILE_NAME} says {expected.size}", place=str(path))
    if found != "sha256:" + expected.sha256:
        raise AfenvError("E301", f"{found}, and {FILE_NAME} says sha256:{expected.sha256}", place=str(path))
