"""Arrays of numbers: how many values are not the same, and how far apart they are."""

from __future__ import annotations

from typing import Any

from afenv.compare.rules import Limits
from afenv.record import record


@record
class Apart:
    """How far two arrays of one shape are apart; ``at`` is the flat index of the first difference."""

    compared: int
    different: int
    absolute: float = 0.0
    relative: float = 0.0
    at: int | None = None

    def measures(self) -> dict[str, Any]:
        """As the verdict has it."""
        found: dict[str, Any] = {"compared": self.compared, "differing": self.different}
        if self.absolute:
            found |= {"absolute": self.absolute, "relative": self.relative}
        return found

    def plus(self, other: Apart) -> Apart:
        """This and what comes behind it."""
        return Apart(
            compared=self.compared + other.compared,
            different=self.different + other.different,
            absolute=max(self.absolute, other.absolute),
            relative=max(self.relative, other.relative),
            at=self.at if self.at is not None or other.at is None else self.compared + other.at,
        )


def apart(first: Any, second: Any, limits: Limits, *, exact: bool = False) -> Apart:
    """Compare two arrays of one shape, of numbers, booleans or texts.

    ``exact`` compares as :func:`~afenv.compare.numbers.close` does with tolerances of zero.
    """
    import numpy as np

    first, second = np.asarray(first).ravel(), np.asarray(second).ravel()
    count = int(first.size)
    if first.dtype.kind in "iufc" and second.dtype.kind in "iufc":
        equal, absolute, relative = _numbers(np, first, second, limits, exact)
    else:
        equal, absolute, relative = first == second, 0.0, 0.0
    wrong = np.flatnonzero(~equal)
    at = int(wrong[0]) if wrong.size else None
    return Apart(compared=count, different=int(wrong.size), absolute=absolute, relative=relative, at=at)


def _numbers(np: Any, first: Any, second: Any, limits: Limits, exact: bool) -> tuple[Any, float, float]:
    equal = first == second
    if equal.all():
        return equal, 0.0, 0.0
    kind = np.result_type(first.dtype, second.dtype, np.float64)
    with np.errstate(all="ignore"):
        a, b = first.astype(kind, copy=False), second.astype(kind, copy=False)
        equal |= np.isnan(a) & np.isnan(b)
        finite = np.isfinite(a) & np.isfinite(b)
        difference = np.abs(a - b)
        largest = np.maximum(np.abs(a), np.abs(b))
        counts = finite & ~equal & np.isfinite(difference)
        if not exact:
            equal |= counts & (difference <= np.maximum(limits.absolute, limits.relative * largest))
        absolute = float(difference[counts].max(initial=0.0))
        relative = float((difference[counts] / largest[counts]).max(initial=0.0))
    return equal, absolute, relative
