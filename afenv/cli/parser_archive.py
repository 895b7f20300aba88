"""The grammar of the commands about archives. Nothing here imports more than argparse."""

from __future__ import annotations

import argparse
from pathlib import Path

from afenv.cli.parser_common import Command, add_allow_dirty, add_environment, add_json


def add_archive(command: Command) -> None:
    """``afenv archive``."""
    sub = command(
        "archive",
        "write one bag with the image, everything that it was built from, and how to use both",
        "What is locked is built first, if it is not built yet.",
    )
    add_environment(sub)
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "-o", "--output", type=Path, metavar="BAG", help="where to write: a folder, BAG.zip or BAG.tar"
    )
    group.add_argument(
        "--ocfl", type=Path, metavar="ROOT", help="add the bag to an OCFL store, where archives share inputs"
    )
    sub.add_argument(
        "--object", metavar="ID", help="the OCFL object whose next version the bag is (default: one for all)"
    )
    sub.add_argument(
        "--part-size", metavar="SIZE", help="split a .zip or .tar into parts of at most SIZE, such as 50G"
    )
    sub.add_argument("--no-sif", action="store_true", help="write no SIF; restore makes one from the layers")
    sub.add_argument(
        "--vm", action="store_true", help="take the images along as virtual machines, which need QEMU alone"
    )
    sub.add_argument("--data", action="store_true", help="take the data along, not its references alone")
    sub.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        action="append",
        default=[],
        help="a folder with reference results to take along (may be repeated)",
    )
    sub.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a public key that signatures are checked with, to take along (may be repeated)",
    )
    sub.add_argument("--sign", type=Path, metavar="KEY", help="sign the images with the private key in KEY")
    sub.add_argument(
        "--without-restricted",
        action="store_true",
        help="leave out packages whose licence limits who may pass them on, and layers that hold them",
    )
    sub.add_argument("--without-afenv", action="store_true", help="do not take afenv's own wheels along")
    add_allow_dirty(sub)
    add_json(sub)


def add_to_verify(sub: argparse.ArgumentParser) -> None:
    """What ``afenv verify`` can do with a bag."""
    sub.add_argument(
        "--rebuild",
        action="store_true",
        help="of a bag: build the images again from it alone, and compare the image IDs",
    )


def add_restore(command: Command) -> None:
    """``afenv restore``."""
    sub = command(
        "restore",
        "take the image, or anything else, out of a bag",
        "Only what is needed is read, and it is checked.",
    )
    sub.add_argument("bag", help="a bag: a folder, .zip, .tar, .parts.json, or ROOT#NAME in an OCFL store")
    add_environment(sub)
    sub.add_argument(
        "--to",
        metavar="FORM",
        help="registry, docker, podman, apptainer, folder, cvmfs, vm, oci, project, or files (as in the bag)",
    )
    sub.add_argument(
        "--facility", type=Path, metavar="FILE", help="choose the form that runs there, by its profile"
    )
    sub.add_argument(
        "--only",
        metavar="PART",
        action="append",
        default=[],
        help="image, sif, vm, inputs, documents, data, results, software (may be repeated; with --to files)",
    )
    sub.add_argument(
        "--rebuild",
        action="store_true",
        help="with --to project: leave the images in the bag, so that they are built again from the inputs",
    )
    sub.add_argument(
        "-o", "--output", metavar="OUT", help="a folder or file; for a registry HOST[:PORT]/NAME[:TAG]"
    )
    add_json(sub)
