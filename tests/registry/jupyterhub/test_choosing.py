"""Names for DockerSpawner and for spawners with Apptainer: the form, and what comes back."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Any

import pytest

from afenv.catalogue.record import Form
from afenv.errors import AfenvError
from afenv_registry.jupyterhub import allowed_images, image_form, options_from_form, place_of
from afenv_registry.jupyterhub.choosing import by_name, chosen
from tests.registry.jupyterhub.conftest import Offer, gpu_need, image, spawner

HOSTILE = '"><script>{{ 7*7 }}</script>'


class Options(HTMLParser):
    """The values of a form's options."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[str | None] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "option":
            self.values.append(dict(attrs)["value"])


def test_allowed_images_are_references_by_digest(offering: Offer) -> None:
    made = offering(image("one", title="First", number=2), image("two", number=1, version=None))
    assert allowed_images(made)(spawner()) == {
        "one 1.0: First": f"registry.example.org/group/one@sha256:{2:064x}",
        "two": f"registry.example.org/group/two@sha256:{1:064x}",
    }


def test_two_images_of_one_name(offering: Offer) -> None:
    found = allowed_images(offering(image("one", number=2), image("one", number=0xF << 208)))(spawner())
    assert len(found) == 2 and len(set(found.values())) == 2


def test_what_a_browser_sends_back_is_a_name(offering: Offer) -> None:
    made = offering(
        image("one", title=HOSTILE, number=1), image("two", number=2, gpu=gpu_need((11, 8), "80"))
    )
    form = Options(asyncio.run(image_form(made)(spawner())))  # type: ignore[arg-type]
    assert form.tags == {"label", "select", "option"}
    assert set(form.values) == set(allowed_images(made)(spawner()))
    for value in form.values:
        assert value is not None
        options = options_from_form({"image": [value], "cmd": ["rm -rf /"]})
        assert options == {"image": value}
        assert chosen(options, made.offers_now(spawner()), made).image.name in ("one", "two")


def test_no_form_where_there_is_no_choice(offering: Offer) -> None:
    for records in ((), (image(),)):
        assert asyncio.run(image_form(offering(*records))(spawner())) == ""  # type: ignore[arg-type]


def test_without_options_the_best_one_is_used(offering: Offer) -> None:
    made = offering(image("older", number=1), image("newer", number=9))
    for options in ({}, None, {"image": ""}, {"cmd": "x"}):
        assert chosen(options, made.offers_now(spawner()), made).image.name == "newer"


@pytest.mark.parametrize("asked", ["docker.io/evil:1", "dimuon", ["dimuon 1.0"], {"a": 1}, 7, HOSTILE])
def test_what_is_not_offered(offering: Offer, asked: Any) -> None:
    made = offering(image())
    with pytest.raises(AfenvError) as raised:
        chosen({"image": asked}, made.offers_now(spawner()), made)
    assert raised.value.code == "E633"
    assert "<" not in str(raised.value)


def test_nothing_is_said(offering: Offer) -> None:
    made = offering(image(hub=None))
    with pytest.raises(AfenvError) as raised:
        chosen({}, made.offers_now(spawner()), made)
    assert raised.value.code == "E630"


def test_where_apptainer_finds_an_image() -> None:
    digest = "sha256:" + "c" * 64
    oci = Form(form="oci", size=1)
    sif = Form(form="sif", reference="registry.example.org:5000/group/dimuon:1.0.sif", digest=digest)
    unpacked = Form(form="cvmfs", path="/cvmfs/unpacked.example.org/dimuon")
    assert place_of(image()) == f"docker://registry.example.org/group/dimuon@sha256:{1:064x}"
    assert place_of(image(forms=(oci, sif))) == f"oras://registry.example.org:5000/group/dimuon@{digest}"
    assert place_of(image(forms=(oci, sif, unpacked))) == unpacked.path
    assert list(by_name(())) == []
