# ruff: noqa: E501 -- words in rows
"""The catalogue's page in a real browser: it shows what records say, searches, filters, and runs nothing of theirs.

``AFENV_KEEP_PICTURES=1`` writes the picture of the documentation anew.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from afenv.catalogue.file import make_catalogue
from afenv.catalogue.page import catalogue_page
from afenv.catalogue.rank import rank
from afenv.catalogue.record import Metadata
from afenv.documents.facility_file import read_facility
from afenv.record import replace
from afenv.specs import specs_folder

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "how-to" / "catalogue.png"
PROFILES = [
    read_facility(folder / "facility.yaml")
    for folder in sorted((specs_folder() / "facility" / "v1" / "examples").iterdir())
]
HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"


def sample() -> Any:
    """The module that makes records, from the tests of catalogues."""
    spec = importlib.util.spec_from_file_location("sample", ROOT / "tests" / "catalogue" / "sample.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalogue() -> Any:
    some = list(sample().records(120))
    some[3] = replace(
        some[3], name="hostile", metadata=Metadata(title=HOSTILE, description=HOSTILE, authors=(HOSTILE,))
    )
    return make_catalogue("example-group", some, serial=12)


@pytest.fixture
def page(browser: Any, catalogue: Any, tmp_path: Path) -> Any:
    path = tmp_path / "index.html"
    path.write_text(catalogue_page(catalogue, PROFILES), encoding="utf-8")
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


def count(page: Any) -> int:
    return int(page.find_element("id", "count").text.split()[0])


def choose(page: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", name)).select_by_value(value)


def test_it_shows_the_images_and_asks_for_nothing(page: Any) -> None:
    assert page.title == "example-group: images" and count(page) == 120
    assert len(page.find_elements("css selector", "li.image")) == 50
    page.find_element("id", "next").click()
    page.find_element("id", "next").click()
    assert len(page.find_elements("css selector", "li.image")) == 120
    assert not page.find_element("id", "next").is_displayed()
    assert page.get_log("browser") == []
    asked = [
        entry["message"]
        for entry in page.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert all('"url":"file:///' in message for message in asked)


def test_search_and_filters(page: Any, catalogue: Any) -> None:
    search = page.find_element("id", "search")
    search.send_keys("higgs")
    names = list(catalogue.index["name"])
    expected = sum(
        "higgs" in " ".join((one.name, one.metadata.title or "", one.reference, *one.metadata.keywords))
        for one in catalogue.records()
    )
    assert count(page) == expected < 120
    search.clear()
    search.send_keys("no such thing")
    assert count(page) == 0 and page.find_element("id", "none").is_displayed()
    search.clear()
    search.send_keys(" ")
    for number, profile in enumerate(PROFILES):
        choose(page, "facility", str(number))
        assert count(page) == len(rank(catalogue, profile).candidates)
    choose(page, "facility", "")
    choose(page, "gpu", "uses")
    assert count(page) == sum(number >= 0 for number in catalogue.index["gpu"])
    choose(page, "gpu", "")
    choose(page, "form", "sif")
    assert 0 < count(page) < 120
    choose(page, "form", "")
    choose(page, "order", "name")
    first = page.find_element("css selector", "li.image .sub").text
    assert first.split(" ")[0].split(":")[0] == sorted(names)[0]


def test_details_have_links_reasons_and_commands(page: Any) -> None:
    page.find_element("css selector", "summary").click()
    opened = page.find_element("css selector", "li.image .more")
    links = {link.text: link.get_attribute("href") for link in opened.find_elements("tag name", "a")}
    assert {"image manifest", "lock", "bill of materials", "analysis manifest"} <= set(links)
    assert all(address.startswith("https://") for address in links.values())
    assert len(opened.find_elements("css selector", ".where > li")) == len(PROFILES)
    assert opened.find_elements("css selector", ".copy code")[0].text.startswith("docker pull ")


def test_hostile_records_are_shown_and_not_run(page: Any) -> None:
    page.find_element("id", "search").send_keys("hostile")
    assert count(page) == 1
    page.find_element("css selector", "summary").click()
    assert page.find_element("tag name", "h2").text == HOSTILE
    assert page.execute_script("return window.broken") is None
    assert page.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert page.get_log("browser") == []


def test_the_policy_stops_a_script_that_got_in(browser: Any, catalogue: Any, tmp_path: Path) -> None:
    text = catalogue_page(catalogue, PROFILES).replace(
        "<footer>", "<script>window.broken = 1</script><footer>"
    )
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    assert browser.execute_script("return window.broken") is None
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_it_can_be_used_without_a_mouse_and_has_names_for_everything(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    for field in page.find_elements("css selector", "input, select, button"):
        assert field.accessible_name, field.get_attribute("id")
    summary = page.find_element("css selector", "summary")
    page.execute_script("arguments[0].focus()", summary)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.find_element("css selector", "li.image details").get_attribute("open")
    chip = page.find_element("css selector", ".chips .chip")
    assert " at " in chip.accessible_name
    assert page.execute_script("return document.documentElement.lang") == "en"
    page.set_window_size(420, 900)
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    page.set_window_size(1200, 1100)


def test_ten_thousand_images_are_searched_at_once(browser: Any, tmp_path: Path) -> None:
    made = make_catalogue("many", sample().records(10_000))
    (tmp_path / "index.html").write_text(catalogue_page(made, PROFILES[:1]), encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    assert count(browser) == 10_000
    took = browser.execute_script(
        "const start = performance.now(), field = document.getElementById('search');"
        "field.value = 'higgs mass'; field.dispatchEvent(new Event('input')); return performance.now() - start"
    )
    assert 0 < count(browser) < 1000 and took < 5000  # milliseconds; a tenth of it is usual


def test_the_picture_of_the_documentation(page: Any, tmp_path: Path) -> None:
    page.set_window_size(1200, 1100)
    page.execute_script("document.querySelectorAll('summary')[1].click(); document.activeElement.blur()")
    path = PICTURE if os.environ.get("AFENV_KEEP_PICTURES") else tmp_path / "picture.png"
    assert page.save_screenshot(str(path))
    assert 20_000 < path.stat().st_size < 400_000
