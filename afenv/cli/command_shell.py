"""``afenv shell``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.command_run import run_in

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec /bin/sh")


def run(options: Namespace) -> int:
    """Start a shell in the environment; its exit status is ours."""
    return run_in(options, SHELL, entrypoint=False)
