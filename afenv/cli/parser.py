"""The grammar of the command line. Nothing here imports more than argparse."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import cast

import afenv
from afenv.cli.parser_archive import add_archive, add_restore
from afenv.cli.parser_building import add_build, add_lock
from afenv.cli.parser_common import add_common, help_width
from afenv.cli.parser_compare import add_compare
from afenv.cli.parser_export import add_export, add_import
from afenv.cli.parser_facility import add_facility
from afenv.cli.parser_images import add_images, add_keeping, add_signing
from afenv.cli.parser_rerun import add_rerun
from afenv.cli.parser_running import add_run
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
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=help_width()),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"afenv {afenv.__version__}")
    add_common(parser, top=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="afenv")

    def command(name: str, text: str, detail: str = "") -> argparse.ArgumentParser:
        if only is not None and name != only:
            return cast("argparse.ArgumentParser", _Nothing())
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.{' ' if detail else ''}{detail}",
            formatter_class=partial(argparse.HelpFormatter, width=help_width()),
            allow_abbrev=False,
        )
        add_common(sub, top=False)
        return sub

    add_lock(command)
    add_export(command)
    add_import(command)

    add_build(command)
    add_run(command)
    add_rerun(command)
    add_compare(command)
    add_images(command)
    add_signing(command)
    add_archive(command)
    add_restore(command)
    add_submit(command)

    add_keeping(command)
    add_facility(command)

    if only in (None, "cvmfs"):
        from afenv.cli.parser_cvmfs import add_cvmfs

        add_cvmfs(command)

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


class _Nothing:
    """In the place of the parser of another command, which takes longer to make than to use."""

    def __getattr__(self, _: str) -> _Nothing:
        return self

    def __call__(self, *_: object, **__: object) -> _Nothing:
        return self
