"""How the store knows, with one ``stat``, that a blob is still what was hashed.

A blob that was hashed, and whose content has reached the disk, gets a modification time that is computed
from its digest, its size and its inode: the *mark*. Whoever changes the content moves that time to now;
a copy, a restored backup and a file put in its place have another inode. So a blob with its mark need not
be read again, and any other is hashed before it is used. A crash cannot leave a mark on content that did
not reach the disk, because the mark is set after the content was synced.

The marks lie in the years 2001 to 2018, in whole seconds, so that every file system keeps them, no tool
warns of times in the future, and the present time is never one of them. The access time is free to tell
when a blob was used last. This finds accidents; who can write the cache and wants to deceive can.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

EPOCH = 1_000_000_000  # 2001-09-09, in seconds since 1970
SPAN = 1 << 29  # seconds: about 17 years
DAY = 86_400.0  # seconds; the last use is known to about a day


def mark(digest: str, status: os.stat_result) -> int:
    """The modification time, in seconds since 1970, of a blob with that digest that was checked."""
    mixed = (
        int(digest[-16:], 16) ^ (status.st_ino * 0x9E3779B97F4A7C15) ^ (status.st_size * 0xC2B2AE3D27D4EB4F)
    )
    return EPOCH + (mixed >> 7) % SPAN


def is_marked(digest: str, status: os.stat_result) -> bool:
    """Whether the blob was checked and has not changed since."""
    return status.st_mtime_ns == mark(digest, status) * 1_000_000_000


def set_mark(path: Path | str, digest: str, status: os.stat_result, *, used: float | None = None) -> None:
    """Say that the blob was checked and is on the disk; nothing happens where that is not allowed.

    ``used`` is the time of its last use, in seconds since 1970; now if it is not given.
    """
    with contextlib.suppress(OSError):
        os.utime(path, (time.time() if used is None else used, mark(digest, status)))


def touch(path: Path | str, digest: str, status: os.stat_result) -> None:
    """Note that a marked blob is used; at most once a day, and where that is allowed."""
    if time.time() - status.st_atime > DAY:
        set_mark(path, digest, status)
