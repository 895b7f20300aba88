"""Names in forms: nothing that HTML or a template reads gets through."""

from __future__ import annotations

import html

import hypothesis.strategies as st
import pytest
from hypothesis import given

from afenv_registry.jupyterhub.labels import escaped, plain, slug

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "{{ cycler.__init__.__globals__ }}",
    "{% for x in y %}",
    "{# hidden #}",
    "a\nb\x00c",
    "`$(id)`",
    "x" * 500,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    for made in (escaped(text), plain(text)):
        assert not set("<>\"'{}%\n\0") & set(made)
        assert "{#" not in made
    assert len(plain(text)) <= 120


@given(st.text())
def test_any_text(text: str) -> None:
    made = escaped(text)
    assert not set("<>\"'{}%") & set(made)
    assert html.unescape(made).split() == html.unescape(made).strip().split()
    assert plain(plain(text)) == plain(text) == html.unescape(plain(text))
    key = slug(text)
    assert key and key == slug(key) and "--" not in key and key.isascii()


def test_people_s_names_stay_readable() -> None:
    assert escaped("Z → μμ mass (v1.0)") == plain("Z → μμ mass (v1.0)") == "Z → μμ mass (v1.0)"
    assert slug("dimuon:gpu", "1.0") == "dimuon-gpu-1-0"
    assert html.unescape(escaped("A & B <C> {D} 5%")) == "A & B <C> {D} 5%"
