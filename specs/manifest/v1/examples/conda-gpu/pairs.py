"""The invariant mass of muon pairs, and the device that this runs on.

    python pairs.py --events 20000 --output results

writes ``pairs.root`` (a tree ``Events`` and the histogram ``mass``) and ``summary.json``. The same seed and
packages give the same numbers, whatever the device.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path

import awkward as ak
import hist
import numpy as np
import uproot
import vector

vector.register_awkward()

Z_MASS, Z_WIDTH = 91.1876, 2.4952  # GeV
MUON_MASS = 0.1056584  # GeV


def gpus() -> int | None:
    """How many GPUs CUDA's runtime sees; None if the environment has no CUDA."""
    try:
        runtime = ctypes.CDLL("libcudart.so.12")
    except OSError:
        return None
    count = ctypes.c_int()
    status = runtime.cudaGetDeviceCount(ctypes.byref(count))
    return count.value if status == 0 else 0  # without a driver, it reports an error


def muon_pairs(events: int, seed: int) -> ak.Array:
    """Pairs of muons from Z bosons at rest, smeared by one per cent."""
    rng = np.random.default_rng(seed)
    mass = Z_MASS + Z_WIDTH / 2 * np.tan(np.pi * (rng.uniform(0.02, 0.98, events) - 0.5))
    momentum = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    cosine, phi = rng.uniform(-1, 1, events), rng.uniform(-np.pi, np.pi, events)
    pt, eta = momentum * np.sqrt(1 - cosine**2), np.arctanh(cosine)
    muons = [
        ak.zip(
            {
                "pt": pt * rng.normal(1, 0.01, events),
                "eta": sign * eta,
                "phi": phi + (np.pi if sign < 0 else 0),
                "mass": np.full(events, MUON_MASS),
            },
            with_name="Momentum4D",
        )
        for sign in (1, -1)
    ]
    return ak.zip({"first": muons[0], "second": muons[1]}, depth_limit=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("results"))
    options = parser.parse_args()

    pairs = muon_pairs(options.events, options.seed)
    mass = ak.to_numpy((pairs.first + pairs.second).mass)
    histogram = hist.Hist.new.Reg(60, 60, 120, name="mass", label="m(μμ) [GeV]").Double().fill(mass)

    options.output.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(options.output / "pairs.root") as file:
        file["Events"] = {"mass": mass}
        file["mass"] = histogram
    with uproot.open(options.output / "pairs.root") as file:
        stored = file["Events"]["mass"].array(library="np")

    summary = {
        "events": options.events,
        "median_mass": round(float(np.median(stored)), 4),
        "in_window": int(histogram[hist.loc(80) : hist.loc(100)].sum()),
        "gpus": gpus(),
    }
    (options.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
