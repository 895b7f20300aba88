"""The grammar of ``afenv export`` and ``afenv import``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

LOCKS = ("conda-lock", "pixi", "explicit")
ENGINES = ("reana", "recast", "cwl", "snakemake", "htcondor")


def add_export(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; ``command(name, text, detail)`` makes its parser."""
    sub = command(
        "export",
        "hand the steps to another engine, or the lock to another tool",
        "reana, recast, cwl, snakemake, htcondor: the steps, with images by digest. conda-lock, pixi, "
        "explicit: the conda and PyPI packages of the lock.",
    )
    sub.add_argument("format", choices=(*ENGINES, *LOCKS))
    sub.add_argument("-e", "--environment", metavar="ENV", help="a lock: which environment")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="steps: a folder (default: .afenv/export/FORMAT); a lock: a file (default: standard output)",
    )
    group = sub.add_argument_group("steps")
    group.add_argument(
        "--form",
        choices=("serial", "snakemake", "yadage"),
        help="reana: the kind of workflow (default: serial)",
    )
    group.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="[ENV=]REF",
        help="where an environment's image is, HOST/NAME@sha256:… (default: where it was pushed to; may be "
        "repeated)",
    )
    group.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="[STEP.]NAME=VALUE",
        help="the value of a parameter, of one step or of all that have it (may be repeated)",
    )
    group.add_argument(
        "--kerberos", action="store_true", help="reana, recast: give the steps a Kerberos ticket"
    )


def add_import(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; ``command(name, text, detail)`` makes its parser."""
    sub = command(
        "import",
        "draft a manifest from a reana.yaml, a recast.yml or a Snakefile",
        "Nothing of it is run; what cannot be taken over stands in the draft as a comment.",
    )
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument("--stdout", action="store_true", help="print the manifest instead of writing afenv.yaml")
