"""The script of a virtual machine that needs QEMU and a shell, and nothing of afenv.

It does what :mod:`afenv.run.qemu_machine` does for ``afenv run``, for one command, one shared folder and no
network. What differs between machines stands at its top; the rest is ``run.sh`` beside this module.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afenv.run.qemu_machine import SYSTEMS
from afenv.run.request import HOME, USER, image_variables

HEAD = """\
#!/bin/sh
# Boots the virtual machine of this folder in QEMU and runs a command in it. QEMU is all that is needed:
#     sh run.sh COMMAND ARGUMENT ...
# Without a command it is the image's own, or a shell. The folder at hand is shared with the machine, at the
# same path, and what the command writes there stays; all else that it writes is gone at the end. There is no
# network. The exit status is the command's, or 125 if the machine could not run it. Variables that count:
#     AFENV_VM_ACCELERATOR  kvm, which is much faster where it works; else the processor is emulated
#     AFENV_VM_MEMORY       in MiB (default: 2048)
#     AFENV_VM_CPUS         processors (default: all)
#     AFENV_QEMU            the command that starts QEMU
"""


def start_script(architecture: str, parameters: str, config: Mapping[str, Any]) -> bytes:
    """The whole script; pure. ``config`` is the ``config`` of the image's configuration."""
    system, board, console = SYSTEMS[architecture]
    variables = image_variables(config) | {"HOME": HOME, "USER": USER, "LOGNAME": USER}
    settings = {
        "qemu": f"qemu-system-{system}",
        "board": board,
        "board_kvm": "virt,gic-version=host" if architecture == "arm64" else board,
        "console": console,
        "parameters": parameters,
        "user": USER,
        "home": HOME,
        "variables": shlex.join(f"{name}={value}" for name, value in sorted(variables.items())),
        "before": shlex.join(config.get("Entrypoint") or ()),
        "default": shlex.join(config.get("Cmd") or ("sh",)),
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    return (HEAD + lines).encode() + Path(__file__).with_name("run.sh").read_bytes()
