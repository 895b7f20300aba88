"""The report of a comparison in a real browser: plots are there, nothing is asked for, no name runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from afenv.cli import main

pytestmark = pytest.mark.services

PICTURE = Path(__file__).parents[2] / "docs" / "how-to" / "compare.png"
HOSTILE = "<img src=x onerror='window.broken = 1'><script>window.broken = 2</script>"


def test_the_report(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(1)
    for name, mass in (("first", 91.2), ("second", 91.6)):
        folder = tmp_path / name
        folder.mkdir()
        values = random.normal(mass, 3, 8000)
        with uproot.recreate(folder / "mass.root") as file:
            file["mass"] = np.histogram(values, 40, (80, 102))
            file["plane"] = np.histogram2d(values, random.normal(0, 1, 8000), (20, 15), ((80, 102), (-3, 3)))
            file[HOSTILE.replace("/", "")] = np.histogram(values, 4, (80, 102))
        (folder / "fit.json").write_text(json.dumps({"mass": mass, "width": 2.5, HOSTILE: mass}))
        (folder / "fit.txt").write_text(f"{HOSTILE}\n{mass}\n")
    assert main(["-q", "-C", str(tmp_path), "compare", "first", "second", "-o", "report.html"]) == 1
    browser.get_log("performance")
    page = (tmp_path / "report.html").as_uri()
    browser.get(page)
    assert browser.execute_script("return window.broken") is None
    assert browser.execute_script("return document.scripts.length + document.images.length") == 0
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.getBoundingClientRect().height,"
        " s.querySelectorAll('path').length])"
    )
    assert [paths for _, paths in boxes].count(2) == 2
    assert all(height > 150 for height, _ in boxes)
    assert HOSTILE in browser.find_element("css selector", "body").text
    width = browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert width
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert urls <= {page}
    assert browser.get_log("browser") == []
    if os.environ.get("AFENV_KEEP_PICTURES"):
        browser.find_element("css selector", "figure").screenshot(str(PICTURE))
