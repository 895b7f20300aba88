"""CVMFS: what an image says that it needs of it, and the mount that gives it.

An image whose environment takes software from CVMFS at run time has the label :data:`LABEL` with the names
of the repositories, separated by spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from afenv.errors import AfenvError
from afenv.run.request import Mount

LABEL = "org.afenv.cvmfs"
ROOT = Path("/cvmfs")


def repositories(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The repositories that an image with these labels needs, sorted."""
    return tuple(sorted(set(labels.get(LABEL, "").split())))


def cvmfs_mounts(labels: Mapping[str, str], root: Path = ROOT) -> tuple[Mount, ...]:
    """The mount of CVMFS for an image with these labels; none if it needs none.

    Looking at a repository's folder makes the automounter mount it. E506 for one that is not there.
    """
    for name in repositories(labels):
        if not (root / name).is_dir():
            raise AfenvError(
                "E506", f"the environment takes software from {root / name}, which this host does not have"
            )
    if not repositories(labels):
        return ()
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        mounts = ""
    return (Mount(root, "/cvmfs", read_only=True, follow=is_shared(mounts, str(root))),)


def is_shared(mounts: str, path: str) -> bool:
    """Whether what is mounted below ``path`` later on can be made to appear elsewhere too; pure.

    ``mounts`` is the text of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)). Engines refuse to follow a
    mount that is neither shared nor a slave.
    """
    best, found = "", False
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 7 or "-" not in fields:
            continue
        point = fields[4]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            options = fields[6 : fields.index("-")]
            best, found = point, any(word.startswith(("shared:", "master:")) for word in options)
    return found
