"""What a manifest says of data, and what the lock keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.documents.data import (
    DataReference,
    LockedData,
    LockedDataFile,
    data_misfits,
    data_request,
    file_name,
    is_one_file,
    is_record,
    locked_data,
    stated_data,
)
from afenv.errors import AfenvError
from afenv.facility.needs import DataNeed, needs_of_data
from afenv.record import replace

EVENTS = DataReference(
    name="events",
    uri="root://eos.example.org//eos/events.root",
    size=3,
    checksums={"adler32": "024d0127"},
    replicas=("https://eos.example.org/events.root",),
)


def test_what_a_reference_is() -> None:
    files = ("root://h//a/b.root", "https://h/a?x=1", "file:a.root", "davs://h/x", "https://doi.org/abc")
    folders = ("root://h//a/", "file:folder/")
    records = (
        "rucio:user.a:b",
        "cernopendata:12341",
        "doi:10.5281/zenodo.1",
        "https://doi.org/10.5281/zenodo.1",
        "https://opendata.cern.ch/record/12341",
        "https://zenodo.org/records/1234567",
    )
    assert all(is_one_file(uri) and not is_record(uri) for uri in files)
    assert not any(is_one_file(uri) or is_record(uri) for uri in folders)
    assert all(is_record(uri) and not is_one_file(uri) for uri in records)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("root://h//a/b.root?svcClass=x", "b.root"),
        ("https://h/a%20b.csv", "a b.csv"),
        ("https://h", "data"),
        ("https://h/a/..", "data"),
        ("https://h/%2e%2e", "data"),
        ("https://h/a%0ab", "data"),
        ("https://h/x%2Fy.root", "y.root"),
    ],
)
def test_the_name_of_a_file_is_safe(uri: str, name: str) -> None:
    assert file_name(uri) == name


def test_one_file_is_stated_before_it_was_looked_up(tmp_path: Path) -> None:
    data = stated_data(EVENTS, tmp_path)
    assert data.files == (
        LockedDataFile(
            path="events.root", size=3, checksums={"adler32": "024d0127"}, uris=(EVENTS.uri, *EVENTS.replicas)
        ),
    )
    assert not data.pinned
    assert data.size == 3
    assert stated_data(DataReference(name="r", uri="doi:10.5281/zenodo.1"), tmp_path).files == ()
    assert not stated_data(DataReference(name="r", uri="file:a/"), tmp_path).pinned


def test_the_request_covers_all_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.meta4").write_text("<x/>")
    digests = {
        data_request(reference, tmp_path)
        for reference in (
            EVENTS,
            replace(EVENTS, uri="root://eos.example.org//eos/other.root"),
            replace(EVENTS, size=4),
            replace(EVENTS, checksums={}),
            replace(EVENTS, replicas=()),
            replace(EVENTS, select=("*.root",)),
            replace(EVENTS, metalink="a.meta4"),
        )
    }
    assert len(digests) == 7
    before = data_request(replace(EVENTS, metalink="a.meta4"), tmp_path)
    (tmp_path / "a.meta4").write_text("<y/>")
    assert data_request(replace(EVENTS, metalink="a.meta4"), tmp_path) != before
    assert data_request(replace(EVENTS, name="other"), tmp_path) == data_request(EVENTS, tmp_path)


def test_a_metalink_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        data_request(replace(EVENTS, metalink="a.meta4"), tmp_path)
    assert caught.value.code == "E001"
    assert "events" in str(caught.value)


def test_what_was_pinned_stays_until_the_manifest_changes(tmp_path: Path) -> None:
    other = DataReference(name="a", uri="file:a")
    first = locked_data([EVENTS, other], (), tmp_path)
    assert [data.name for data in first] == ["a", "events"]
    pinned = replace(
        first[1], files=(replace(first[1].files[0], checksums={"adler32": "024d0127", "sha256": "0" * 64}),)
    )
    assert pinned.pinned
    assert locked_data([EVENTS, other], (first[0], pinned), tmp_path)[1] == pinned
    assert data_misfits([EVENTS, other], (first[0], pinned), tmp_path) == []
    changed = replace(EVENTS, size=4)
    assert locked_data([changed, other], (first[0], pinned), tmp_path)[1] == stated_data(changed, tmp_path)
    assert data_misfits([changed], (first[0], pinned), tmp_path) == [
        "the data events has changed in the manifest",
        "the data a is locked and not in the manifest",
    ]
    assert data_misfits([EVENTS], (), tmp_path) == ["the data events is not locked"]


def test_needs_have_each_place_once() -> None:
    def file(path: str, *hosts: str) -> LockedDataFile:
        return LockedDataFile(path=path, uris=tuple(f"root://{host}//d/{path}" for host in hosts))

    data = LockedData(
        name="d",
        uri="rucio:a:b",
        request="sha256:" + "0" * 64,
        files=(file("1.root", "a", "b"), file("2.root", "a", "b"), file("x/3.root", "c")),
    )
    record = LockedData(name="r", uri="doi:10.5281/zenodo.1", request="sha256:" + "0" * 64)
    assert list(needs_of_data([data, record])) == [
        DataNeed(name="d", uris=("root://a//d/1.root", "root://b//d/1.root")),
        DataNeed(name="d", uris=("root://c//d/x/3.root",)),
        DataNeed(name="r", uris=("doi:10.5281/zenodo.1",)),
    ]
