"""Trees and RNTuples: branch by branch, in pieces of bounded size; lists of any depth inside.

Where a branch differs, its values are filled into bins, for χ², Kolmogorov's test, and the report's plot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from afenv.compare.arrays import Apart, apart
from afenv.compare.histogram import Histogram, HistogramPlot
from afenv.compare.outcome import DIFFERENT, IGNORED, INCOMPARABLE, SAME, Part
from afenv.compare.rules import Limits
from afenv.compare.statistics import chi2_test, compatible, ks_test

PIECE = 32 << 20  # bytes of a branch that are read at once
ENTRIES = 500_000  # entries, where the bytes are not known
BINS = 60

Leaves = list[tuple[str, Any, bool]]  # where in the type, the values, whether they are compared exactly


def compare_trees(
    path: str, kind: str, first: Any, second: Any, limits: Callable[[str], Limits]
) -> Iterator[Part]:
    """Compare two trees: the number of entries, which branches there are, and the values of each."""
    one, other = _branches(first), _branches(second)
    entries = (int(first.num_entries), int(second.num_entries))
    own = limits(path)
    if entries[0] != entries[1] and own.chi2 is None and own.ks is None:
        message = f"{entries[0]} and {entries[1]} entries"
        yield Part(path=path, kind=kind, outcome=DIFFERENT, reason="entries", message=message)
    elif not one and not other:
        yield Part(path=path, kind=kind, outcome=SAME, measures={"entries": entries[0]})
    for name in dict.fromkeys((*one, *other)):
        place = f"{path}/{name}"
        here = limits(place)
        if here.ignore:
            yield Part(path=place, kind="branch", outcome=IGNORED)
        elif name not in one or name not in other:
            which = "first" if name in one else "second"
            message = f"only in the {which}"
            yield Part(path=place, kind="branch", outcome=DIFFERENT, reason="missing", message=message)
        else:
            yield _branch(place, one[name], other[name], entries, here)


def _branches(tree: Any) -> dict[str, Any]:
    """The branches that hold values, by their names."""
    if not hasattr(tree, "branches"):  # an RNTuple: its fields, each with what is inside
        return {name: tree[name] for name in tree.keys(recursive=False)}
    branches = tree.iteritems(recursive=True, full_paths=True)
    return {name: branch for name, branch in branches if not branch.branches}


def _branch(path: str, first: Any, second: Any, entries: tuple[int, int], limits: Limits) -> Part:
    try:
        types = [str(one.typename) for one in (first, second)]
        if entries[0] == entries[1]:
            found = _values(first, second, entries[0], limits)
        else:
            found = Apart(compared=0, different=1)
    except _OtherTypes as error:
        message = f"{error.args[0]} and {error.args[1]}"
        return Part(path=path, kind="branch", outcome=INCOMPARABLE, reason="types", message=message)
    except (MemoryError, OverflowError) as error:
        message = str(error) or "it is too large"
        return Part(path=path, kind="branch", outcome=INCOMPARABLE, reason="too-large", message=message)
    except Exception as error:  # noqa: BLE001 - uproot raises nearly anything
        lines = str(error).strip().splitlines() or [""]
        message = f"{' and '.join(dict.fromkeys(types))}: {type(error).__name__} {lines[0][:160]}"
        return Part(path=path, kind="branch", outcome=INCOMPARABLE, reason="unreadable", message=message)
    measures: dict[str, Any] = found.measures() if entries[0] == entries[1] else {}
    if not found.different:
        return Part(path=path, kind="branch", outcome=SAME, measures=measures)
    plot = _distributions(first, second, entries)
    if plot is not None:
        a, b = plot.first, plot.second
        tests = {
            "chi2": chi2_test(a.values, a.errors2, b.values, b.errors2),
            "ks": ks_test(a.values[1:-1], a.errors2[1:-1], b.values[1:-1], b.errors2[1:-1]),
        }
        measures |= {name: test for name, test in tests.items() if test is not None}
    if entries[0] == entries[1]:
        message = f"{found.different} of {found.compared} values differ"
        reason = "values"
    else:
        message, reason = f"{entries[0]} and {entries[1]} entries", "entries"
    if compatible(measures, limits.chi2, limits.ks):
        outcome, reason, message = SAME, "statistics", f"{message}, within statistics"
    else:
        outcome = DIFFERENT
    return Part(
        path=path,
        kind="branch",
        outcome=outcome,
        reason=reason,
        message=message,
        measures=measures,
        plot=plot,
    )


class _OtherTypes(Exception):
    """The values of two branches have other types."""


def _pieces(branch: Any, entries: int) -> Iterator[tuple[int, int]]:
    size = int(getattr(branch, "uncompressed_bytes", 0) or 0)
    step = max(1000, PIECE * entries // size) if size else ENTRIES
    for start in range(0, entries, step):
        yield start, min(entries, start + step)


def _read(branch: Any, start: int, stop: int) -> Any:
    return branch.array(entry_start=start, entry_stop=stop, library="ak")


def _values(first: Any, second: Any, entries: int, limits: Limits) -> Apart:
    found = Apart(compared=0, different=0)
    for start, stop in _pieces(first, entries):
        one, other = (_leaves(_read(branch, start, stop)) for branch in (first, second))
        found = found.plus(_compare_leaves(one, other, limits))
    return found


def _compare_leaves(first: Leaves, second: Leaves, limits: Limits) -> Apart:
    if [place for place, _, _ in first] != [place for place, _, _ in second]:
        raise _OtherTypes(_type_of(first), _type_of(second))
    found = Apart(compared=0, different=0)
    for (_, one, exact), (_, other, _) in zip(first, second, strict=True):
        if len(one) != len(other):
            return Apart(compared=max(len(one), len(other)), different=abs(len(one) - len(other)), at=0)
        here = apart(one, other, limits, exact=exact)
        if exact and here.different:  # lists of other lengths: what is inside does not correspond
            return here
        if not exact or here.different:
            found = found.plus(here)
    return found


def _type_of(leaves: Leaves) -> str:
    return ", ".join(place for place, _, _ in leaves)


def _leaves(array: Any) -> Leaves:
    """The numbers of an array of awkward, and the lengths of the lists that they are in."""
    import awkward

    found: Leaves = []
    _walk(awkward.to_packed(array).layout, "", found)
    return found


def _walk(layout: Any, place: str, found: Leaves) -> None:
    import numpy as np

    text = layout.parameter("__array__") in ("char", "byte")
    if layout.is_numpy:
        kind = "text" if text else {"b": "truth values"}.get(layout.data.dtype.kind, "numbers")
        found.append((f"{place}{kind}", np.asarray(layout.data).ravel(), text))
    elif layout.is_record:
        for name, content in zip(layout.fields, layout.contents, strict=True):
            _walk(content, f"{place}.{name}: ", found)
    elif layout.is_list:
        packed = layout.to_ListOffsetArray64(True)
        offsets = np.asarray(packed.offsets)
        found.append((f"{place}list of ", np.diff(offsets), True))
        _walk(packed.content[: offsets[-1]], f"{place}list of ", found)
    elif layout.is_option:
        mask = np.asarray(layout.mask_as_bool(valid_when=True))
        found.append((f"{place}optional ", mask, True))
        _walk(layout.project(), f"{place}optional ", found)
    elif layout.is_indexed:
        _walk(layout.project(), place, found)
    elif layout.is_unknown:
        found.append((f"{place}nothing", np.zeros(0), True))
    else:
        raise NotImplementedError(f"values of the form {type(layout).__name__}")


def _distributions(first: Any, second: Any, entries: tuple[int, int]) -> HistogramPlot | None:
    """The values of both in the same bins; None if they are no numbers, or no finite ones."""
    import numpy as np

    low, high = math.inf, -math.inf
    for branch, count in zip((first, second), entries, strict=True):
        for values in _numbers(branch, count):
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        return None
    if high == low:
        width = abs(low) * 0.1 or 1.0
        low, high = low - width, high + width
    edges = np.linspace(low, high, BINS + 1)
    filled = []
    for branch, count in zip((first, second), entries, strict=True):
        contents = np.zeros(BINS + 2)
        for values in _numbers(branch, count):
            contents[1:-1] += np.histogram(values, bins=edges)[0]
        filled.append(Histogram(edges=(edges,), values=contents))
    return HistogramPlot(first=filled[0], second=filled[1])


def _numbers(branch: Any, entries: int) -> Iterator[Any]:
    """The finite numbers of a branch that has one leaf of numbers, piece by piece."""
    import numpy as np

    for start, stop in _pieces(branch, entries):
        leaves = [values for _, values, exact in _leaves(_read(branch, start, stop)) if not exact]
        if len(leaves) != 1 or leaves[0].dtype.kind not in "iufb":
            return
        values = leaves[0].astype(np.float64, copy=False)
        yield values[np.isfinite(values)]
