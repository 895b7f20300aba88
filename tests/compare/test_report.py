"""The report: one file, nothing of names and values is markup, and plots where something differs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import uproot
from PIL import Image

from .conftest import Sides

HOSTILE = "</style></pre><script>x</script><img src=x onerror='y'>\"&"


class Reader(HTMLParser):
    """Collects elements, and the attributes that would ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href", "style", "action", "xlink:href"):
                self.asked.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(sides: Sides) -> tuple[Reader, str]:
    """The report on the two."""
    sides.run("-o", "report.html")
    text = (sides.folder / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    return reader, text


def test_nothing_that_is_compared_is_markup(sides: Sides) -> None:
    name = HOSTILE.replace("/", "_")
    sides.write(f"{name}.json", f'{{"{HOSTILE.replace(chr(34), "")}": 1}}', f'{{"a": "{HOSTILE[:-2]}"}}')
    sides.write("x.txt", HOSTILE, HOSTILE + "x")
    for side, value in ((sides.first, 1), (sides.second, 2)):
        with uproot.recreate(side / "x.root") as file:
            file["<script>m"] = np.histogram(np.arange(10.0) * value, 5)
            file["t<b>"] = HOSTILE + str(value)
    reader, text = read(sides)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert "b" in reader.tags  # ours: the heads of the two sides
    assert reader.asked == []
    assert HOSTILE[:20] in reader.text
    assert "default-src 'none'" in text


def test_plots(sides: Sides) -> None:
    values = np.random.default_rng(3).normal(size=500)
    for side, shift in ((sides.first, 0), (sides.second, 0.5)):
        with uproot.recreate(side / "x.root") as file:
            file["m"] = np.histogram(values + shift, 20, (-3, 3))
            file["plane"] = np.histogram2d(values + shift, values, 8, ((-3, 3), (-3, 3)))
            file.mktree("t", {"v": np.float64})
            file["t"].extend({"v": values + shift})
        pixels = np.zeros((40, 50, 3), np.uint8)
        pixels[int(shift * 10)] = 255
        Image.fromarray(pixels).save(side / "x.png")
    reader, text = read(sides)
    assert reader.tags.count("svg") == 3
    assert text.count("second / first") == 2
    assert reader.tags.count("img") == 3
    assert all(value.startswith("data:image/png;base64,") for value in reader.asked)
    steps = re.findall(r'<path class="(first area|second line)" d="([^"]*)"', text)
    assert [name for name, _ in steps] == ["first area", "second line"] * 2
    assert steps[0][1].count("H") == 20
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text, re.S))


def test_plots_of_odd_histograms(sides: Sides) -> None:
    for side, value in ((sides.first, np.nan), (sides.second, np.inf)):
        with uproot.recreate(side / "x.root") as file:
            file["odd"] = (np.array([value, -1.0, 0.0]), np.array([0.0, 1e-30, 2e-30, 3e-30]))
            file["none"] = (np.zeros(2) + (value if side == sides.second else 0), np.arange(3.0))
    _, text = read(sides)
    assert not re.search(r"[\"\s,]-?(nan|inf)[\"\s,]", "".join(re.findall(r"<svg.*?</svg>", text, re.S)))


def test_the_same(sides: Sides) -> None:
    sides.write("a.json", "1", "1.0")
    reader, _ = read(sides)
    assert "The two are the same." in reader.text
