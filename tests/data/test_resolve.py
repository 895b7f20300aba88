"""References are resolved to files: folders, metalinks, and records of repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afenv.data.access import DataAccess
from afenv.data.metalink import parse_metalink
from afenv.data.resolve import resolve
from afenv.data.rucio import replicas_to_files
from afenv.documents.data import DataReference, LockedData, LockedDataFile
from afenv.errors import AfenvError

from .conftest import checksums
from .stand_in import Documents, datacite, dataverse, invenio, open_data

EOS = "root://eospublic.cern.ch//eos/opendata/cms/"
ONE = {"uri": EOS + "a/1.root", "size": 3, "checksum": "adler32:24d0127", "key": "1.root", "bucket": "b"}
TWO = {"uri": EOS + "b/2.root", "size": 4, "checksum": "adler32:1a2b3c4d"}


def files(access: DataAccess, uri: str, documents: Any = None, **more: Any) -> tuple[LockedDataFile, ...]:
    reference = DataReference(name="d", uri=uri, **more)
    found: LockedData = resolve(reference, access, documents=documents or Documents({}))
    assert found.name == "d"
    assert found.uri == uri
    return found.files


def failure(access: DataAccess, uri: str, documents: Any = None, **more: Any) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        files(access, uri, documents, **more)
    return caught.value


@pytest.mark.parametrize("uri", ["cernopendata:12341", "https://opendata.cern.ch/record/12341"])
def test_open_data(access: DataAccess, uri: str) -> None:
    indices = [{"key": "x_file_index.json", "size": 4, "files": [TWO]}]
    answer = open_data(12341, [ONE], indices)
    documents = Documents({"https://opendata.cern.ch/api/records/12341": answer})
    assert files(access, uri, documents) == (
        LockedDataFile(
            path="1.root",
            size=3,
            checksums={"adler32": "024d0127"},  # the record has no leading zeros
            uris=(EOS + "a/1.root", "https://opendata.cern.ch/eos/opendata/cms/a/1.root"),
        ),
        LockedDataFile(
            path="2.root",
            size=4,
            checksums={"adler32": "1a2b3c4d"},
            uris=(EOS + "b/2.root", "https://opendata.cern.ch/eos/opendata/cms/b/2.root"),
        ),
    )
    assert [file.path for file in files(access, uri, documents, select=("2*",))] == ["2.root"]


@pytest.mark.parametrize(
    "uri", ["doi:10.5281/zenodo.42", "https://doi.org/10.5281/zenodo.42", "https://zenodo.org/records/42"]
)
def test_zenodo(access: DataAccess, uri: str) -> None:
    answer = invenio("https://zenodo.org", "42", {"a.root": b"abc"})
    documents = Documents({"https://zenodo.org/api/records/42/files": answer})
    assert files(access, uri, documents) == (
        LockedDataFile(
            path="a.root",
            size=3,
            checksums={"md5": checksums(b"abc")["md5"]},
            uris=("https://zenodo.org/api/records/42/files/a.root/content",),
        ),
    )


def test_datacite_leads_to_each_kind_of_repository(access: DataAccess) -> None:
    rdm = "https://rdm.example.org"
    answers = {
        "https://api.datacite.org/dois/10.1234/rdm": datacite("10.1234/rdm", f"{rdm}/records/ab1-cd2"),
        f"{rdm}/api/records/ab1-cd2/files": invenio(rdm, "ab1-cd2", {"r.root": b"r"}),
        "https://api.datacite.org/dois/10.7483/OPENDATA.CMS.A": datacite(
            "10.7483/OPENDATA.CMS.A", "http://opendata.cern.ch/record/7"
        ),
        "https://opendata.cern.ch/api/records/7": open_data(7, [ONE]),
        "https://api.datacite.org/dois/10.7910/DVN/X": datacite(
            "10.7910/dvn/x", "https://dv.example.org/dataset.xhtml?persistentId=doi:10.7910/DVN/X"
        ),
        "https://dv.example.org/api/datasets/:persistentId/?persistentId=doi:10.7910/DVN/X": dataverse(
            [
                {
                    "directoryLabel": "data",
                    "dataFile": {
                        "id": 5,
                        "filename": "t.csv",
                        "filesize": 1,
                        "checksum": {"type": "SHA-1", "value": "ab" * 20},
                    },
                },
                {"dataFile": {"id": 6, "filename": "u.csv", "filesize": 2, "md5": "cd" * 16}},
            ]
        ),
        "https://api.datacite.org/dois/10.1234/direct": datacite(
            "10.1234/direct", "https://else.example.org/", ["https://else.example.org/f/x.root"]
        ),
        "https://api.datacite.org/dois/10.1234/page": datacite("10.1234/page", "https://else.example.org/"),
    }
    documents = Documents(answers)
    assert [file.path for file in files(access, "doi:10.1234/rdm", documents)] == ["r.root"]
    assert [file.path for file in files(access, "doi:10.7483/OPENDATA.CMS.A", documents)] == ["1.root"]
    first, second = files(access, "doi:10.7910/DVN/X", documents)
    assert first.path == "data/t.csv"
    assert first.uris == ("https://dv.example.org/api/access/datafile/5",)
    assert (first.checksums, second.checksums) == ({"sha1": "ab" * 20}, {"md5": "cd" * 16})
    (direct,) = files(access, "doi:10.1234/direct", documents)
    assert direct == LockedDataFile(path="x.root", uris=("https://else.example.org/f/x.root",))
    assert failure(access, "doi:10.1234/page", documents).code == "E643"


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"<html>", "E643", "not JSON"),
        ([], "E643", "not a JSON object"),
        ({}, "E643", "no 'metadata'"),
        ({"metadata": {"files": "x"}}, "E643", "'files' is not a list"),
        ({"metadata": {}}, "E643", "it has no files"),
        ({"metadata": {"files": [{"size": 1}]}}, "E643", "no 'uri'"),
        ({"metadata": {"files": [ONE | {"size": "3"}]}}, "E643", "size"),
        ({"metadata": {"files": [ONE | {"size": -1}]}}, "E643", "size"),
        ({"metadata": {"files": [ONE | {"checksum": "md5:12"}]}}, "E643", "md5"),
        ({"metadata": {"files": [ONE | {"checksum": "adler32:xyz"}]}}, "E643", "adler32"),
        ({"metadata": {"files": [None]}}, "E643", "no 'uri'"),
        ({"metadata": {"files": [ONE, ONE]}}, "E644", "twice"),
        ({"metadata": {"files": [ONE | {"uri": "root://h//.."}]}}, "E644", "no safe path"),
        ({"metadata": {"files": [ONE | {"uri": "root://h//a\nb"}]}}, "E644", "no safe path"),
        ({"metadata": {"files": [ONE | {"uri": "root://h//" + "a" * 300}]}}, "E644", "no safe path"),
    ],
)
def test_bad_records(access: DataAccess, answer: Any, code: str, words: str) -> None:
    error = failure(access, "cernopendata:1", Documents({"https://opendata.cern.ch/api/records/1": answer}))
    assert error.code == code
    assert words in str(error)


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../b", "a//b", ".", "a\x00b", "\u202ex"])
def test_unsafe_names_of_a_record(access: DataAccess, key: str) -> None:
    answer = invenio("https://zenodo.org", "1", {key: b""})
    error = failure(
        access, "doi:10.5281/zenodo.1", Documents({"https://zenodo.org/api/records/1/files": answer})
    )
    assert error.code == "E644"


def test_a_file_inside_of_another(access: DataAccess) -> None:
    answer = invenio("https://zenodo.org", "1", {"a/b": b"", "a": b""})
    error = failure(
        access, "doi:10.5281/zenodo.1", Documents({"https://zenodo.org/api/records/1/files": answer})
    )
    assert error.code == "E644"


def test_algorithms_that_are_not_known_say_nothing(access: DataAccess) -> None:
    answer = open_data(1, [ONE | {"checksum": "crc32c:12345678"}])
    documents = Documents({"https://opendata.cern.ch/api/records/1": answer})
    assert files(access, "cernopendata:1", documents)[0].checksums == {}


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("cernopendata:1", "E642"),
        ("doi:10.5281/zenodo.1", "E642"),
        ("doi:10.1234/none", "E642"),
        ("cernopendata:x/../y", "E640"),
        ("doi:zenodo", "E640"),
        ("rucio:scope", "E640"),
        ("https://h/a/", "E640"),
        ("nonsense:abc/", "E640"),
        ("root://user:secret@h//a/", "E640"),
    ],
)
def test_what_leads_nowhere(access: DataAccess, uri: str, code: str) -> None:
    error = failure(access, uri)
    assert error.code == code
    assert "secret" not in str(error)


def test_nothing_is_selected(access: DataAccess) -> None:
    documents = Documents({"https://opendata.cern.ch/api/records/1": open_data(1, [ONE])})
    error = failure(access, "cernopendata:1", documents, select=("*.csv",))
    assert error.code == "E643"
    assert "`select` fits none of its files, such as " in str(error)


def test_a_folder(access: DataAccess, tmp_path: Path) -> None:
    for name in ("a b.root", "sub/c.root", "sub/d.txt"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"abc")
    found = files(access, "file:folder/", select=("*.root",))
    assert [(file.path, file.size, file.uris) for file in found] == [
        ("a b.root", 3, ("file:folder/a%20b.root",)),
        ("sub/c.root", 3, ("file:folder/sub/c.root",)),
    ]
    assert failure(access, "file:nowhere/").code == "E642"


METALINK = b"""<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
 <file name="1.root">
  <identity>user.a:1.root</identity>
  <hash type="adler32">24d0127</hash>
  <hash type="sha-256">SHA</hash>
  <hash type="crc64">00</hash>
  <size>3</size>
  <url location="B" priority="2">root://b//1.root</url>
  <url location="A" priority="1">davs://a/1.root</url>
 </file>
</metalink>
""".replace(b"SHA", b"ab" * 32)


def test_a_metalink(access: DataAccess, tmp_path: Path) -> None:
    (tmp_path / "l.meta4").write_bytes(METALINK)
    assert files(access, "rucio:user.a:set", metalink="l.meta4") == (
        LockedDataFile(
            path="1.root",
            size=3,
            checksums={"adler32": "024d0127", "sha256": "ab" * 32},
            uris=("davs://a/1.root", "root://b//1.root"),
        ),
    )
    (tmp_path / "l.meta4").write_bytes(METALINK.replace(b'name="1.root"', b'name="../1.root"'))
    assert failure(access, "rucio:user.a:set", metalink="l.meta4").code == "E644"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<metalink",
        b"<metalink/>",
        METALINK.replace(b"<size>3", b"<size>-3"),
        METALINK.replace(b"24d0127", b"24d012z"),
        METALINK.replace(b'name="1.root"', b""),
        METALINK.replace(b"url", b"uri"),
        METALINK.replace(b"<metalink xmlns", b'<!DOCTYPE m [<!ENTITY a "b">]><metalink xmlns'),
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
    ],
)
def test_what_is_no_metalink(data: bytes) -> None:
    with pytest.raises(AfenvError) as caught:
        parse_metalink(data, "l.meta4")
    assert caught.value.code == "E648"


def test_replicas_of_rucio() -> None:
    entry = {
        "scope": "user.a",
        "name": "1.root",
        "bytes": 3,
        "adler32": "24d0127",
        "md5": None,
        "rses": {"A": ["root://a//1.root"]},
        "pfns": {
            "root://b//1.root": {"rse": "B", "priority": 2, "domain": "wan"},
            "davs://a/1.root": {"rse": "A", "priority": 1, "domain": "wan"},
            "https://s3/1.root?X-Amz-Signature=secret": {"rse": "S", "priority": 0, "domain": "wan"},
        },
    }
    (file,) = replicas_to_files([entry], "rucio:user.a:set")
    assert file == LockedDataFile(
        path="1.root", size=3, checksums={"adler32": "024d0127"}, uris=("davs://a/1.root", "root://b//1.root")
    )
    first, second = replicas_to_files([entry, entry | {"scope": "user.b"}], "rucio:user.a:set")
    assert (first.path, second.path) == ("user.a/1.root", "user.b/1.root")
    for bad, code in (({}, "E643"), (entry | {"pfns": {}}, "E642"), (entry | {"pfns": []}, "E643")):
        with pytest.raises(AfenvError) as caught:
            replicas_to_files([bad], "rucio:user.a:set")
        assert caught.value.code == code


def test_without_rucio_a_list_is_the_way(access: DataAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rucio", None)
    error = failure(access, "rucio:user.a:set")
    assert error.code == "E646"
    assert "--metalink" in str(error)
