"""Running in a virtual machine: QEMU, with the processor's help where it can be had (KVM), else in emulation.

This is for what no container can do: programs that the host's kernel refuses (such as those that need the
page ``vsyscall``), and images for another architecture. No root is needed. The surroundings are those of the
other runtimes, but that the network is behind QEMU's own translation of addresses, there is no GPU, and
the host's other processes are not to be seen.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from afenv.documents.vm import VirtualMachine, read_vm
from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.command_errors import no_command, not_executable
from afenv.run.qemu_machine import (
    CONSOLE_LOG,
    CONTROL,
    PID_FILE,
    Machine,
    command_line,
    control_files,
    put_control,
    qemu_name,
)
from afenv.run.qemu_ports import Ports
from afenv.run.request import Prepared, RunRequest, whole_command
from afenv.run.supervise import supervise
from afenv.store.content import ContentStore

ACCELERATOR = "AFENV_VM_ACCELERATOR"
MEMORY, PROCESSORS = "AFENV_VM_MEMORY", "AFENV_VM_CPUS"
PATIENCE = 30.0  # seconds for a machine with KVM to say that it has started
ELSEWHERE = ("/usr/libexec/qemu-kvm",)  # where Enterprise Linux has it, for its own architecture
SAID = 1500  # characters of the console that an error shows


@dataclass(frozen=True, kw_only=True, slots=True)
class Qemu:
    """QEMU: the command that starts it where ``AFENV_QEMU`` names one, else that of the architecture."""

    given: tuple[str, ...] = ()
    name: Literal["qemu"] = "qemu"

    def command_for(self, architecture: str) -> tuple[str, ...]:
        """The command for an architecture; E501 if it is not there."""
        name = f"qemu-system-{qemu_name(architecture)}"
        if self.given:
            return self.given
        found = shutil.which(name)
        if found is None and _is_native(architecture):
            found = next((path for path in ELSEWHERE if os.access(path, os.X_OK)), None)
        if found is None:
            package = "qemu-system-arm" if architecture == "arm64" else "qemu-system-x86"
            raise AfenvError(
                "E501",
                f"there is no {name} on this host",
                remedy=f"Install QEMU: `apt install {package}`, or `dnf install qemu-kvm`.",
            )
        return (found,)


def find() -> Qemu:
    """QEMU; whether it is there is told by the architecture. ``AFENV_QEMU`` may name a command."""
    text = os.environ.get("AFENV_QEMU")
    try:
        return Qemu(given=tuple(shlex.split(text)) if text else ())
    except ValueError as error:
        raise AfenvError("E030", f"{text!r}: {error}", place="AFENV_QEMU") from None


def prepare(
    runtime: Qemu, image: Image, store: ContentStore, request: RunRequest, *, load: bool, quiet: bool
) -> Prepared:
    """The folder with kernel and root file system, in the cache; made if it is not there."""
    from afenv.run.prepared import machine_of

    runtime.command_for(str(image.configuration().get("architecture", "")))  # before anything is made
    return Prepared(str(machine_of(image, store, quiet=quiet)))


def launch(
    runtime: Qemu, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> tuple[str, ...]:
    """QEMU's command line, as it is without what this process gives it while it runs."""
    folder = Path(image)
    described = read_vm(folder)
    machine = chosen_machine(described.architecture, cpus=request.cpus, memory=request.memory)
    return command_line(
        runtime.command_for(described.architecture),
        image,
        described.architecture,
        described.parameters,
        _checked(request),
        machine,
        scratch,
    )


def _checked(request: RunRequest) -> RunRequest:
    if request.gpu:
        raise AfenvError("E505", "a virtual machine has no GPU", remedy="Run without it: --no-gpu.")
    return request


def _is_native(architecture: str) -> bool:
    here = {"x86_64": ("amd64", "386"), "aarch64": ("arm64",)}
    return architecture in here.get(os.uname().machine, ())


def chosen_machine(architecture: str, *, cpus: int = 0, memory: int = 0) -> Machine:
    """Processors, memory and accelerator, by the environment's variables or by what the host has. E030.

    ``cpus`` and ``memory`` (bytes) are what the request asks for; 0 is the default.
    """
    asked = os.environ.get(ACCELERATOR, "")
    if asked not in ("", "kvm", "tcg"):
        raise AfenvError("E030", f"{asked!r} is neither kvm nor tcg", place=ACCELERATOR)
    usable = _is_native(architecture) and os.access("/dev/kvm", os.R_OK | os.W_OK) and not _is_known_bad()
    here = len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return Machine(
        accelerator=asked or ("kvm" if usable else "tcg"),
        processors=cpus or _number(PROCESSORS, min(here, 8)),
        memory=memory >> 20 or _number(MEMORY, max(512, min(total // 2, 8192))),
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isdigit() and int(text) > 0):
        raise AfenvError("E030", f"{text!r} is not a whole number above 0", place=name)
    return int(text or default)


def run(runtime: Qemu, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str) -> int:
    """Run the request and return the command's exit status (128 + n after signal n).

    E502 if the machine could not be started, with what it said; E503 and E504 if it could not start the
    command. Where KVM is there and does not work, the machine is emulated instead, and that is remembered.
    """
    described = read_vm(Path(image))
    machine = chosen_machine(described.architecture, cpus=request.cpus, memory=request.memory)
    size = None
    if request.interactive:
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(0)
    put_control(Path(scratch) / CONTROL, control_files(config, _checked(request), size))
    status = _boot(runtime, image, described, request, machine, scratch)
    if status is None:
        machine = replace(machine, accelerator="tcg")
        _say("KVM does not start a machine on this host; emulating the processor, which is slow")
        _remember_bad()
        status = _boot(runtime, image, described, request, machine, scratch)
        assert status is not None
    return status


def _boot(
    runtime: Qemu,
    image: str,
    described: VirtualMachine,
    request: RunRequest,
    machine: Machine,
    scratch: str,
) -> int | None:
    """One attempt; None if a machine with KVM did not start within :data:`PATIENCE`."""
    hung = threading.Event()
    with Ports(streams=not request.interactive) as ports:
        words = command_line(
            runtime.command_for(described.architecture),
            image,
            described.architecture,
            described.parameters,
            request,
            machine,
            scratch,
            ports.numbers(),
        )
        ended = threading.Event()
        if machine.accelerator == "kvm" and not os.environ.get(ACCELERATOR):
            threading.Thread(target=_watch, args=(ports, Path(scratch), hung, ended), daemon=True).start()
        ports.serve()
        try:
            status = supervise(words, send=ports.send, pass_fds=tuple(ports.numbers().values()))
        finally:
            ended.set()
            ports.handed_over()
        ports.finish()
        if ports.missing is not None:
            name = whole_command(described.config, request)[0]
            raise not_executable(name) if ports.missing == 126 else no_command(name)
        if ports.status is not None:
            return ports.status
        if hung.is_set():
            return None
        if status >= 128 and not ports.failure:
            return status  # we were asked to end it
        said = ports.failure or _console(Path(scratch)) or "QEMU's message is above this one"
        raise AfenvError("E502", f"the virtual machine did not run the command: {said}")


def _watch(ports: Ports, scratch: Path, hung: threading.Event, ended: threading.Event) -> None:
    """End a machine that does not start in time."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if ended.wait(0.1) or ports.started.is_set():
            return
    hung.set()
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((scratch / PID_FILE).read_text()), 15)


def _console(scratch: Path) -> str:
    with contextlib.suppress(OSError):
        return (scratch / CONSOLE_LOG).read_text("utf-8", "replace").strip()[-SAID:]
    return ""


def _say(text: str) -> None:
    import sys

    print(f"afenv: {text}", file=sys.stderr)  # noqa: T201


def _note() -> Path:
    from afenv.settings import load_settings

    return load_settings().cache_folder / "vm" / f"no-kvm-{os.uname().release}"


def _is_known_bad() -> bool:
    return _note().exists()


def _remember_bad() -> None:
    with contextlib.suppress(OSError):
        _note().parent.mkdir(parents=True, exist_ok=True)
        _note().touch()
