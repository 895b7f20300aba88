"""Put a blob's content at another path: shared with the store where the file system can, else copied."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

FICLONE = 0x40049409  # linux/fs.h: share all blocks with another file


def place(source: Path, target: Path) -> None:
    """Make ``target`` a file with the content of ``source``; it appears complete, or not at all.

    It is a hard link if that is possible, else a copy that shares blocks, else a copy. What was at
    ``target`` is replaced. Raises OSError.
    """
    try:
        target.hardlink_to(source)
        return
    except FileNotFoundError:
        raise
    except OSError:
        pass  # it exists, or the file system or its owner does not allow links
    beside = target.parent / f".{target.name[:64]}.{os.urandom(8).hex()}"
    try:
        try:
            beside.hardlink_to(source)
        except OSError:
            _copy(source, beside)
        beside.replace(target)
    finally:
        # Where target was a link to source already, rename(2) does nothing and leaves this one.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), FICLONE, original.fileno())
        except OSError:
            while data := original.read(1 << 20):
                copy.write(data)
        os.fchmod(copy.fileno(), 0o444)
