"""Probabilities of χ² and of Kolmogorov's distance, and the tests of two histograms.

The incomplete gamma function is that of the NIST Digital Library of Mathematical Functions: its series
(8.11.4) below a + 1, the continued fraction (8.9.2) above. Kolmogorov's distribution is its alternating
series, or for small arguments the one that Jacobi's theta functions give (Feller, Ann. Math. Stat. 19 (1948)
177).
"""

from __future__ import annotations

import math
from typing import Any

_TINY = 1e-300
_ENOUGH = 1e-15
_STEPS = 200_000


def chi2_probability(chi2: float, ndf: int) -> float:
    """The probability of a χ² of at least this value, with ``ndf`` degrees of freedom."""
    if ndf <= 0:
        raise ValueError("there are no degrees of freedom")
    a, x = ndf / 2, chi2 / 2
    if x <= 0:
        return 1.0
    if math.isinf(x):
        return 0.0
    logarithm = a * math.log(x) - x - math.lgamma(a)
    if x < a + 1:
        return max(0.0, 1 - _series(a, x) * math.exp(logarithm))
    return min(1.0, math.exp(logarithm) * _fraction(a, x))


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, _STEPS):
        term *= x / (a + n)
        total += term
        if term < total * _ENOUGH:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """The continued fraction, evaluated forwards by the modified method of Lentz."""
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    value = d
    for n in range(1, _STEPS):
        factor = -n * (n - a)
        b += 2
        d = factor * d + b
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = b + factor / c
        c = c if abs(c) > _TINY else _TINY
        change = c * d
        value *= change
        if abs(change - 1) < _ENOUGH:
            break
    return value


def kolmogorov_probability(z: float) -> float:
    """The probability of a distance of at least z, which is the largest distance times √(n m / (n + m))."""
    if z < 0.05:
        return 1.0
    if z < 1:
        inside = sum(math.exp(-(((2 * k - 1) * math.pi / z) ** 2) / 8) for k in range(1, 20))
        return 1 - math.sqrt(2 * math.pi) / z * inside
    return 2 * sum((-1.0) ** (k - 1) * math.exp(-2 * (k * z) ** 2) for k in range(1, 20))


def chi2_test(first: Any, first_variance: Any, second: Any, second_variance: Any) -> dict[str, Any] | None:
    """χ² of two arrays of bin contents with independent errors; the total counts.

    Bins that are empty in both do not count. None if a content is not finite or no bin counts. Contents that
    differ where neither has an error make the probability 0.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        variance = first_variance + second_variance
        difference = first - second
    if not (np.isfinite(difference).all() and np.isfinite(variance).all()):
        return None
    used = variance > 0
    ndf = int(used.sum())
    sure = bool((difference[~used] != 0).any())
    if not ndf:
        return {"ndf": 0, "probability": 0.0} if sure else None
    with np.errstate(over="ignore"):
        chi2 = float((difference[used] ** 2 / variance[used]).sum())
    probability = 0.0 if sure else chi2_probability(chi2, ndf)
    value = {"chi2": chi2} if math.isfinite(chi2) else {}
    return {**value, "ndf": ndf, "probability": probability}


def ks_test(first: Any, first_variance: Any, second: Any, second_variance: Any) -> dict[str, Any] | None:
    """Kolmogorov's test of two histograms of one dimension, by shape; None where it is not defined.

    It is not defined for an empty histogram, for negative contents, or for what is not finite. The number of
    entries is the effective one, (Σw)²/Σw². As contents are binned, the probability is too high rather than
    too low.
    """
    import numpy as np

    totals, entries = [], []
    for content, variance in ((first, first_variance), (second, second_variance)):
        if not (np.isfinite(content).all() and np.isfinite(variance).all()) or (content < 0).any():
            return None
        total, squares = float(content.sum()), float(variance.sum())
        if not (0 < total < math.inf and 0 < squares < math.inf):
            return None
        totals.append(total)
        entries.append(total / squares * total)
    distance = float(np.abs(np.cumsum(first) / totals[0] - np.cumsum(second) / totals[1]).max())
    n, m = entries
    scale = math.sqrt(1 / (1 / n + 1 / m)) if n and m else 0.0
    return {"distance": distance, "probability": min(1.0, max(0.0, kolmogorov_probability(distance * scale)))}


def compatible(measures: Any, chi2: float | None, ks: float | None) -> bool:
    """Whether each threshold that is set has a test, and is reached by it; False if none is set."""
    asked = [(name, least) for name, least in (("chi2", chi2), ("ks", ks)) if least is not None]
    return bool(asked) and all(
        measures.get(name) is not None and measures[name]["probability"] >= least for name, least in asked
    )
