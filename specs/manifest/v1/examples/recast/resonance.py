"""Muon pairs with a resonance: generate them, and select those whose mass goes into a histogram.

    python3 resonance.py generate detector.json events.root
    python3 resonance.py select events.root mass.root mass.json

The same parameters give the same numbers. Masses and momenta are in GeV.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import uproot

BINS, LOW, HIGH = 90, 60.0, 240.0
COLUMNS = ("pt1", "eta1", "phi1", "pt2", "eta2", "phi2")


def generate(options: argparse.Namespace) -> None:
    """Pairs back to back in the transverse plane, with smeared momenta, as a tree of ROOT."""
    detector = json.loads(options.detector.read_text())
    rng = np.random.default_rng(options.seed)
    n = options.events
    is_signal = rng.random(n) < options.fraction
    signal = options.mass + options.width / 2 * np.tan(rng.uniform(-1.4, 1.4, n))  # Breit–Wigner
    background = 50.0 + rng.exponential(45.0, n)
    mass = np.where(is_signal, signal, background)
    boost, opening = rng.normal(0.0, 0.9, n), rng.uniform(-1.0, 1.0, n)  # rapidities of pair and muons
    phi = rng.uniform(-np.pi, np.pi, n)
    pt = mass / (2 * np.cosh(opening))  # of both: m² = 2 pT² (cosh Δη + 1)
    smeared = pt[:, None] * rng.normal(1.0, detector["resolution"], (n, 2))
    inside = (np.abs(boost) + np.abs(opening)) < detector["acceptance"]
    columns = (smeared[:, 0], boost + opening, phi, smeared[:, 1], boost - opening, phi + np.pi)
    with uproot.recreate(options.events_file) as file:
        file["Events"] = {
            name: column[inside].astype(np.float32) for name, column in zip(COLUMNS, columns, strict=True)
        }


def select(options: argparse.Namespace) -> None:
    """Pairs of which both muons are hard enough, as a histogram of ROOT and as JSON."""
    with uproot.open(options.events_file) as file:
        pt1, eta1, phi1, pt2, eta2, phi2 = (file["Events"][name].array(library="np") for name in COLUMNS)
    hard = (pt1 > options.pt) & (pt2 > options.pt)
    mass = np.sqrt(2 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(phi1 - phi2)))[hard]
    counts, edges = np.histogram(mass, BINS, (LOW, HIGH))
    with uproot.recreate(options.histogram) as file:
        file["mass"] = counts, edges
    result = {"edges": edges.tolist(), "counts": counts.tolist(), "pairs": len(pt1), "selected": len(mass)}
    options.counts.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{len(mass)} of {len(pt1)} pairs selected")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("generate")
    command.set_defaults(call=generate)
    command.add_argument("detector", type=Path)
    command.add_argument("events_file", type=Path)
    command.add_argument("--events", type=int, default=20000)
    command.add_argument("--mass", type=float, default=91.2)
    command.add_argument("--width", type=float, default=2.5)
    command.add_argument("--fraction", type=float, default=0.4)
    command.add_argument("--seed", type=int, default=1983)
    command = commands.add_parser("select")
    command.set_defaults(call=select)
    command.add_argument("events_file", type=Path)
    command.add_argument("histogram", type=Path)
    command.add_argument("counts", type=Path)
    command.add_argument("--pt", type=float, default=20.0)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
