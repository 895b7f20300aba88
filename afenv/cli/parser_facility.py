"""The grammar of ``afenv check`` and ``facility``."""

from __future__ import annotations

from pathlib import Path

from afenv.cli.parser_common import Command, add_environment, add_json


def add_facility(command: Command) -> None:
    """Add ``check`` and ``facility``."""
    sub = command(
        "check",
        "say whether an image will run at a facility, and why not",
        "Exit 0 if it runs, degraded or not, and 1 if it cannot.",
    )
    sub.add_argument(
        "target",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="IMAGE",
        help="an OCI layout, an archive, a SIF, a bag, a lock, or a folder with a lock (default: this one)",
    )
    sub.add_argument("--facility", type=Path, metavar="FILE", required=True, help="the facility's profile")
    add_environment(sub)
    sub.add_argument("--network", action="store_true", help="the analysis needs the network when it runs")
    sub.add_argument("--no-content", action="store_true", help="do not read the programs in the image")
    sub.add_argument(
        "--strict", action="store_true", help="exit 1 too if something that decides is not known"
    )
    add_json(sub)

    sub = command(
        "facility",
        "describe what a computing facility offers",
        "A profile is what `afenv check` judges by.",
    )
    sub.add_argument(
        "action",
        choices=("probe", "import-labels", "show", "check"),
        help="probe this machine; make a profile of the labels of Kubernetes nodes; show or check a profile",
    )
    sub.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the profile, or the labels (- reads them)"
    )
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write the profile")
    sub.add_argument(
        "--name",
        metavar="NAME",
        help="what the facility is called (default: the machine's or the file's name)",
    )
    sub.add_argument(
        "--registry",
        metavar="HOST",
        action="append",
        default=[],
        help="ask this registry as well (may be repeated)",
    )
    add_json(sub)
