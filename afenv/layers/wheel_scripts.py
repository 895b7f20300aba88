"""Commands of wheels: entry points, and scripts whose first line names a Python.

Sources: the entry points specification and the binary distribution format of PyPA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from afenv.errors import AfenvError

PLACEHOLDER = b"#!python"

_REFERENCE = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<attribute>\w+(?:\.\w+)*)\s*(?:\[.*\])?\Z")
_NAME = re.compile(r"[^/\\\0\s](?:[^/\\\0\n]*[^/\\\0\s])?\Z")

_SCRIPT = """\
#!{executable}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


class EntryPoint(NamedTuple):
    """A command: what to call, in which module."""

    name: str
    module: str
    attribute: str


def commands(text: str, place: str) -> Iterator[EntryPoint]:
    """The commands (``console_scripts`` and ``gui_scripts``) of an ``entry_points.txt``; E303, E304."""
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section in ("console_scripts", "gui_scripts"):
            name, separator, reference = (part.strip() for part in line.partition("="))
            match = _REFERENCE.match(reference)
            if not separator or match is None:
                raise AfenvError("E303", f"the entry point {line!r} names no function", place=place)
            if not _NAME.match(name) or name in (".", ".."):
                raise AfenvError("E304", f"the entry point {name!r} is not a file name", place=place)
            yield EntryPoint(name, match["module"], match["attribute"])


def script(entry: EntryPoint, executable: str) -> bytes:
    """The text of the command."""
    return _SCRIPT.format(
        executable=executable,
        module=entry.module,
        first=entry.attribute.partition(".")[0],
        attribute=entry.attribute,
    ).encode()


def with_executable(content: bytes, executable: str) -> bytes:
    """A script of a wheel with its placeholder line replaced."""
    _, newline, rest = content.partition(b"\n")
    return b"#!" + executable.encode() + (newline or b"\n") + rest
