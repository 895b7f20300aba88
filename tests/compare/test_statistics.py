"""The probabilities against closed forms and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from afenv.compare.statistics import chi2_probability, chi2_test, kolmogorov_probability, ks_test


@pytest.mark.parametrize("chi2", [1e-8, 0.3, 1.0, 2.5, 7.0, 40.0, 300.0])
@pytest.mark.parametrize("ndf", [1, 2, 3, 4, 5, 10, 11, 60])
def test_chi2_is_the_closed_form(chi2: float, ndf: int) -> None:
    # even: a Poisson sum; odd: erfc and the recurrence Q(a+1, x) = Q(a, x) + x^a e^-x / Γ(a+1) (DLMF 8.8.6)
    x, a = chi2 / 2, (ndf % 2) / 2 or 1.0
    expected = math.erfc(math.sqrt(x)) if ndf % 2 else math.exp(-x)
    while a < ndf / 2:
        expected += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    assert chi2_probability(chi2, ndf) == pytest.approx(expected, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize(
    ("ndf", "probability", "chi2"),
    [  # NIST/SEMATECH e-Handbook of Statistical Methods, table 1.3.6.7.4
        (1, 0.05, 3.841),
        (5, 0.01, 15.086),
        (10, 0.10, 15.987),
        (50, 0.05, 67.505),
        (100, 0.001, 149.449),
    ],
)
def test_chi2_is_that_of_the_table(ndf: int, probability: float, chi2: float) -> None:
    assert chi2_probability(chi2, ndf) == pytest.approx(probability, rel=2e-3)


def test_chi2_with_many_degrees_of_freedom() -> None:
    assert chi2_probability(1e6, 1_000_000) == pytest.approx(0.5, abs=1e-3)
    assert chi2_probability(0, 3) == 1
    assert chi2_probability(math.inf, 3) == 0
    assert chi2_probability(1e6, 1) == 0


@pytest.mark.parametrize(
    ("z", "probability"),
    [  # Smirnov, Ann. Math. Stat. 19 (1948) 279: the table of L(z), of which this is 1 - L(z)
        (0.5, 1 - 0.036055),
        (0.8, 1 - 0.455857),
        (1.0, 1 - 0.730000),
        (1.36, 1 - 0.950514),
        (1.63, 1 - 0.990154),
        (2.0, 1 - 0.999329),
    ],
)
def test_kolmogorov_is_that_of_the_table(z: float, probability: float) -> None:
    assert kolmogorov_probability(z) == pytest.approx(probability, abs=2e-6)


def test_the_two_series_meet() -> None:
    below, above = kolmogorov_probability(1 - 1e-12), kolmogorov_probability(1)
    assert below == pytest.approx(above, abs=1e-10)
    assert kolmogorov_probability(0) == 1
    assert kolmogorov_probability(0.05) == pytest.approx(1)
    assert kolmogorov_probability(50) == 0


def test_probabilities_are_uniform_for_equal_distributions() -> None:
    random = np.random.default_rng(1)
    chi2, ks = [], []
    edges = np.linspace(-2, 2, 41)
    for _ in range(300):
        first, second = (np.histogram(random.normal(size=4000), edges)[0].astype(float) for _ in "ab")
        found = chi2_test(first, first, second, second)
        assert found is not None
        chi2.append(found["probability"])
        tested = ks_test(first, first, second, second)
        assert tested is not None
        ks.append(tested["probability"])
    assert 0.4 < np.mean(chi2) < 0.6
    assert 0.4 < np.mean(ks) < 0.7
    assert 0.01 < np.mean(np.array(chi2) < 0.05) < 0.1


def test_what_has_no_test() -> None:
    empty, some = np.zeros(3), np.array([1.0, 2.0, 3.0])
    assert chi2_test(empty, empty, empty, empty) is None
    assert ks_test(empty, empty, some, some) is None
    assert ks_test(-some, some, some, some) is None
    assert chi2_test(some * math.nan, some, some, some) is None
    assert chi2_test(some, empty, some + 1, empty) == {"ndf": 0, "probability": 0.0}
