"""The grammar of ``afenv catalogue`` and ``afenv select``."""

from __future__ import annotations

import argparse
from pathlib import Path

from afenv.cli.parser_common import Command, add_environment, add_json


def add_catalogue(command: Command) -> None:
    """Add both commands; ``command`` makes the parser of one by its name, a sentence and details."""
    sub = command(
        "select",
        "choose among the images of a catalogue those that run at a facility",
        "The best come first; exit 1 if none runs there.",
    )
    sub.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the analysis, or NAME:ENVIRONMENT; a pattern with * (default: all)",
    )
    sub.add_argument("--facility", type=Path, metavar="FILE", required=True, help="the facility's profile")
    _source(sub)
    _trust(sub)
    add_environment(sub)
    sub.add_argument(
        "--gpu",
        metavar="KIND",
        help="the GPU that the job will have: none, a model or a compute capability of the facility; any: "
        "only images that use one",
    )
    sub.add_argument("--network", action="store_true", help="the analysis needs the network when it runs")
    sub.add_argument("--strict", action="store_true", help="only images of which all is known that decides")
    sub.add_argument(
        "--all", action="store_true", help="older images of one name too, and why the others do not run"
    )
    add_json(sub)

    sub = command(
        "catalogue",
        "keep a signed list of images, in a file or a registry",
        "Names of images are those of the registry: HOST[:PORT]/NAME[:TAG].",
    )
    sub.add_argument(
        "action",
        choices=("add", "list", "remove", "refresh", "page"),
        help="add or remove images; list them; look for all of them in their registries again; write a page "
        "for people",
    )
    sub.add_argument(
        "images", nargs="*", metavar="IMAGE", help="which images; list: names, or patterns with *"
    )
    _source(sub)
    group = sub.add_argument_group("keys")
    group.add_argument(
        "--key", type=Path, metavar="FILE", help="sign with this private key (default: AFENV_CATALOGUE_KEY)"
    )
    _trust(group)
    group = sub.add_argument_group("add")
    group.add_argument("--name", metavar="NAME", help="what a new catalogue is called")
    group.add_argument(
        "--platform",
        metavar="PLATFORM",
        action="append",
        default=[],
        help="of a multi-platform image (may be repeated; default: that of this machine)",
    )
    group.add_argument("--sif", metavar="REF", help="where the image is as a SIF")
    group.add_argument("--cvmfs", metavar="PATH", help="where the image lies unpacked below /cvmfs")
    group.add_argument(
        "--content", action="store_true", help="pull the image and read what its programs need"
    )
    group = sub.add_argument_group("refresh")
    group.add_argument(
        "--prune", action="store_true", help="remove old versions of the catalogue from its registry"
    )
    group = sub.add_argument_group("page")
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write the page")
    group.add_argument(
        "--facility",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="say what runs at this facility (may be repeated)",
    )
    add_json(sub)


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--catalogue",
        metavar="CATALOGUE",
        help="a file, or HOST[:PORT]/NAME[:TAG] (default: AFENV_CATALOGUE)",
    )


def _trust(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a public key whose signature on the catalogue counts (may be repeated; default: "
        "AFENV_CATALOGUE_TRUST)",
    )
