"""A result is the same as itself, and exchanging two changes no verdict."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from afenv.compare.arrays import apart
from afenv.compare.histogram import Histogram, compare_histograms
from afenv.compare.numbers import Tree, close
from afenv.compare.rules import Limits
from afenv.compare.statistics import chi2_probability, kolmogorov_probability
from afenv.compare.tables import compare_csv, compare_text, read_csv

NUMBERS = st.floats() | st.integers(-(2**70), 2**70)
LEAVES = NUMBERS | st.none() | st.booleans() | st.text(max_size=4)
TREES = st.recursive(
    LEAVES,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=2), inside, max_size=3),
)
LIMITS = st.builds(
    lambda relative, absolute, chi2, ks: Limits(relative=relative, absolute=absolute, chi2=chi2, ks=ks),
    st.sampled_from([0.0, 1e-9, 0.1]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([None, 0.05]),
    st.sampled_from([None, 0.05]),
)


@given(NUMBERS, NUMBERS, LIMITS)
def test_numbers(first: float, second: float, limits: Limits) -> None:
    assert close(first, first, limits)
    assert close(first, second, limits) == close(second, first, limits)


@given(TREES, TREES, LIMITS)
def test_trees(first: Any, second: Any, limits: Limits) -> None:
    def outcome(one: Any, other: Any) -> str | None:
        return Tree("json", lambda _: limits).compare(one, other).outcome

    assert outcome(first, json.loads(json.dumps(first))) is None
    assert outcome(first, second) == outcome(second, first)


ARRAYS = st.integers(1, 6).flatmap(
    lambda size: st.tuples(*[arrays.arrays(np.float64, size, elements=st.floats(width=32)) for _ in "ab"])
)


@given(ARRAYS, LIMITS)
def test_arrays_agree_with_numbers(pair: tuple[Any, Any], limits: Limits) -> None:
    first, second = pair
    found = apart(first, second, limits)
    assert found == apart(second, first, limits)
    assert not apart(first, first, limits).different
    assert found.different == sum(
        not close(float(a), float(b), limits) for a, b in zip(first, second, strict=True)
    )


@given(ARRAYS, LIMITS)
def test_histograms(pair: tuple[Any, Any], limits: Limits) -> None:
    first, second = (
        Histogram(edges=(np.arange(len(values) + 1.0),), values=np.concatenate([[0], values, [1]]))
        for values in pair
    )
    there = compare_histograms("h", "TH1D", first, second, limits)
    back = compare_histograms("h", "TH1D", second, first, limits)
    assert (there.outcome, there.reason) == (back.outcome, back.reason)
    same = compare_histograms("h", "TH1D", first, first, limits)
    assert same.outcome == "same"
    for test in ("chi2", "ks"):
        if test in same.measures:
            assert same.measures[test]["probability"] == 1
        if test in there.measures:
            assert 0 <= there.measures[test]["probability"] <= 1


CELLS = st.lists(
    st.lists(st.sampled_from(["1", "1.0", "2", "a", "nan", ""]), min_size=2, max_size=2), max_size=4
)


@given(CELLS, CELLS)
def test_tables_and_text(first: Any, second: Any) -> None:
    texts = ["m,n\n" + "".join(",".join(row) + "\n" for row in rows) for rows in (first, second)]
    one, other = map(read_csv, texts)
    assume(one and other)
    limits = Limits()
    assert compare_csv(one, one, lambda _: limits).outcome is None
    assert (
        compare_csv(one, other, lambda _: limits).outcome == compare_csv(other, one, lambda _: limits).outcome
    )
    assert compare_text(texts[0], texts[0], limits).outcome is None
    assert compare_text(*texts, limits).outcome == compare_text(texts[1], texts[0], limits).outcome


@given(st.floats(0, 1e6), st.integers(1, 1000), st.floats(0, 1))
def test_probabilities_fall(chi2: float, ndf: int, more: float) -> None:
    probability = chi2_probability(chi2, ndf)
    assert 0 <= probability <= 1
    assert chi2_probability(chi2 * (1 + more), ndf) <= probability + 1e-12
    z = math.sqrt(chi2) / 100
    assert -1e-12 <= kolmogorov_probability(z * (1 + more)) <= kolmogorov_probability(z) + 1e-12
