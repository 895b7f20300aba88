"""The grammar of the command line. Nothing here imports more than argparse."""

from __future__ import annotations

import argparse
import os
from functools import cache, partial
from pathlib import Path
from typing import cast

import afenv
from afenv.cli.parser_archive import add_archive, add_restore, add_to_verify
from afenv.cli.parser_compare import add_compare
from afenv.cli.parser_export import add_export, add_import
from afenv.cli.parser_rerun import add_rerun
from afenv.cli.parser_submit import add_submit

DESCRIPTION = """\
Lock a physics analysis once; run the identical environment at any facility.

afenv reads a manifest (afenv.yaml), resolves it into a lock (afenv.lock) in which every byte is named
by a digest, and builds images from the lock: reproducibly, without a daemon and without root."""

EPILOG = """\
A first time:   afenv init; afenv lock; afenv build; afenv run -- python3 my_analysis.py
See it work:    afenv demo

exit status:    0 done   1 the answer is no   2 wrong usage or invalid document
                3 something is missing on this machine   4 network   5 integrity   130 interrupted"""


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line; with ``only``, of one command, if there is one of that name."""
    parser = argparse.ArgumentParser(
        prog="afenv",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=_width()),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"afenv {afenv.__version__}")
    _common(parser, top=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="afenv")

    def command(name: str, text: str, detail: str = "") -> argparse.ArgumentParser:
        if only is not None and name != only:
            return cast("argparse.ArgumentParser", _Nothing())
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.{' ' if detail else ''}{detail}",
            formatter_class=partial(argparse.HelpFormatter, width=_width()),
            allow_abbrev=False,
        )
        _common(sub, top=False)
        return sub

    sub = command("init", "write a manifest from what a repository already has", "Asks nothing.")
    sub.add_argument("--stdout", action="store_true", help="print the manifest instead of writing afenv.yaml")

    sub = command("lock", "resolve the manifest into afenv.lock", "What still fits an existing lock is kept.")
    sub.add_argument("--check", action="store_true", help="only tell whether the lock fits (exit 0 or 1)")
    sub.add_argument(
        "--update",
        metavar="NAME",
        action="append",
        default=[],
        help="take the newest NAME, a package or the reference of a base image, and change as little else as "
        "possible (may be repeated)",
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
    _allow_dirty(sub)
    _json(sub)

    add_export(command)
    add_import(command)

    sub = command(
        "build", "build the environments' images", "The lock is refreshed first if it does not fit."
    )
    _environment(sub)
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
    _attaching(sub)
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
    _locked(sub)
    _allow_dirty(sub)
    _json(sub)

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

    sub = command(
        "rerun",
        "run the steps of the analysis that are out of date",
        "With --set or --param it is a recast: the same analysis on other data or values.",
    )
    add_rerun(sub)
    _locked(sub)
    _allow_dirty(sub)
    _json(sub)

    sub = command(
        "compare",
        "compare the results of two runs, or of a run and an archive",
        "By bytes, then by meaning. Exit status 0: the same, 1: different, 2: cannot be compared.",
    )
    add_compare(sub)
    _json(sub)

    sub = command("inspect", "show an image")
    sub.add_argument(
        "image", type=Path, help="an OCI layout, an image archive, a SIF, a squashfs file, or a folder"
    )
    _json(sub)

    sub = command("diff", "show what differs between two images or locks", "Exit 0 if nothing does, else 1.")
    sub.add_argument("a", type=Path)
    sub.add_argument("b", type=Path)
    _json(sub)

    sub = command(
        "push", "push an image to a registry", "Images for several platforms, SIFs, locks and manifests too."
    )
    sub.add_argument(
        "image", type=Path, help="an OCI layout (folder or tar archive), a SIF, afenv.lock or afenv.yaml"
    )
    sub.add_argument("reference", help="HOST[:PORT]/NAME[:TAG]")
    sub.add_argument(
        "--mount-from", metavar="NAME", help="a repository of the same registry that has some of the layers"
    )
    _attaching(sub)
    _json(sub)

    sub = command(
        "pull", "pull an image from a registry", "A SIF stays one; of other artifacts the files are written."
    )
    sub.add_argument("reference", help="[HOST[:PORT]/]NAME[:TAG][@DIGEST]")
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="where to write: a folder, an archive (.tar) or a SIF (.sif); default NAME.oci, or NAME.sif",
    )
    sub.add_argument(
        "--platform", metavar="PLATFORM", help="such as linux/arm64 (default: that of this machine)"
    )
    sub.add_argument("--all-platforms", action="store_true", help="the whole index, with all its images")
    _json(sub)

    sub = command("sign", "sign an image and what is attached to it", "The signatures are attached to it.")
    sub.add_argument("image", help="an OCI layout (a folder), or HOST[:PORT]/NAME[:TAG]")
    group = sub.add_mutually_exclusive_group(required=True)
    group.add_argument("--key", type=Path, metavar="FILE", help="sign with the private key in FILE")
    group.add_argument(
        "--keyless", action="store_true", help="sign as who is logged in, by sigstore (needs the network)"
    )
    _json(sub)

    sub = command(
        "verify",
        "check an image's signature, provenance and bill of materials; or a whole archive",
        "Says who built what from which commit. Exit 0 if all is well, 1 if something is missing or against "
        "the policy, 5 if something contradicts the image or the archive.",
    )
    sub.add_argument(
        "image",
        help="an OCI layout (folder or archive), HOST[:PORT]/NAME[:TAG], or a bag of `afenv archive`",
    )
    sub.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="a public key whose signatures count (may be repeated)",
    )
    sub.add_argument("--policy", type=Path, metavar="FILE", help="what a facility asks of images")
    sub.add_argument("--identity", metavar="ID", help="who may have signed without a key, by sigstore")
    sub.add_argument("--issuer", metavar="URL", help="who vouches for that identity")
    sub.add_argument(
        "--no-content", action="store_true", help="do not read the layers to compare them with the bill"
    )
    sub.add_argument("--platform", metavar="P", help="which image of a multi-platform one")
    add_to_verify(sub)
    _json(sub)
    add_archive(command, _environment, _allow_dirty, _json)
    add_restore(command, _environment, _json)
    add_submit(command, _json)

    sub = command("key", "make a key for signatures, or show what a public key is known by")
    sub.add_argument("action", choices=("generate", "show"))
    sub.add_argument("file", type=Path, help="generate: the private key to write, beside it NAME.pub")
    sub.add_argument(
        "--kind", choices=("ecdsa-p256", "ed25519"), default="ecdsa-p256", help="default: %(default)s"
    )
    sub.add_argument("--no-password", action="store_true", help="do not encrypt the private key")
    _json(sub)

    sub = command("cache", "show, prune or verify the content store")
    sub.add_argument("action", nargs="?", choices=("show", "prune", "verify"), default="show")
    sub.add_argument(
        "--older-than", metavar="DAYS", type=float, help="prune: what was not used for DAYS days"
    )
    sub.add_argument(
        "--keep", metavar="GB", type=float, help="prune: the most recently used GB gigabytes stay"
    )
    sub.add_argument("--repair", action="store_true", help="verify: remove what is damaged")
    _json(sub)

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
    _environment(sub)
    sub.add_argument("--network", action="store_true", help="the analysis needs the network when it runs")
    sub.add_argument("--no-content", action="store_true", help="do not read the programs in the image")
    sub.add_argument(
        "--strict", action="store_true", help="exit 1 too if something that decides is not known"
    )
    _json(sub)

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
    _json(sub)

    if only in (None, "cvmfs"):
        from afenv.cli.parser_cvmfs import add_cvmfs

        add_cvmfs(command, common=partial(_common, top=False), with_json=_json, width=_width())

    if only in (None, "data"):
        from afenv.cli.parser_data import add_data

        add_data(command)

    if only in (None, "catalogue", "select"):
        from afenv.cli.parser_catalogue import add_catalogue

        add_catalogue(command)

    sub = command("demo", "build the example analysis, and run it where a container runtime is found")
    sub.add_argument("folder", nargs="?", type=Path, default=Path("dimuon"), help="default: ./dimuon")
    if only is not None and only not in commands.choices:
        return build_parser()
    return parser


@cache
def _width() -> int:
    """The columns that help may fill. argparse would ask the terminal anew for each argument."""
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) - 2
    except (ValueError, OSError):
        return 78


class _Nothing:
    """In the place of the parser of another command, which takes longer to make than to use."""

    def __getattr__(self, _: str) -> _Nothing:
        return self

    def __call__(self, *_: object, **__: object) -> _Nothing:
        return self


def _common(parser: argparse.ArgumentParser, *, top: bool) -> None:
    """Options that may stand before or after the command's name."""

    def default(value: object) -> object:
        return value if top else argparse.SUPPRESS

    group = parser.add_argument_group("common options")
    group.add_argument(
        "-C", dest="folder_of_analysis", metavar="DIR", type=Path, default=default(Path()), help="work in DIR"
    )
    group.add_argument(
        "--offline",
        action="store_true",
        default=default(False),
        help="open no connection; use what is cached",
    )
    group.add_argument("-q", "--quiet", action="store_true", default=default(False), help="no progress")
    group.add_argument(
        "--debug", action="store_true", default=default(False), help="show tracebacks of defects"
    )


def _environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-e", "--environment", metavar="ENV", help="which environment")


def _running(parser: argparse.ArgumentParser) -> None:
    """What ``run`` and ``shell`` have in common."""
    _environment(parser)
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
    _locked(parser)
    _allow_dirty(parser)


def _locked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--locked", action="store_true", help="fail if the lock does not fit, instead of locking"
    )


def _allow_dirty(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-dirty", action="store_true", help="accept a checkout with changes that are not committed"
    )


def _attaching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-attach",
        action="store_true",
        help="do not attach lock, manifest, bill of materials and provenance to what is pushed",
    )
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign what is pushed with the private key in KEY"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
