"""The Z boson's mass from muon pairs: generate, store, select, histogram, fit, plot.

    python dimuon.py --events 20000 --output results

writes ``events.root`` (a tree ``Events`` with a jagged collection ``Muon``), ``fit.json`` (the fitted
numbers) and ``mass.png``. The same seed and packages give the same numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import awkward as ak
import hist
import matplotlib
import numpy as np
import uproot
import vector
from iminuit import Minuit, cost

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mplhep

vector.register_awkward()

# GeV
MUON_MASS = 0.1056584
Z_MASS, Z_WIDTH = 91.1876, 2.4952  # generated
WINDOW = (70.0, 110.0)  # fitted
PT_RESOLUTION = 0.012  # σ(pT)/pT of one muon


def two_body_decay(rng: np.random.Generator, mass: np.ndarray) -> tuple[ak.Array, ak.Array]:
    """Muons from parents of these masses: isotropic in the rest frame, boosted to the laboratory."""
    n = len(mass)
    parent = ak.zip(
        {
            "pt": rng.exponential(12.0, n),
            "rapidity": rng.normal(0.0, 1.4, n),
            "phi": rng.uniform(-np.pi, np.pi, n),
        }
    )
    transverse_mass = np.hypot(mass, parent.pt)
    boost = ak.zip(
        {
            "px": parent.pt * np.cos(parent.phi),
            "py": parent.pt * np.sin(parent.phi),
            "pz": transverse_mass * np.sinh(parent.rapidity),
            "energy": transverse_mass * np.cosh(parent.rapidity),
        },
        with_name="Momentum4D",
    )
    momentum = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    cosine, phi = rng.uniform(-1, 1, n), rng.uniform(-np.pi, np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    px, py, pz = momentum * sine * np.cos(phi), momentum * sine * np.sin(phi), momentum * cosine
    muons = (
        ak.zip({"px": s * px, "py": s * py, "pz": s * pz, "energy": mass / 2}, with_name="Momentum4D")
        for s in (1, -1)
    )
    first, second = (muon.boost_p4(boost) for muon in muons)
    return first, second


def generate(events: int, seed: int) -> ak.Array:
    """Jagged muon collections of ``events`` events: two in five hold a Z, the rest are background.

    Background pairs have a falling mass spectrum and, half of the time, equal charges. Each third event
    holds one more, soft muon. Momenta are smeared with the resolution of the detector.
    """
    rng = np.random.default_rng(seed)
    is_signal = rng.random(events) < 0.4
    low, high = np.arctan(2 * (np.array([60.0, 130.0]) - Z_MASS) / Z_WIDTH)
    signal = Z_MASS + Z_WIDTH / 2 * np.tan(rng.uniform(low, high, events))  # Breit–Wigner
    background = 50.0 + rng.exponential(35.0, events)
    pair = two_body_decay(rng, np.where(is_signal, signal, background))
    charge = rng.choice([-1, 1], events)
    same_sign = ~is_signal & (rng.random(events) < 0.5)

    def column(values: list[np.ndarray], extra: np.ndarray) -> ak.Array:
        has_extra = np.arange(events) % 3 == 0
        soft = ak.unflatten(extra[has_extra], has_extra.astype(np.int64))
        return ak.concatenate([ak.Array(np.stack(values, axis=1)), soft], axis=1)

    muon = ak.zip(
        {
            "pt": column([np.asarray(m.pt) for m in pair], 3.0 + rng.exponential(4.0, events)),
            "eta": column([np.asarray(m.eta) for m in pair], rng.normal(0.0, 1.5, events)),
            "phi": column([np.asarray(m.phi) for m in pair], rng.uniform(-np.pi, np.pi, events)),
            "charge": column([charge, np.where(same_sign, charge, -charge)], rng.choice([-1, 1], events)),
        }
    )
    smearing = rng.normal(1.0, PT_RESOLUTION, int(ak.sum(ak.num(muon))))
    muon["pt"] = muon.pt * ak.unflatten(smearing, ak.num(muon))
    return muon


def write_and_read(muon: ak.Array, path: Path) -> ak.Array:
    """Store the muons in a ROOT file, and read them back as four-vectors."""
    fields = {"pt": "float32", "eta": "float32", "phi": "float32", "charge": "int32"}
    columns = ak.zip({name: ak.values_astype(muon[name], kind) for name, kind in fields.items()})
    with uproot.recreate(path) as file:
        file.mktree("Events", {"Muon": columns.type.content})
        file["Events"].extend({"Muon": columns})
    with uproot.open(path) as file:
        stored = file["Events"].arrays(["Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge"])
    columns = {name: ak.values_astype(stored[f"Muon_{name}"], np.float64) for name in fields}
    return ak.zip({**columns, "mass": MUON_MASS}, with_name="Momentum4D")


def dimuon_mass(muon: ak.Array) -> np.ndarray:
    """Masses (GeV) of events with exactly two good muons of opposite charge."""
    good = muon[(muon.pt > 20.0) & (abs(muon.eta) < 2.4)]
    good = good[ak.num(good) == 2]
    opposite = good[ak.sum(good.charge, axis=1) == 0]
    return ak.to_numpy((opposite[:, 0] + opposite[:, 1]).mass)


NODES, WEIGHTS = np.polynomial.hermite.hermgauss(31)


def signal_cdf(x: np.ndarray, mass: float, width: float, resolution: float) -> np.ndarray:
    """Breit–Wigner ⊗ Gaussian, integrated: the Cauchy integral, smeared by Gauss–Hermite quadrature."""
    shifted = x[:, None] - mass - np.sqrt(2) * resolution * NODES
    return np.arctan(2 * shifted / width) @ WEIGHTS / np.pi**1.5


def expected(x, n_signal, n_background, mass, width, resolution, slope):  # type: ignore[no-untyped-def]
    """Cumulative number of events below ``x``, for an extended likelihood."""
    low, high = signal_cdf(np.array(WINDOW), mass, width, resolution)
    signal = (signal_cdf(x, mass, width, resolution) - low) / (high - low)
    background = np.expm1(-(x - WINDOW[0]) / slope) / np.expm1(-(WINDOW[1] - WINDOW[0]) / slope)
    return n_signal * signal + n_background * background


def fit(histogram: hist.Hist) -> Minuit:
    """Extended binned maximum-likelihood fit; the resolution is held at the detector's."""
    counts, edges = histogram.values(), histogram.axes[0].edges
    total = counts.sum()
    minuit = Minuit(
        cost.ExtendedBinnedNLL(counts, edges, expected),
        n_signal=0.9 * total,
        n_background=0.1 * total,
        mass=91.0,
        width=2.5,
        resolution=PT_RESOLUTION / np.sqrt(2) * Z_MASS,
        slope=35.0,
    )
    minuit.limits["n_signal", "n_background"] = (0, None)
    minuit.limits["width"] = (0.5, 10)
    minuit.limits["slope"] = (5, 500)
    minuit.fixed["resolution"] = True
    minuit.migrad()
    minuit.hesse()
    if not minuit.valid:
        raise SystemExit(f"the fit did not converge\n{minuit.fmin}")
    return minuit


def plot(histogram: hist.Hist, minuit: Minuit, path: Path) -> None:
    """Data, model and pulls. Without the writer's name and time, the file depends on the data alone."""
    edges, counts = histogram.axes[0].edges, histogram.values().astype(float)
    parameters = dict(zip(minuit.parameters, minuit.values, strict=True))
    model = np.diff(expected(edges, **parameters))
    background = np.diff(expected(edges, **{**parameters, "n_signal": 0.0}))
    mplhep.style.use("ATLAS")
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(8, 7), gridspec_kw={"height_ratios": (4, 1), "hspace": 0.06}
    )
    top.stairs(background, edges, fill=True, color="tab:gray", alpha=0.5, label="background")
    top.stairs(model, edges, color="tab:red", label="fit")
    mplhep.histplot(
        counts, edges, ax=top, histtype="errorbar", color="black", label="events", yerr=np.sqrt(counts)
    )
    mass, error = minuit.values["mass"], minuit.errors["mass"]
    top.legend(title=rf"$m_{{\mu\mu}}$ = {mass:.3f} ± {error:.3f} GeV")
    top.set(ylabel=f"Events / {edges[1] - edges[0]:g} GeV", ylim=(0, 1.25 * counts.max()))
    bottom.axhline(0, color="tab:red")
    bottom.errorbar(
        histogram.axes[0].centers,
        (counts - model) / np.sqrt(model),
        yerr=1,
        fmt="o",
        color="black",
        markersize=3,
    )
    bottom.set(xlabel=r"$m_{\mu\mu}$ [GeV]", ylabel="Pull", xlim=WINDOW, ylim=(-4, 4))
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the Z boson's mass in generated muon pairs.")
    parser.add_argument("--events", type=int, default=20000, help="how many to generate (default: 20000)")
    parser.add_argument("--seed", type=int, default=1983, help="of the generator (default: 1983)")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    muon = write_and_read(generate(arguments.events, arguments.seed), arguments.output / "events.root")
    mass = dimuon_mass(muon)
    histogram = hist.Hist.new.Reg(80, *WINDOW, name="mass", label="mass [GeV]").Int64()
    histogram.fill(mass)
    minuit = fit(histogram)
    result = {
        "events": {"generated": arguments.events, "selected": len(mass), "fitted": int(histogram.sum())},
        "parameters": {
            name: {"value": minuit.values[name], "error": 0.0 if minuit.fixed[name] else minuit.errors[name]}
            for name in minuit.parameters
        },
        "chi2": minuit.fval,
        "degrees_of_freedom": int(minuit.ndof),
    }
    (arguments.output / "fit.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(histogram, minuit, arguments.output / "mass.png")

    def show(name: str, digits: int) -> str:
        return f"{minuit.values[name]:.{digits}f} ± {minuit.errors[name]:.{digits}f}"

    print(f"{len(mass)} of {arguments.events} events selected, {int(histogram.sum())} fitted")
    print(f"mass   {show('mass', 3)} GeV")
    print(f"width  {show('width', 3)} GeV")
    print(f"signal {show('n_signal', 0)} events")
    print(f"χ²/ndf {minuit.fval:.1f}/{minuit.ndof:.0f}")


if __name__ == "__main__":
    main()
