"""CVMFS: what an image says that it needs of it, and the mount that gives it.

An image whose environment takes software from CVMFS at run time has the label :data:`LABEL` with the names
of the repositories, separated by spaces, and :data:`REVISIONS` with the revisions that were locked:
``NAME=REVISION:ROOT_HASH``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from afenv.cvmfs.mounted import attributes, mounted
from afenv.errors import AfenvError, Problem
from afenv.record import record
from afenv.run.request import Mount

LABEL = "org.afenv.cvmfs"
REVISIONS = "org.afenv.cvmfs.revisions"
ROOT = Path("/cvmfs")


def repositories(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The repositories that an image with these labels needs, sorted."""
    return tuple(sorted(set(labels.get(LABEL, "").split())))


@record
class NeededRevision:
    """A repository that must be mounted, and the revision that was locked, if that is told."""

    name: str
    revision: int | None = None
    root_hash: str | None = None


def needed_revisions(labels: Mapping[str, str]) -> tuple[NeededRevision, ...]:
    """The repositories that an image with these labels needs, sorted, with the revisions that it tells."""
    told = {}
    for word in labels.get(REVISIONS, "").split():
        name, _, value = word.partition("=")
        revision, _, root_hash = value.partition(":")
        if revision.isdecimal():
            told[name] = NeededRevision(name=name, revision=int(revision), root_hash=root_hash or None)
    return tuple(told.get(name) or NeededRevision(name=name) for name in repositories(labels))


def other_revisions(labels: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """What is mounted at another revision than the one that was locked: a sentence each."""
    found = []
    for needed in needed_revisions(labels):
        if needed.revision is None and needed.root_hash is None:
            continue
        here = mounted(attributes(needed.name, root))
        locked = f"revision {needed.revision} is locked"
        if here is None:
            found.append(f"{root / needed.name} does not tell its revision; {locked}")
        elif here.root_hash != needed.root_hash:
            found.append(f"{root / needed.name} is mounted at revision {here.revision}, and {locked}")
    return found


def check_revisions(
    labels: Mapping[str, str], *, strict: bool, warn: Callable[[str], object], root: Path = ROOT
) -> None:
    """Warn of what is mounted at another revision than the locked one; with ``strict``, E148."""
    wrong = other_revisions(labels, root)
    if wrong and strict:
        raise AfenvError.many([Problem("E148", message) for message in wrong])
    for message in wrong:
        warn(message)


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
