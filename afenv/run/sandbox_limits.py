"""How much a command in the sandbox may use. The limits change no byte of what is built.

============================ ========================================================================
``AFENV_BUILD_TIME``         seconds that one command may take; default 3600
``AFENV_BUILD_MEMORY``       memory of all its processes together; default four fifths of the machine's
``AFENV_BUILD_DISK``         what it may write; default 20G, or four fifths of what is free if that is less
``AFENV_BUILD_PROCESSES``    how many processes and threads it may have at once; default 4096
============================ ========================================================================

Sizes are bytes, or have one of the endings ``K``, ``M``, ``G``, ``T`` (powers of 1024).
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from afenv.errors import AfenvError

_SIZE = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a command may use: seconds, bytes of memory and of disk, number of processes."""

    time: float
    memory: int
    disk: int
    processes: int


def parse_size(text: str, place: str) -> int:
    """A number of bytes such as ``500M``; E030 if it is not one."""
    match = _SIZE.match(text.strip())
    if not match or not int(match[1]):
        raise AfenvError("E030", f"{text!r} is not a size such as 500M or 8G", place=place)
    return int(match[1]) << 10 * "KMGT".find(match[2].upper() or "?") + 10 if match[2] else int(match[1])


def load_limits(folder: Path) -> Limits:
    """The limits of this host, for work in ``folder``; E030 if a variable cannot be understood."""
    environment = os.environ
    size = {
        name: parse_size(text, name)
        for name in ("AFENV_BUILD_MEMORY", "AFENV_BUILD_DISK")
        if (text := environment.get(name))
    }
    count = {"AFENV_BUILD_TIME": 3600, "AFENV_BUILD_PROCESSES": 4096}
    for name in count:
        if text := environment.get(name):
            if not (text.isascii() and text.isdigit() and int(text)):
                raise AfenvError("E030", f"{text!r} is not a whole number above 0", place=name)
            count[name] = int(text)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Limits(
        time=count["AFENV_BUILD_TIME"],
        memory=size.get("AFENV_BUILD_MEMORY", memory * 4 // 5),
        disk=size.get("AFENV_BUILD_DISK", min(20 << 30, shutil.disk_usage(folder).free * 4 // 5)),
        processes=count["AFENV_BUILD_PROCESSES"],
    )
