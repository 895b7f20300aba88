"""How results are printed."""

from __future__ import annotations

import sys
from typing import Any


def print_json(value: Any) -> None:
    """One JSON value, indented, for programs and people alike."""
    from afenv import canonical

    sys.stdout.write(canonical.indented(value).decode())


def say(text: str, *, quiet: bool = False) -> None:
    """A remark for people, on standard error, so that standard output stays for results."""
    if not quiet:
        print(text, file=sys.stderr)
