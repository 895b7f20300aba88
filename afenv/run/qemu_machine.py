"""What QEMU is asked for, and what the guest finds in its control folder: pure functions.

The guest's first process (``init.sh`` of the vm builder) reads the folder :data:`CONTROL` and talks through
four ports of a virtio serial bus. Folders are shared by 9p, which QEMU does itself.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.documents.vm import INITRAMFS, KERNEL, ROOT
from afenv.errors import AfenvError
from afenv.run.command_errors import SHELL_CHECK
from afenv.run.request import HOME, USER, Mount, RunRequest, all_variables, whole_command

CONTROL = "control"
PORTS = ("control", "input", "output", "errors")
CONSOLE_LOG = "console.log"
PID_FILE = "qemu.pid"
# What boots an image of an architecture: QEMU's name of it, the machine, the kernel's console
SYSTEMS: Mapping[str, tuple[str, str, str]] = {
    "amd64": ("x86_64", "q35,usb=off,vmport=off", "ttyS0"),
    "386": ("x86_64", "q35,usb=off,vmport=off", "ttyS0"),
    "arm64": ("aarch64", "virt,gic-version=max", "ttyAMA0"),
}
SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=@")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """How the machine is made: the accelerator (``kvm`` or ``tcg``), processors, memory in MiB."""

    accelerator: str
    processors: int
    memory: int


def qemu_name(architecture: str) -> str:
    """The architecture as QEMU calls it; E013 if no machine can be made for it."""
    if architecture not in SYSTEMS:
        raise AfenvError(
            "E013", f"there is no virtual machine for {architecture or 'an unknown architecture'}"
        )
    return SYSTEMS[architecture][0]


def shares(request: RunRequest) -> list[tuple[str, Mount, str, str]]:
    """The shared folders: tag, mount, the folder of the host, and the name in it (``-`` for all of it)."""
    found = []
    for number, mount in enumerate(request.all_mounts()):
        whole = mount.source.is_dir()
        folder = mount.source if whole else mount.source.parent
        found.append((f"share{number}", mount, str(folder), "-" if whole else mount.source.name))
    return found


def command_line(
    qemu: Sequence[str],
    folder: str,
    architecture: str,
    parameters: str,
    request: RunRequest,
    machine: Machine,
    scratch: str,
    sockets: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """QEMU's whole command line; ``sockets`` are the open ends of the ports, by name.

    Without them the ports are files of ``scratch``, which is for showing the command line.
    """
    _, board, console = SYSTEMS[architecture]
    kvm = machine.accelerator == "kvm"
    if kvm and architecture == "arm64":
        board = "virt,gic-version=host"
    quick = "" if kvm else " mitigations=off"
    append = f"console={console} quiet loglevel=3 panic=-1 random.trust_cpu=on{quick} {parameters}".rstrip()
    words = [*qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-machine", board, "-accel", "kvm" if kvm else "tcg,thread=multi"]
    words += ["-cpu", "host" if kvm else "max", "-smp", str(machine.processors), "-m", f"{machine.memory}M"]
    words += ["-pidfile", f"{scratch}/{PID_FILE}"]
    words += ["-chardev", f"file,id=log,path={_comma(scratch)}/{CONSOLE_LOG}", "-serial", "chardev:log"]
    words += ["-kernel", f"{folder}/{KERNEL}", "-initrd", f"{folder}/{INITRAMFS}", "-append", append]
    words += [
        "-drive",
        f"file={_comma(folder)}/{ROOT},format=raw,if=none,id=root,readonly=on,file.locking=off",
    ]
    words += ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-serial-pci"]
    for name in PORTS:
        source = f"socket,id={name},fd={sockets[name]}" if sockets else f"file,id={name},path=/dev/null"
        words += ["-chardev", source, "-device", f"virtserialport,chardev={name},name={name}"]
    if request.interactive:
        words += ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]
    for tag, path, mode in (
        (CONTROL, f"{scratch}/{CONTROL}", ",readonly=on"),
        *((tag, host, ",readonly=on" if mount.read_only else "") for tag, mount, host, _ in shares(request)),
    ):
        options = f"local,id={tag},path={_comma(path)},security_model=none,multidevs=remap{mode}"
        words += ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    if request.network:
        words += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
    return tuple(words)


def _comma(text: str) -> str:
    """A value in a list of QEMU's options: a comma is doubled."""
    return text.replace(",", ",,")


def control_files(
    config: Mapping[str, Any], request: RunRequest, size: os.terminal_size | None
) -> dict[str, bytes]:
    """What stands in the control folder; ``size`` is that of the terminal, where there is one."""
    groups = ",".join(str(group) for group in request.groups) or "-"
    home = request.env.get("HOME", HOME)
    account = (request.uid, request.gid, groups, USER, home, request.hostname)
    flags = (int(request.network), int(request.interactive))
    mounts = b"".join(
        b" ".join((tag.encode(), _escaped(mount.target), b"ro" if mount.read_only else b"rw", _escaped(name)))
        + b"\n"
        for tag, mount, _, name in shares(request)
    )
    words = [f"{name}={value}" for name, value in sorted(all_variables(config, request).items())]
    command = shlex.join((*words, *whole_command(config, request)))
    lines = [f"cd {shlex.quote(str(request.workdir))} || exit 125"]
    if size is not None:
        lines.append(f"$B stty rows {size.lines} cols {size.columns}")
    name = shlex.quote(whole_command(config, request)[0])
    path = shlex.quote(all_variables(config, request).get("PATH", ""))
    lines.append(f"PATH={path} $B sh -c {shlex.quote(SHELL_CHECK)} sh {name}")
    lines.append("found=$?; [ $found = 0 ] || { echo $found >/run/afenv-vm/why; exit $found; }")
    lines.append(f"exec $B env -i {command}")
    return {
        "account": (" ".join(str(one) for one in (*account, *flags)) + "\n").encode(),
        "mounts": mounts,
        "enter": os.fsencode("\n".join(lines) + "\n"),
    }


def _escaped(text: str) -> bytes:
    """A path in the form that ``printf %b`` undoes."""
    return b"".join(bytes((one,)) if one in SAFE else b"\\0%03o" % one for one in os.fsencode(text))


def put_control(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the control folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
