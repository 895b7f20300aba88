"""The grammar of ``afenv run`` and ``shell``."""

from __future__ import annotations

import argparse
from pathlib import Path

from afenv.cli.parser_common import Command, add_allow_dirty, add_environment, add_locked


def add_run(command: Command) -> None:
    """Add ``run`` and ``shell``."""
    sub = command(
        "run", "run a command in an environment", "The host's folder is the working directory there too."
    )
    _running(sub)
    group = sub.add_argument_group("batch systems")
    group.add_argument(
        "--batch", choices=("htcondor", "slurm"), help="write a submit file for the command; run nothing"
    )
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="where (default: standard output)")
    group.add_argument("--cpus", type=int, metavar="N", help="processors of the job")
    group.add_argument("--memory", metavar="SIZE", help="memory of the job, such as 4G or 500M")
    group.add_argument("--gpus", type=int, metavar="N", help="GPUs of the job")
    group.add_argument("--time", metavar="TIME", help="longest time of the job: MINUTES or [DAYS-]HH:MM:SS")
    sub.add_argument(
        "arguments", nargs="*", metavar="CMD", help="the command (default: the image's own), after --"
    )

    sub = command(
        "shell", "start a shell in an environment", "The host's folder is the working directory there too."
    )
    _running(sub)


def _running(parser: argparse.ArgumentParser) -> None:
    """What ``run`` and ``shell`` have in common."""
    add_environment(parser)
    parser.add_argument(
        "--image",
        type=Path,
        metavar="PATH",
        help="an image that is there (OCI layout or archive, SIF, squashfs, folder), instead of a manifest's",
    )
    parser.add_argument(
        "--runtime",
        metavar="NAME[,NAME…]",
        help="docker, podman, apptainer, userns, qemu; default: AFENV_RUNTIME, else the first one that works "
        "but qemu",
    )
    parser.add_argument(
        "--vm",
        dest="runtime",
        action="store_const",
        const="qemu",
        help="in a virtual machine, for what this host's kernel or processor does not run; short for "
        "--runtime qemu",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the runtime's own command line")
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="SRC[:DST[:ro]]",
        help="show a folder or file of the host at DST, read-only on request (may be repeated)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set a variable, to the value that it has here if none is given (may be repeated)",
    )
    parser.add_argument(
        "--live", action="store_true", help="put the checkout in the place of the image's code"
    )
    parser.add_argument("--no-network", action="store_true", help="run without any network")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail if CVMFS is mounted at another revision than is locked",
    )
    parser.add_argument(
        "--no-gpu", action="store_true", help="show no GPU, even if the manifest asks for one"
    )
    add_locked(parser)
    add_allow_dirty(parser)
