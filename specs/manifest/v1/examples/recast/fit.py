"""The yield and mass of a resonance over a falling background: an extended binned fit.

    python3 fit.py mass.json detector.json fit.json --near 91.2

Masses are in GeV.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from iminuit import Minuit, cost

WINDOW = 25.0  # around the mass at which the fit begins
NODES, WEIGHTS = np.polynomial.hermite.hermgauss(31)


def model(low: float, high: float, resolution: float):  # type: ignore[no-untyped-def]
    """The cumulative number of pairs: a Breit–Wigner, smeared by the detector, and an exponential."""

    def signal_below(x: np.ndarray, mass: float, width: float) -> np.ndarray:
        shifted = x[:, None] - mass - np.sqrt(2) * resolution * NODES
        return np.arctan(2 * shifted / width) @ WEIGHTS / np.pi**1.5

    def expected(x, n_signal, n_background, mass, width, slope):  # type: ignore[no-untyped-def]
        first, last = signal_below(np.array([low, high]), mass, width)
        signal = (signal_below(x, mass, width) - first) / (last - first)
        background = np.expm1(-(x - low) / slope) / np.expm1(-(high - low) / slope)
        return n_signal * signal + n_background * background

    return expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("histogram", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--near", type=float, default=91.2)
    options = parser.parse_args()
    histogram = json.loads(options.histogram.read_text())
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"], dtype=float)
    inside = (edges >= options.near - WINDOW) & (edges <= options.near + WINDOW)
    edges = edges[inside]
    counts = counts[np.flatnonzero(inside)[:-1]]
    resolution = json.loads(options.detector.read_text())["resolution"] / np.sqrt(2) * options.near
    total = counts.sum()
    minuit = Minuit(
        cost.ExtendedBinnedNLL(counts, edges, model(edges[0], edges[-1], resolution)),
        n_signal=total / 2,
        n_background=total / 2,
        mass=options.near,
        width=2.5,
        slope=45.0,
    )
    minuit.limits["n_signal", "n_background"] = (0, None)
    minuit.limits["width"] = (0.5, 20)
    minuit.limits["slope"] = (5, 500)
    minuit.migrad()
    minuit.hesse()
    if not minuit.valid:
        raise SystemExit(f"the fit did not converge\n{minuit.fmin}")
    result = {
        "parameters": {
            name: {"value": minuit.values[name], "error": minuit.errors[name]} for name in minuit.parameters
        },
        "chi2": minuit.fval,
        "degrees_of_freedom": int(minuit.ndof),
    }
    options.result.write_text(json.dumps(result, indent=2) + "\n")
    print(f"mass {minuit.values['mass']:.2f} ± {minuit.errors['mass']:.2f} GeV")
    print(f"signal {minuit.values['n_signal']:.0f} ± {minuit.errors['n_signal']:.0f}")


if __name__ == "__main__":
    main()
