"""Images by pixels, and arrays of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import Sides


def images(sides: Sides, first: Any, second: Any, mode: str | None = None) -> None:
    for side, pixels in ((sides.first, first), (sides.second, second)):
        image = Image.fromarray(pixels)
        image.convert(mode or image.mode).save(side / "x.png", compress_level=1 if side == sides.first else 9)


def test_pixels(sides: Sides) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    images(sides, pixels, pixels)
    assert sides.file()["outcome"] == "same"
    other = pixels.copy()
    other[0, :3] ^= 4
    images(sides, pixels, other)
    file = sides.file()
    assert (file["outcome"], file["reason"]) == ("different", "pixels")
    assert file["message"] == "3 of 600 pixels differ, by up to 4 of 255"
    for rule, outcome in (("pixels: 0.005", "same"), ("pixels: 0.004", "different"), ("shade: 4", "same")):
        sides.rules(f"  - {{{rule}}}\n")
        assert sides.file()["outcome"] == outcome


def test_sizes(sides: Sides) -> None:
    images(sides, np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8))
    assert sides.file()["message"] == "5 × 4 and 4 × 5 pixels"


def test_what_pillow_cannot_show_in_eight_bits(sides: Sides) -> None:
    images(sides, np.zeros((4, 5), np.uint16), np.ones((4, 5), np.uint16))
    assert sides.file()["reason"] == "unreadable"


def test_a_cut_image(sides: Sides) -> None:
    images(sides, np.zeros((90, 90, 3), np.uint8), np.zeros((90, 90, 3), np.uint8))
    whole = (sides.first / "x.png").read_bytes()
    (sides.second / "x.png").write_bytes(whole[: len(whole) // 2])
    assert sides.file()["message"].startswith("the second cannot be read as image")


def test_arrays(sides: Sides) -> None:
    values = np.arange(12.0).reshape(3, 4)
    for second, outcome, reason in (
        (values.astype(">f8"), "same", None),
        (values + np.array([0, 0, 0, 1e-6]), "different", "values"),
        (values.ravel(), "different", "shape"),
        (np.where(values == 3, np.nan, values), "different", "values"),
    ):
        np.save(sides.first / "x.npy", values)
        np.save(sides.second / "x.npy", second)
        (part,) = sides.parts().values()
        assert (part["outcome"], part.get("reason")) == (outcome, reason)


def test_archives_of_arrays(sides: Sides) -> None:
    np.savez(
        sides.first / "x.npz",
        a=np.arange(3),
        b=np.array(["x", "y"]),
        c=np.zeros(2, [("m", float), ("n", int)]),
    )
    np.savez_compressed(
        sides.second / "x.npz",
        a=np.arange(3),
        b=np.array(["x", "y"]),
        c=np.zeros(2, [("m", float), ("n", int)]),
    )
    assert {part["outcome"] for part in sides.parts().values()} == {"same"}
    np.savez(sides.second / "x.npz", a=np.arange(3), b=np.array(["x", "z"]), d=np.zeros(1))
    assert {path: part.get("reason") for path, part in sides.parts().items()} == {
        "a": None,
        "b": "values",
        "c": "missing",
        "d": "missing",
    }


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_nothing_is_unpickled(sides: Sides, suffix: str, tmp_path: Any) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "made"), "w"))

    save = np.save if suffix == "npy" else np.savez
    for side, extra in ((sides.first, 1), (sides.second, 2)):
        save(side / f"x.{suffix}", np.array([Bad()] * extra, dtype=object))
    assert sides.file()["reason"] == "unreadable"
    assert not (tmp_path / "made").exists()
