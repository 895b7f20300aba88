# ruff: noqa: E501 -- values in rows
"""The page for people: self-contained, and safe whatever records say. A browser shows it in tests/services."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from afenv.catalogue.file import make_catalogue
from afenv.catalogue.page import blob_address, catalogue_page, json_in_html
from afenv.catalogue.rank import rank
from afenv.catalogue.record import Metadata, Origin
from afenv.documents.facility_file import read_facility
from afenv.record import replace
from afenv.specs import specs_folder

from .sample import records

PROFILES = [
    read_facility(folder / "facility.yaml")
    for folder in sorted((specs_folder() / "facility" / "v1" / "examples").iterdir())
]
SOME = tuple(records(40))


class Reader(HTMLParser):
    """The elements of a page, and the text in each ``script``."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data
        elif self.elements and self.elements[-1][0] == "style":
            self.styles[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}))


def read(text: str) -> tuple[Reader, Any]:
    reader = Reader()
    reader.feed(text)
    return reader, json.loads(reader.scripts[0])


def test_it_holds_everything_and_asks_for_nothing() -> None:
    text = catalogue_page(make_catalogue("team", SOME, serial=3), PROFILES)
    reader, data = read(text)
    assert len(data["images"]) == 40 and len(data["facilities"]) == len(PROFILES)
    for tag, attributes in reader.elements:
        assert not {"src", "srcset", "data", "action"} & set(attributes), tag
        assert tag not in ("link", "img", "iframe", "object", "embed")
        assert all(not name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\(", reader.styles[0])
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp", reader.scripts[1]
    )


def test_the_policy_lets_this_script_and_this_style_run_and_no_other() -> None:
    reader, _ = read(catalogue_page(make_catalogue("team", SOME[:2])))
    (policy,) = [
        attributes["content"] or ""
        for _, attributes in reader.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "style-src": allowed(reader.styles[0]),
        "script-src": allowed(reader.scripts[1]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_what_runs_where_is_what_the_ranking_says() -> None:
    catalogue = make_catalogue("team", SOME)
    _, data = read(catalogue_page(catalogue, PROFILES))
    for number, profile in enumerate(PROFILES):
        ranking = rank(catalogue, profile)
        for one in (*ranking.candidates, *ranking.rest):
            outcome, certain, runtime, reasons = data["images"][one.row]["at"][number]
            assert (outcome, certain, runtime) == (one.outcome, one.certain, one.verdict.runtime)
            assert len(reasons) == min(len(one.verdict.reasons), 6)
            assert all(
                data["reasons"][at].startswith(one.verdict.reasons[n].message) for n, at in enumerate(reasons)
            )


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&amp; <!-- \u202e"


def test_hostile_records_stay_text() -> None:
    one = replace(
        SOME[0],
        name=HOSTILE,
        environment="<b>x</b>",
        version="</style>",
        metadata=Metadata(
            title=HOSTILE,
            description=f"{HOSTILE}\n{HOSTILE}",
            license=HOSTILE,
            authors=(HOSTILE,),
            keywords=(HOSTILE,),
        ),
        origin=Origin(builder=HOSTILE, source="javascript:alert(1)"),
    )
    plain, _ = read(catalogue_page(make_catalogue("team", SOME[:1])))
    text = catalogue_page(make_catalogue(HOSTILE, [one]), PROFILES)
    reader, data = read(text)
    assert [tag for tag, _ in reader.elements] == [tag for tag, _ in plain.elements]
    (image,) = data["images"]
    assert image["title"] == HOSTILE and image["authors"] == [HOSTILE]
    assert image["sourceLink"] is None and image["source"] == "javascript:alert(1)"
    assert "alert(1)</script>" not in text


@pytest.mark.parametrize("value", [HOSTILE, "\u2028\u2029", {"</script>": ["<!--", "]]>"]}, "ü→", 1.5, None])
def test_json_in_html(value: Any) -> None:
    text = json_in_html(value)
    assert json.loads(text) == value and not set("<>&\u2028\u2029") & set(text)


def test_addresses_of_documents() -> None:
    one = replace(SOME[0], reference="docker.io/library/a:1")
    assert (
        blob_address(one, "blobs", "sha256:x") == "https://registry-1.docker.io/v2/library/a/blobs/sha256:x"
    )
    local = replace(SOME[0], reference="localhost:5000/a:1")
    assert blob_address(local, "manifests", "sha256:x") == "http://localhost:5000/v2/a/manifests/sha256:x"
    _, data = read(catalogue_page(make_catalogue("t", SOME[:1])))
    names = [name for name, _ in data["images"][0]["links"]]
    assert names == ["image manifest", "analysis manifest", "lock", "bill of materials", "provenance"]
