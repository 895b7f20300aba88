"""Debian versions and their order (Debian Policy 5.6.12)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_PART = re.compile(r"(\D*)(\d*)")

VersionKey = tuple[Any, ...]


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _part_key(text: str) -> VersionKey:
    """The order of an upstream version or a revision: text and numbers in turn, each text ended by 0.

    The end weighs more than ``~`` and less than everything else.
    """
    return tuple(
        (*map(_weight, letters), 0) if place == 0 else int(digits or 0)
        for letters, digits in _PART.findall(text or "0")
        for place in (0, 1)
    )


@lru_cache(maxsize=65536)
def version_key(version: str) -> VersionKey:
    """What versions are sorted by; equal keys mean equal versions. A missing epoch or revision is 0."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    number = int(epoch) if epoch.isdecimal() else 0
    return number, _part_key(upstream), _part_key(revision)


def satisfies(version: str, operator: str, bound: str) -> bool:
    """Whether ``version`` stands in the relation to ``bound`` (one of ``<< <= = >= >>``)."""
    found, limit = version_key(version), version_key(bound)
    match operator:
        case "=":
            return found == limit
        case ">=":
            return found >= limit
        case "<=":
            return found <= limit
        case ">>":
            return found > limit
        case "<<":
            return found < limit
    raise ValueError(f"{operator!r} is not a relation between versions")
