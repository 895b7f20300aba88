"""A control group that holds the number of processes down, for root.

The kernel does not apply ``RLIMIT_NPROC`` to root, and what forks without end is faster than any watch.
Where root may make a control group with the controller ``pids`` (Linux, Documentation/admin-guide:
cgroup-v2.rst, cgroup-v1/pids.rst), the command runs in one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_OLD = 60.0  # seconds after which a group with no process was left over
_PLACES = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")  # version 1, version 2


@contextlib.contextmanager
def process_group(limit: int) -> Iterator[Path | None]:
    """A control group for at most ``limit`` processes and threads; None where there can be none."""
    group = _make(limit) if os.geteuid() == 0 else None
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _make(limit: int) -> Path | None:
    for place in _PLACES:
        _remove_left_over(Path(place))
        group = Path(place, f"afenv-{os.getpid()}-{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / "pids.max").write_text(str(limit))
            except OSError:
                group.rmdir()
                continue
            return group
    return None


def _remove_left_over(place: Path) -> None:
    """Remove the groups of processes that were killed; one that is in use cannot be removed."""
    with contextlib.suppress(OSError):
        for group in place.glob("afenv-*-*"):
            gone = not Path("/proc", group.name.split("-")[1]).exists()
            if gone and time.time() - group.stat().st_mtime > _OLD:
                with contextlib.suppress(OSError):
                    group.rmdir()


def _remove(group: Path) -> None:
    for _ in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)  # the last process is not quite gone
        else:
            return


def was_reached(group: Path) -> bool:
    """Whether something was not started because of the limit."""
    try:
        words = (group / "pids.events").read_text().split()
    except OSError:
        return False
    return "max" in words and words[words.index("max") + 1] != "0"
