"""The grammar of ``afenv init``, ``lock`` and ``build``."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import (
    Command,
    add_allow_dirty,
    add_attaching,
    add_environment,
    add_json,
    add_locked,
)


def add_lock(command: Command) -> None:
    """Add ``init`` and ``lock``."""
    sub = command("init", "write a manifest from what a repository already has", "Asks nothing.")
    sub.add_argument("--stdout", action="store_true", help="print the manifest instead of writing afenv.yaml")

    sub = command("lock", "resolve the manifest into afenv.lock", "What still fits an existing lock is kept.")
    sub.add_argument("--check", action="store_true", help="only tell whether the lock fits (exit 0 or 1)")
    sub.add_argument(
        "--update",
        metavar="NAME",
        action="append",
        default=[],
        help="take the newest NAME, a package, the reference of a base image or a CVMFS repository, and "
        "change as little else as possible (may be repeated)",
    )
    sub.add_argument("--upgrade", action="store_true", help="resolve everything anew")
    sub.add_argument(
        "--as-of", metavar="TIME", help="packages as they were at TIME, such as 2026-01-31T00:00:00Z"
    )
    sub.add_argument(
        "--solver",
        choices=("rattler", "conda-lock"),
        default="rattler",
        help="who chooses conda packages; conda-lock needs conda, mamba or micromamba (default: %(default)s)",
    )
    add_allow_dirty(sub)
    add_json(sub)


def add_build(command: Command) -> None:
    """Add ``build``."""
    sub = command(
        "build", "build the environments' images", "The lock is refreshed first if it does not fit."
    )
    add_environment(sub)
    sub.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="where to write (default .afenv/ENV.oci)"
    )
    sub.add_argument(
        "--target",
        metavar="TARGET",
        default="oci",
        help="oci (a folder), oci-archive (one file), docker (the engine), sif, squashfs, sandbox, cvmfs, vm",
    )
    sub.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="for the builder, such as compressor=gzip or sign=FINGERPRINT for sif (may be repeated)",
    )
    sub.add_argument("--push", metavar="REF", help="push the image to REF as well")
    add_attaching(sub)
    group = sub.add_argument_group("remote build cache")
    group.add_argument("--cache-from", metavar="REPO", help="take layers from REPO (HOST[:PORT]/NAME)")
    group.add_argument("--cache-to", metavar="REPO", help="leave layers in REPO for other machines")
    group.add_argument(
        "--cache-key", type=Path, metavar="FILE", help="sign what is left with this private key; trust it"
    )
    group.add_argument(
        "--cache-trust",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a public key whose layers are taken (may be repeated)",
    )
    sub.add_argument("--check", action="store_true", help="check every digest of the image that was written")
    sub.add_argument(
        "--check-reproducible", action="store_true", help="run build commands twice, and name what differs"
    )
    add_locked(sub)
    add_allow_dirty(sub)
    add_json(sub)
