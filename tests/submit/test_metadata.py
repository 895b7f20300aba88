"""What a repository is told: from the crate, field by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.submit.description import Description, read_description
from afenv.submit.invenio_metadata import draft_document, split_name
from afenv.workflow.archive_bag import open_archive
from afenv.workflow.submit import SubmitOptions, submit

from .bags import METADATA, make_bag


def described(tmp_path: Path) -> Description:
    with open_archive(make_bag(tmp_path / "bag.zip")) as bag:
        return read_description(bag.crate(), "urn:uuid:1", "bag")


def test_every_field_of_the_crate_arrives(tmp_path: Path) -> None:
    document = draft_document(described(tmp_path), publisher="Zenodo", doi="10.5072/x")
    metadata = document["metadata"]
    assert document["access"] == {"record": "public", "files": "public"}
    assert metadata["title"] == METADATA["title"]
    assert metadata["creators"] == [
        {
            "person_or_org": {
                "type": "personal",
                "family_name": "Example",
                "given_name": "Ada Maria",
                "identifiers": [{"scheme": "orcid", "identifier": "0000-0002-1825-0097"}],
            },
            "affiliations": [{"name": "Example University"}],
        },
        {"person_or_org": {"type": "personal", "family_name": "Sample", "given_name": "Bo"}},
    ]
    assert metadata["rights"] == [{"id": "apache-2.0"}]
    assert metadata["subjects"] == [{"subject": "dimuon"}, {"subject": "mass"}]
    assert metadata["funding"] == [
        {"funder": {"name": "Example Council"}, "award": {"number": "EC-1", "title": {"en": "EC-1"}}},
        {"funder": {"name": "Another"}},
    ]
    assert "The mass of &lt;two&gt; muons &amp; more." in metadata["description"]
    assert "https://doi.org/10.5072/x" in metadata["description"]
    related = {one["identifier"] for one in metadata["related_identifiers"]}
    assert "https://example.org/dimuon" in related
    assert metadata["publication_date"].count("-") == 2
    assert metadata["identifiers"] == [{"scheme": "urn", "identifier": "urn:uuid:1"}]


@pytest.mark.parametrize(
    ("license", "rights"),
    [
        ("", None),
        ("MIT", [{"id": "mit"}]),
        ("MIT OR Apache-2.0", [{"title": {"en": "MIT OR Apache-2.0"}}]),
        ("LicenseRef-own", [{"title": {"en": "LicenseRef-own"}}]),
    ],
)
def test_licences(tmp_path: Path, license: str, rights: object) -> None:
    bag = make_bag(tmp_path / "bag.zip", metadata={**METADATA, "license": license})
    done = submit(bag, SubmitOptions(to=("zenodo",), dry_run=True), quiet=True)
    assert done.metadata["metadata"].get("rights") == rights
    assert done.notes == (() if license else ("the manifest states no licence",))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ada Example", ("Example", "Ada")),
        ("Example, Ada", ("Example", "Ada")),
        ("Ada", ("Ada", "")),
        ("van der Example, A. B.", ("van der Example", "A. B.")),
    ],
)
def test_names(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def test_one_bag_has_one_identity_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    options = SubmitOptions(to=("zenodo",), dry_run=True)
    one = submit(make_bag(tmp_path / "a/bag.zip"), options, quiet=True)
    split = submit(make_bag(tmp_path / "b/bag.zip", parts=3000), options, quiet=True)
    other = submit(make_bag(tmp_path / "other.zip", filler=9), options, quiet=True)
    assert one.metadata == split.metadata
    assert one.metadata["metadata"]["identifiers"] != other.metadata["metadata"]["identifiers"]


@pytest.mark.parametrize(
    "crate", [b"", b"[]", b"{}", b'{"@graph": 3}', b'{"@graph": [{"@id": "./"}]}', b"[" * 100_000]
)
def test_a_damaged_crate_is_one_clear_error(crate: bytes) -> None:
    with pytest.raises(AfenvError) as caught:
        read_description(crate, "urn:uuid:1", "bag")
    assert caught.value.code == "E727"
