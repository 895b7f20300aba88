"""ROOT files, written by uproot: histograms, profiles, trees and RNTuples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TAxis, to_TH1x, to_TProfile

from .conftest import Sides

RANDOM = np.random.default_rng(7)
EDGES = np.linspace(60, 120, 31)
MASS = RANDOM.normal(91.2, 5, 5000)


def write(path: Path, **objects: Any) -> None:
    with uproot.recreate(path) as file:
        for name, value in objects.items():
            file[name.replace("__", "/")] = value


def both(sides: Sides, first: dict[str, Any], second: dict[str, Any]) -> None:
    # other compressions, so that the bytes always differ
    for side, objects, level in ((sides.first, first, 1), (sides.second, second, 0)):
        with uproot.recreate(side / "x.root", compression=uproot.ZLIB(level)) as file:
            for name, value in objects.items():
                if isinstance(value, dict):
                    types = {
                        k: v.dtype if isinstance(v, np.ndarray) else v.type.content for k, v in value.items()
                    }
                    file.mktree(name, types)
                    file[name].extend(value)
                else:
                    file[name] = value
            file["side"] = str(level) * 500  # not the same bytes
    sides.rules("  - {parts: side, ignore: true}\n")


def histogram(values: Any, weights: Any = None, edges: Any = EDGES) -> Any:
    contents = np.histogram(values, edges, weights=weights)[0].astype(float)
    squares = np.histogram(values, edges, weights=None if weights is None else weights**2)[0].astype(float)
    flow = np.concatenate([[0], contents, [0]])
    axis = to_TAxis("xaxis", "", len(edges) - 1, edges[0], edges[-1], fXbins=edges)
    return to_TH1x(
        None,
        "m",
        flow,
        len(values),
        contents.sum(),
        squares.sum(),
        0,
        0,
        np.concatenate([[0], squares, [0]]),
        axis,
    )


def test_the_same_histogram(sides: Sides) -> None:
    both(sides, {"a/m": histogram(MASS)}, {"a/m": histogram(MASS)})
    part = sides.parts()["a/m"]
    assert (part["outcome"], part["kind"]) == ("same", "TH1D")
    assert part["measures"]["compared"] == 32
    assert part["measures"]["chi2"] == {
        "chi2": 0.0,
        "ndf": part["measures"]["chi2"]["ndf"],
        "probability": 1.0,
    }
    assert part["measures"]["ks"] == {"distance": 0.0, "probability": 1.0}


def test_one_event_more(sides: Sides) -> None:
    both(sides, {"m": histogram(MASS)}, {"m": histogram(np.append(MASS, 91))})
    part = sides.parts()["m"]
    assert (part["outcome"], part["reason"]) == ("different", "contents")
    assert part["measures"]["differing"] == 1
    assert part["measures"]["absolute"] == 1
    assert part["measures"]["chi2"]["probability"] > 0.99


def test_thresholds_of_the_manifest(sides: Sides) -> None:
    other = RANDOM.normal(91.2, 5, 5000)
    shifted = RANDOM.normal(92.2, 5, 5000)
    rules = "  - {parts: side, ignore: true}\n  - {files: '*.root', chi2: 0.001, ks: 0.001}\n"
    for second, outcome in ((other, "same"), (shifted, "different")):
        both(sides, {"m": histogram(MASS)}, {"m": histogram(second)})
        assert sides.parts()["m"]["outcome"] == "different"
        sides.rules(rules)
        assert sides.parts()["m"]["outcome"] == outcome
    # a shape that is the same with another total: the test of Kolmogorov does not see it, χ² does
    both(sides, {"m": histogram(MASS)}, {"m": histogram(MASS, np.full(len(MASS), 2.0))})
    sides.rules("  - {parts: side, ignore: true}\n  - {parts: m, ks: 0.05}\n")
    assert sides.parts()["m"]["outcome"] == "same"
    sides.rules("  - {parts: side, ignore: true}\n  - {parts: m, ks: 0.05}\n  - {parts: m, chi2: 0.05}\n")
    assert sides.parts()["m"]["outcome"] == "different"


def test_errors_count(sides: Sides) -> None:
    flat = np.full(len(MASS), 1.0)
    flat[::2], flat[1::2] = 0.5, 1.5
    twice = np.repeat(MASS, 2)
    both(sides, {"m": histogram(MASS, flat[: len(MASS)])}, {"m": histogram(twice, np.repeat(flat / 2, 2))})
    part = sides.parts()["m"]
    assert part["reason"] == "errors"


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (np.linspace(60, 120, 30), "30 and 29 bins in x"),
        (np.linspace(60, 121, 31), "other edges of bins in x: 120 and 121"),
    ],
)
def test_other_bins_cannot_be_compared(sides: Sides, edges: Any, message: str) -> None:
    both(sides, {"m": histogram(MASS)}, {"m": histogram(MASS, edges=edges)})
    status, found = sides.run()
    (part, _) = found["files"][0]["parts"]
    assert (status, part["outcome"], part["reason"], part["message"]) == (
        2,
        "incomparable",
        "binning",
        message,
    )
    sides.verdict()


def test_a_sure_difference_outweighs(sides: Sides) -> None:
    both(
        sides,
        {"a": histogram(MASS), "b": histogram(MASS)},
        {"a": histogram(MASS, edges=EDGES[:-1]), "b": histogram(MASS[1:])},
    )
    assert sides.verdict()["verdict"] == "different"


def test_empty_histograms(sides: Sides) -> None:
    none = np.zeros(0)
    both(sides, {"m": histogram(none)}, {"m": histogram(none)})
    part = sides.parts()["m"]
    assert part["outcome"] == "same"
    assert "chi2" not in part["measures"]
    both(sides, {"m": histogram(none)}, {"m": histogram(MASS)})
    sides.rules("  - {parts: side, ignore: true}\n  - {ks: 0.01}\n")  # there is no such test with nothing
    part = sides.parts()["m"]
    assert part["outcome"] == "different"
    assert "ks" not in part["measures"]


def test_not_a_number_in_a_bin(sides: Sides) -> None:
    bad = MASS.copy()
    weights = np.ones(len(bad))
    weights[0] = np.nan
    both(sides, {"m": histogram(bad, weights)}, {"m": histogram(bad, weights)})
    assert sides.parts()["m"]["outcome"] == "same"
    both(sides, {"m": histogram(bad, weights)}, {"m": histogram(bad)})
    part = sides.parts()["m"]
    assert part["outcome"] == "different"
    assert "chi2" not in part["measures"]


def test_two_dimensions_and_other_classes(sides: Sides) -> None:
    square = np.histogram2d(MASS, MASS * 2, bins=(4, 5))
    both(sides, {"h": square}, {"h": square})
    assert sides.parts()["h"]["kind"] == "TH2D"
    other = (square[0] + np.eye(4, 5), *square[1:])
    both(sides, {"h": square}, {"h": other})
    assert sides.parts()["h"]["measures"]["differing"] == 4
    both(sides, {"h": square}, {"h": histogram(MASS)})
    assert sides.parts()["h"]["reason"] == "binning"
    both(sides, {"h": square}, {"h": "text"})
    assert sides.parts()["h"]["reason"] == "types"
    both(sides, {"h": square, "k": "one"}, {"h": square, "k": "two"})
    assert sides.parts()["k"]["outcome"] == "different"
    both(sides, {"h": square}, {"g": square})
    assert {path: part["reason"] for path, part in sides.parts().items() if path != "side"} == {
        "h": "missing",
        "g": "missing",
    }


def _profile(means: Any) -> Any:
    counts = np.array([0, 4.0, 9.0, 16.0, 0])
    means = np.array([0, *means, 0])
    axis = to_TAxis("xaxis", "", 3, 0.0, 3.0)
    return to_TProfile(
        None,
        "p",
        means * counts,
        29.0,
        29.0,
        29.0,
        0.0,
        0.0,
        0.0,
        0.0,
        counts * (means**2 + 1),
        counts,
        counts,
        axis,
    )


def test_profiles(sides: Sides) -> None:
    both(sides, {"p": _profile([1, 2, 3])}, {"p": _profile([1, 2, 3])})
    part = sides.parts()["p"]
    assert (part["outcome"], part["kind"]) == ("same", "TProfile")
    both(sides, {"p": _profile([1, 2, 3])}, {"p": _profile([1, 2, 4])})
    part = sides.parts()["p"]
    assert part["outcome"] == "different"
    assert part["measures"]["absolute"] == pytest.approx(1)
    # the error of the mean is the spread, 1, over √16
    assert part["measures"]["chi2"]["chi2"] == pytest.approx(1 / (2 / 16))
    assert "ks" not in part["measures"]


JAGGED = ak.Array([[1.0], [], [2.0, 3.0], [4.0]])


def test_trees(sides: Sides) -> None:
    tree = {"pt": MASS, "n": np.arange(len(MASS))}
    both(sides, {"t": tree}, {"t": tree})
    assert {path: part["outcome"] for path, part in sides.parts().items() if path != "side"} == {
        "t/pt": "same",
        "t/n": "same",
    }
    near = {**tree, "pt": MASS * (1 + 1e-6)}
    both(sides, {"t": tree}, {"t": near})
    part = sides.parts()["t/pt"]
    assert (part["outcome"], part["measures"]["differing"]) == ("different", len(MASS))
    assert part["measures"]["ks"]["probability"] > 0.99
    sides.rules("  - {parts: side, ignore: true}\n  - {parts: t/pt, relative: 1.0e-5}\n")
    assert sides.file()["outcome"] == "same"


def test_other_entries_and_branches(sides: Sides) -> None:
    both(sides, {"t": {"pt": MASS}}, {"t": {"pt": MASS[1:]}})
    parts = sides.parts()
    assert parts["t"]["message"] == "5000 and 4999 entries" or parts["t"]["reason"] == "entries"
    assert parts["t/pt"]["outcome"] == "different"
    sides.rules("  - {parts: side, ignore: true}\n  - {ks: 0.05}\n")
    assert sides.file()["outcome"] == "same"
    both(sides, {"t": {"pt": MASS, "a": MASS}}, {"t": {"pt": MASS, "b": MASS}})
    assert {path: part.get("reason") for path, part in sides.parts().items() if path != "side"} == {
        "t/pt": None,
        "t/a": "missing",
        "t/b": "missing",
    }


@pytest.mark.parametrize("form", ["tree", "ntuple"])
def test_lists_in_branches(sides: Sides, form: str) -> None:
    def compare(second: Any) -> dict[str, Any]:
        for side, value in ((sides.first, JAGGED), (sides.second, second)):
            with uproot.recreate(side / "x.root") as file:
                if form == "tree":
                    file.mktree("t", {"j": "var * float64"})
                    file["t"].extend({"j": value})
                else:
                    file.mkrntuple("t", {"j": value})
        parts = sides.parts() if sides.file()["outcome"] != "identical" else {"t/j": {"outcome": "identical"}}
        return parts["t/j"]

    assert compare(ak.Array([[1.0], [], [2.0, 3.0], [4.0 + 1e-12]]))["outcome"] == "same"
    found = compare(ak.Array([[1.0], [], [2.0, 3.5], [4.0]]))
    assert (found["outcome"], found["measures"]["differing"]) == ("different", 1)
    found = compare(ak.Array([[1.0], [2.0], [3.0], [4.0]]))  # the same numbers in other lists
    assert found["outcome"] == "different"


def test_damaged_files(sides: Sides) -> None:
    write(sides.first / "x.root", m=histogram(MASS))
    whole = (sides.first / "x.root").read_bytes()
    with uproot.open(sides.first / "x.root") as file:
        start = file.key("m").data_cursor.index
    wrong = whole[: start + 10] + b"\xff" * 40 + whole[start + 50 :]
    for damaged in (whole[:200], whole[: len(whole) // 2], wrong):
        (sides.second / "x.root").write_bytes(damaged)
        assert sides.verdict()["verdict"] == "incomparable"


def test_what_uproot_makes_of_any_damage_is_an_outcome(sides: Sides) -> None:
    write(sides.first / "x.root", m=histogram(MASS[:50]), t={"x": np.arange(20.0)})
    whole = bytearray((sides.first / "x.root").read_bytes())
    for _ in range(40):
        damaged = bytearray(whole)
        for at in RANDOM.integers(0, len(whole), 5):
            damaged[at] ^= int(RANDOM.integers(1, 256))
        (sides.second / "x.root").write_bytes(bytes(damaged))
        status, found = sides.run()
        assert status in (0, 1, 2)
        assert "verdict" in found, found
