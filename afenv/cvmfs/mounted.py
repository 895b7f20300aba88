"""What a mounted repository says of itself, by its extended attributes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from afenv.record import record

ROOT = Path("/cvmfs")
NAMES = ("fqrn", "root_hash", "revision", "tag", "host", "host_list")


@record
class Mounted:
    """A mounted repository: its revision and root hash, and the tag if it was mounted by one."""

    root_hash: str
    revision: int
    tag: str | None = None


def attributes(repository: str, root: Path = ROOT) -> dict[str, str]:
    """The extended attributes ``user.…`` of a repository's root; empty where it is not mounted."""
    found = {}
    for name in NAMES:
        try:
            value = os.getxattr(root / repository, f"user.{name}")
        except (OSError, AttributeError):
            continue
        found[name] = value.decode("utf-8", "replace").strip("\0\n ")
    return found


def mounted(values: Mapping[str, str]) -> Mounted | None:
    """What the attributes say; None unless they are those of a mounted repository."""
    revision = values.get("revision", "")
    if not values.get("root_hash") or not revision.isdecimal():
        return None
    return Mounted(root_hash=values["root_hash"], revision=int(revision), tag=values.get("tag") or None)
