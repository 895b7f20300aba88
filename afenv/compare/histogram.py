"""Two histograms: bin by bin, then by χ² and Kolmogorov's test."""

from __future__ import annotations

from typing import Any

from afenv.compare.arrays import apart
from afenv.compare.outcome import DIFFERENT, INCOMPARABLE, SAME, Part
from afenv.compare.rules import Limits
from afenv.compare.statistics import chi2_test, compatible, ks_test
from afenv.record import field, record

EDGE = 1e-9  # edges of bins are the same within this share of the width of the axis


@record
class Histogram:
    """Contents and variances with underflow and overflow in each dimension, and the edges of bins.

    ``profile``: the contents are means, not sums. ``labels`` are those of the bins of each axis, or None.
    ``variances`` None: they are those of counted events.
    """

    edges: tuple[Any, ...]
    values: Any
    variances: Any = None
    profile: bool = False
    labels: tuple[Any, ...] = ()
    title: str = ""
    axes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def errors2(self) -> Any:
        """The variances."""
        return abs(self.values) if self.variances is None else self.variances


@record
class HistogramPlot:
    """What the report draws: both histograms."""

    first: Histogram
    second: Histogram


def compare_histograms(path: str, kind: str, first: Histogram, second: Histogram, limits: Limits) -> Part:
    """Compare two histograms; other bins than the other's are not comparable."""
    problem = _binning(first, second)
    if problem is not None:
        return Part(path=path, kind=kind, outcome=INCOMPARABLE, reason="binning", message=problem)
    import numpy as np

    with np.errstate(all="ignore"):
        contents = apart(first.values, second.values, limits)
        errors = apart(np.sqrt(first.errors2), np.sqrt(second.errors2), limits)
    measures: dict[str, Any] = contents.measures()
    chi2 = chi2_test(first.values, first.errors2, second.values, second.errors2)
    if chi2 is not None:
        measures["chi2"] = chi2
    if len(first.edges) == 1 and not first.profile:
        inside = (first.values[1:-1], first.errors2[1:-1], second.values[1:-1], second.errors2[1:-1])
        ks = ks_test(*inside)
        if ks is not None:
            measures["ks"] = ks
    plot = HistogramPlot(first=first, second=second)
    if not contents.different and not errors.different:
        return Part(path=path, kind=kind, outcome=SAME, measures=measures, plot=plot)
    if contents.different:
        message = f"{contents.different} of {contents.compared} bins differ"
        reason = "contents"
    else:
        message = f"the errors of {errors.different} of {errors.compared} bins differ"
        reason = "errors"
        measures["differing_errors"] = errors.different
    if compatible(measures, limits.chi2, limits.ks):
        return Part(
            path=path,
            kind=kind,
            outcome=SAME,
            reason="statistics",
            message=f"{message}, within statistics",
            measures=measures,
            plot=plot,
        )
    return Part(
        path=path, kind=kind, outcome=DIFFERENT, reason=reason, message=message, measures=measures, plot=plot
    )


def _binning(first: Histogram, second: Histogram) -> str | None:
    """Why the bins are not the same, if they are not."""
    import numpy as np

    if len(first.edges) != len(second.edges):
        return f"{len(first.edges)} and {len(second.edges)} dimensions"
    if first.profile != second.profile:
        return "a profile and a histogram"
    for number, (a, b) in enumerate(zip(first.edges, second.edges, strict=True)):
        axis = "xyz"[number]
        if len(a) != len(b):
            return f"{len(a) - 1} and {len(b) - 1} bins in {axis}"
        width = float(abs(a[-1] - a[0]))
        if not np.allclose(a, b, rtol=0, atol=EDGE * width):
            at = int(np.argmax(np.abs(a - b)))
            return f"other edges of bins in {axis}: {a[at]:g} and {b[at]:g}"
    if first.labels != second.labels:
        return "other labels of bins"
    return None
