"""The builder of virtual machines: a folder that QEMU boots, without root and without a running engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afenv.digest import hex_of, sha256_file
from afenv.documents.vm import (
    FILE_NAME,
    FILES,
    INITRAMFS,
    KERNEL,
    ROOT,
    START,
    VirtualMachine,
    VmFile,
    dump_vm,
    is_vm,
    read_vm,
)
from afenv.errors import AfenvError
from afenv.oci.model import Descriptor, Image
from afenv.settings import Settings, load_settings
from afenv.store.content import ContentStore, write_error
from afenv_builders.vm.initramfs import initramfs
from afenv_builders.vm.kernel import Kernel, kernel_for
from afenv_builders.vm.start import start_script

MEDIA_TYPE = "application/vnd.afenv.vm.v1+json"
# Programs of 2012 and before call into the page that new kernels do not map by default (vsyscall)
PARAMETERS = {"amd64": "vsyscall=emulate"}
DEBIAN = {"amd64": "amd64", "386": "amd64", "arm64": "arm64"}  # a kernel for 64 bits runs both
OPTIONS = frozenset(("target", "path", "quiet", "digest", "offline", "compressor", "level", "threads"))


class VmBuilder:
    """Builds ``vm``, a folder with a kernel, an initramfs, ``root.squashfs``, ``run.sh`` and ``vm.json``.

    Options: ``path``; ``compressor``, ``level``, ``threads`` as for ``squashfs``; ``offline=yes`` takes
    the kernel from the cache only. The descriptor's digest is that of ``vm.json``, which names all others.
    """

    def supports(self, target: str) -> bool:
        """Whether ``target`` is ``vm``."""
        return target == "vm"

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Write the folder; one that holds the same machine is kept, one with another is replaced.

        E013 for an architecture without a kernel, E030 for unfit options, E032 over something foreign; what
        bringing the kernel (:func:`~afenv_builders.vm.kernel.kernel_for`) and packing raise.
        """
        unknown = [name for name in sorted(options.keys() - OPTIONS) if isinstance(options[name], str)]
        if unknown:
            raise AfenvError("E030", f"the builder of 'vm' has no option {unknown[0]!r}")
        if options.get("path") is None:
            raise AfenvError("E030", "an output of kind 'vm' needs a path to write to")
        path, quiet = Path(options["path"]), bool(options.get("quiet"))
        architecture = str(image.configuration().get("architecture", ""))
        settings = load_settings(offline=options.get("offline") in (True, "yes"))
        kernel = _kernel(architecture, store, settings, quiet)
        machine = _present(path, image, kernel)
        if machine is None:
            try:
                machine = _write(image, store, kernel, path, architecture, options)
            except OSError as error:
                raise write_error(error, path) from error
        data = dump_vm(machine)
        return Descriptor(
            media_type=MEDIA_TYPE,
            digest=sha256_file(path / FILE_NAME),
            size=len(data),
            annotations={"org.afenv.image-id": image.image_id, "org.afenv.kernel": kernel.release},
        )


def _kernel(architecture: str, store: ContentStore, settings: Settings, quiet: bool) -> Kernel:
    if architecture not in DEBIAN:
        raise AfenvError(
            "E013", f"no virtual machine is made for {architecture or 'an image that names no architecture'}"
        )
    return kernel_for(DEBIAN[architecture], store, settings, quiet=quiet)


def _present(path: Path, image: Image, kernel: Kernel) -> VirtualMachine | None:
    """The machine that is there already, if it is this one; E032 if something else is there."""
    if not path.is_symlink() and not path.exists():
        return None
    if path.is_dir() and not any(path.iterdir()):
        return None
    if not path.is_dir() or not is_vm(path):
        raise AfenvError("E032", "this is not a folder that afenv wrote", place=str(path))
    try:
        machine = read_vm(path)
    except AfenvError:
        return None
    same = machine.image_id == image.image_id and machine.packages == kernel.packages
    return machine if same and set(machine.files) == set(FILES) else None


def _write(
    image: Image,
    store: ContentStore,
    kernel: Kernel,
    path: Path,
    architecture: str,
    options: Mapping[str, Any],
) -> VirtualMachine:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.afenv-"))
    try:
        beside.chmod(0o755)
        store.link_or_copy(kernel.image, beside / KERNEL)
        (beside / INITRAMFS).write_bytes(initramfs(kernel, store))
        _pack(image, store, beside / ROOT, options)
        config = image.configuration().get("config") or {}
        parameters = PARAMETERS.get(DEBIAN[architecture], "")
        (beside / START).write_bytes(start_script(architecture, parameters, config))
        (beside / START).chmod(0o755)
        machine = VirtualMachine(
            name=image.name,
            image_id=image.image_id,
            architecture=architecture,
            release=kernel.release,
            parameters=parameters,
            files={name: _file(beside / name) for name in FILES},
            packages=kernel.packages,
            config=config,
        )
        (beside / FILE_NAME).write_bytes(dump_vm(machine))
        if path.exists():
            old = beside.with_name(beside.name + ".old")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return machine


def _pack(image: Image, store: ContentStore, path: Path, options: Mapping[str, Any]) -> None:
    from afenv.oci.builders import find_builder

    given = {name: options[name] for name in ("compressor", "level", "threads") if name in options}
    packer = find_builder("squashfs")
    quiet = bool(options.get("quiet"))
    packer.build(image, store, {"target": "squashfs", "path": path, "quiet": quiet, "digest": False, **given})


def _file(path: Path) -> VmFile:
    return VmFile(size=path.stat().st_size, sha256=hex_of(sha256_file(path)))
