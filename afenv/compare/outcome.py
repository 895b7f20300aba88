"""What a comparison finds: of parts, of files, of the whole.

An outcome is one of five: ``identical`` (the same bytes), ``same`` (within the limits), ``different``,
``incomparable`` (there is no meaning in which they can be compared) and ``ignored``. The verdict on several
is that of the worst: a difference outweighs what cannot be compared, for it is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from afenv.record import field, record

IDENTICAL, SAME, DIFFERENT, INCOMPARABLE, IGNORED = (
    "identical",
    "same",
    "different",
    "incomparable",
    "ignored",
)
PARTS_KEPT = 1000  # in the verdict of one file


@record
class Part:
    """One thing inside a file that was compared: a histogram, a branch, a number that differs.

    ``measures`` are numbers that say how far apart the two are; ``first`` and ``second`` the values of what
    is one value; ``plot`` is what the report shows, and no part of the verdict.
    """

    path: str
    kind: str
    outcome: str
    reason: str | None = None
    message: str | None = None
    first: Any = None
    second: Any = None
    measures: Mapping[str, Any] = field(default_factory=dict)
    plot: Any = None

    def as_json(self) -> dict[str, Any]:
        """The part as the verdict has it."""
        found: dict[str, Any] = {"path": self.path, "kind": self.kind, "outcome": self.outcome}
        for name in ("reason", "message", "first", "second"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.measures:
            found["measures"] = dict(self.measures)
        return found


@record
class Content:
    """What two files of one kind have in common and what not. ``compared`` counts all parts."""

    kind: str
    parts: tuple[Part, ...] = ()
    compared: int = 0
    outcome: str | None = None
    reason: str | None = None
    message: str | None = None
    plot: Any = None


def verdict(outcomes: Iterable[str]) -> str:
    """``same``, ``different`` or ``incomparable``."""
    found = set(outcomes)
    if DIFFERENT in found:
        return DIFFERENT
    return INCOMPARABLE if INCOMPARABLE in found else SAME


class Unreadable(Exception):
    """A file is not what its name says, or is damaged: ``side`` is ``first``, ``second`` or ``both``."""

    def __init__(self, side: str, message: str) -> None:
        super().__init__(message)
        self.side = side
        self.message = message
