# ruff: noqa: E501 -- values in rows
"""The file of a catalogue: what is written is read, and what is damaged is said to be."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard

from afenv.attest.keys import generate_key, load_private
from afenv.catalogue import file as catalogue_file
from afenv.catalogue.file import BLOCK, Catalogue, make_catalogue
from afenv.catalogue.record import ImageRecord
from afenv.catalogue.signed import MARK, TrustedKey, check_signature, sign_catalogue
from afenv.catalogue.sources import Place, find_place, open_catalogue, read_file
from afenv.documents.schema import schema_errors
from afenv.errors import AfenvError
from afenv.record import replace
from afenv.specs import specs_folder
from afenv.store.content import ContentStore

from .sample import digest, records

FOLDER = specs_folder() / "catalogue" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
SOME = tuple(records(300))


@pytest.fixture(scope="module")
def made() -> Catalogue:
    return make_catalogue(
        "team", SOME, serial=4, removed={f"r.example.org/a@{digest(1)}": "2026-01-01T00:00:00Z"}
    )


def header_of(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    return value


def with_header(made: Catalogue, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with another header and the same records."""
    header = header_of(made.data)
    change(header)
    pack = zstandard.ZstdCompressor(write_content_size=True).compress
    return pack(json.dumps(header).encode()) + made.data[-sum(made.header["frames"]) :]


def test_what_is_written_is_read(made: Catalogue) -> None:
    found = Catalogue(made.data, "x")
    assert (found.name, found.serial, found.count) == ("team", 4, 300)
    assert {one.key: one for one in found.records()} == {one.key: one for one in SOME}
    assert found.removed == made.removed and found.signature is None
    again = make_catalogue("team", found.records(), serial=4, removed=found.removed)
    assert again.data == made.data


def test_the_order_of_records_does_not_matter(made: Catalogue) -> None:
    assert make_catalogue("team", reversed(SOME), serial=4, removed=made.removed).data == made.data


def test_the_header_has_the_form_of_the_schema(made: Catalogue) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert schema_errors(header_of(made.data), SCHEMA) == []
    for entry in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in entry.get("properties", {}).items():
            assert value.get("title") and value["description"].endswith("."), key


def test_the_header_in_the_prose_has_it_too() -> None:
    import re

    text = (FOLDER / "spec.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert schema_errors(json.loads(example), SCHEMA) == []
    assert f"{BLOCK} to a frame" in text and f"{catalogue_file.LARGEST >> 20} MiB" in text
    assert f"{catalogue_file.SKIPPABLE:#x}".upper().replace("X", "x") in text


def test_it_is_what_zstd_decompresses(made: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "c.zst").write_bytes(made.with_signature(b"{}").data)
    with (
        (tmp_path / "c.zst").open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as reader,
    ):
        lines = reader.read().splitlines()
    assert len(lines) == 301 and json.loads(lines[0])["count"] == 300
    assert [json.loads(line)["name"] for line in lines[1:]] == list(made.index["name"])


def test_one_record_is_read_without_the_others(made: Catalogue) -> None:
    found = Catalogue(made.data, "x")
    assert found.record(299).name == made.index["name"][299]
    assert list(found._lines) == [299 // BLOCK]


@pytest.mark.parametrize("cut", [0, 3, 17, 40, 1000, -1, -100])
def test_a_truncated_file(made: Catalogue, cut: int) -> None:
    with pytest.raises(AfenvError) as caught:
        Catalogue(made.data[:cut], "c.zst")
    assert caught.value.code == "E622" and caught.value.problems[0].place == "c.zst"


def test_every_cut_and_every_changed_byte_is_noticed_or_harmless() -> None:
    """A file of few records, cut at each place and changed at each byte: E622 and E015 only, or the same."""
    small = make_catalogue("s", SOME[:3]).data
    good = {one.key for one in SOME[:3]}
    for place in range(0, len(small), 7):
        for data in (small[:place], small[:place] + bytes([small[place] ^ 0x41]) + small[place + 1 :]):
            try:
                found = {one.key for one in Catalogue(data, "x").records()}
            except AfenvError as error:
                assert error.code in ("E622", "E015")
            else:
                assert len(found) == len(good)


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "c.zst").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(AfenvError, match="more than 64") as caught:
        read_file(tmp_path / "c.zst")
    assert caught.value.code == "E622"


def test_a_frame_that_becomes_too_large(made: Catalogue) -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(65 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(AfenvError, match="a frame of it has more than 64 MiB"):
        Catalogue(bomb, "x")
    without_size = zstandard.ZstdCompressor(write_content_size=False).compress(b"{}")
    with pytest.raises(AfenvError, match="does not say how many"):
        Catalogue(without_size, "x")
    other = zstandard.ZstdCompressor(write_content_size=True).compress(b"\n" * 10**6)
    data = with_header(make_catalogue("x", SOME[:1]), lambda header: header.update(frames=[len(other)]))
    size = len(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    head = zstandard.ZstdCompressor(write_content_size=True).compress(
        zstandard.ZstdDecompressor().decompressobj().decompress(data)
    )
    assert size
    with pytest.raises(AfenvError, match="frame 1 does not hold 1 records"):
        list(Catalogue(head + other, "x").records())


def test_a_newer_format(made: Catalogue) -> None:
    with pytest.raises(AfenvError) as caught:
        Catalogue(with_header(made, lambda header: header.update({"afenv-catalogue": 2})), "x")
    assert caught.value.code == "E015" and "A newer afenv" in (caught.value.problems[0].remedy or "")


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(header: dict[str, Any]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        inner: Any = header
        for step in steps:
            inner = inner[step]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value

    return apply


DAMAGE = [
    ("afenv-catalogue", ..., "afenv-catalogue"),
    ("afenv-catalogue", "1", "afenv-catalogue"),
    ("name", "", "name"),
    ("name", "a\x1b[2J", "name"),
    ("serial", -1, "serial"),
    ("serial", True, "serial"),
    ("count", 299, "index.name"),
    ("count", 10**9, "frames"),
    ("frames", [1], "frames"),
    ("frames", "x", "frames"),
    ("index", [], "index"),
    ("index.gpu", ..., "index"),
    ("index.gpu.0", 99999, "index.gpu"),
    ("index.gpu.0", True, "index.gpu"),
    ("index.machine.0", -1, "index.machine"),
    ("index.size.5", 1.5, "index.size"),
    ("index.size.5", 1 << 60, "index.size"),
    ("index.name.5", 7, "index.name"),
    ("index.state.5", 5, "index.state"),
    ("tables", {}, "tables"),
    ("tables.gpu", {}, "tables.gpu"),
    ("tables.gpu.0", [], "tables.gpu[0].gpu"),
    ("tables.machine.0.level", "v9", "tables.machine[0].level"),
    ("tables.machine.0.colour", 1, "tables.machine[0].colour"),
    ("tables.place.0.registry", 1, "tables.place[0].registry"),
    ("tables.place.0.unpacked-at", "/etc", "tables.place[0].unpacked-at"),
    ("tables.carrier.0.forms", ["tar"], "tables.carrier[0].forms[0]"),
    ("removed", {"a": "yesterday"}, "removed.a"),
]


@pytest.mark.parametrize(("path", "value", "said"), DAMAGE, ids=[f"{one[0]}={one[1]}"[:40] for one in DAMAGE])
def test_a_damaged_header(made: Catalogue, path: str, value: Any, said: str) -> None:
    data = with_header(made, change(path, value))
    with pytest.raises(AfenvError) as caught:
        Catalogue(data, "x")
    assert caught.value.code == "E622"
    assert caught.value.problems[0].path == said
    schema_says = schema_errors(header_of(data), SCHEMA)
    if path not in ("count", "frames") and not path.startswith(("index.gpu.0", "index.size.5")):
        assert schema_says


@pytest.mark.parametrize(
    ("path", "value"),
    [("index.size.5", 7), ("index.name.5", "other"), ("index.created.5", "2000"), ("index.state.5", 2)],
)
def test_an_index_that_says_something_else(made: Catalogue, path: str, value: Any) -> None:
    column = path.split(".")[1]
    assert made.index[column][5] != value
    found = Catalogue(with_header(made, change(path, value)), "x")
    with pytest.raises(AfenvError, match=f"its index has another {column}") as caught:
        found.record(5)
    assert caught.value.problems[0].path == "records[5]"
    found.record(6)


def test_a_record_that_is_damaged_is_named(made: Catalogue) -> None:
    pack = zstandard.ZstdCompressor(write_content_size=True).compress
    for line, message in (
        (b"{", "a record is not JSON"),
        (b"[]", "it has no 'afenv-record'"),
        (b'{"afenv-record":1}', "the key 'name' is missing"),
    ):
        block = pack(line + b"\n")
        one = make_catalogue("x", SOME[:1])
        header = header_of(one.data) | {"frames": [len(block)]}
        found = Catalogue(pack(json.dumps(header).encode()) + block, "x")
        with pytest.raises(AfenvError, match=message) as caught:
            list(found.records())
        assert caught.value.code == "E622"


def test_a_record_that_stands_twice(made: Catalogue) -> None:
    twice = make_catalogue("x", [SOME[0], SOME[0]])
    with pytest.raises(AfenvError, match="one stands twice"):
        list(twice.records())


def test_unknown_keys_are_kept(made: Catalogue) -> None:
    new = make_catalogue("team", SOME[:2], more={"colour": {"of": "cover"}})
    assert new.more == {"colour": {"of": "cover"}}
    one = replace(SOME[0], more={"rating": 5})
    assert make_catalogue("x", [one]).record(0) == one


# signatures


@pytest.fixture(scope="module")
def keys() -> tuple[Any, TrustedKey, TrustedKey]:
    private, public = generate_key()
    _, other = generate_key("ed25519")
    return (
        load_private(private),
        TrustedKey(pem=public, place="own.pub"),
        TrustedKey(pem=other, place="other.pub"),
    )


def test_a_signature(made: Catalogue, keys: Any, store: ContentStore) -> None:
    key, own, other = keys
    signed = Catalogue(sign_catalogue(made, key).data, "x")
    assert signed.signed == made.data and signed.count == made.count
    assert check_signature(signed, [other, own]) == "own.pub"
    for given, message in (([other], "another key than other.pub"), ([], "whose signature on it is trusted")):
        with pytest.raises(AfenvError, match=message) as caught:
            check_signature(signed, given)
        assert caught.value.code == "E621" and caught.value.exit_status == 5
    with pytest.raises(AfenvError, match="it is not signed"):
        check_signature(made, [own])


def test_what_was_changed_after_signing(made: Catalogue, keys: Any) -> None:
    key, own, _ = keys
    signed = sign_catalogue(made, key)
    other = make_catalogue("team", SOME[:299], serial=5)
    assert signed.signature is not None
    with pytest.raises(AfenvError, match="about something else"):
        check_signature(other.with_signature(signed.signature), [own])
    renamed = sign_catalogue(make_catalogue("mine", SOME[:2]), key)
    assert renamed.signature is not None
    with pytest.raises(AfenvError, match="about something else"):
        check_signature(make_catalogue("team", SOME[:2]).with_signature(renamed.signature), [own])
    with pytest.raises(AfenvError) as caught:
        check_signature(made.with_signature(b"{}"), [own])
    assert caught.value.code == "E621"
    with pytest.raises(AfenvError, match="not a public key"):
        check_signature(signed, [TrustedKey(pem=b"x", place="x.pub")])


def test_what_follows_the_records(made: Catalogue, keys: Any) -> None:
    signed = sign_catalogue(made, keys[0]).data
    for data in (signed[:-1], signed + b"x", made.data + b"12345678"):
        with pytest.raises(AfenvError) as caught:
            Catalogue(data, "x")
        assert caught.value.code == "E622"


def test_a_good_answer_is_remembered(
    made: Catalogue, keys: Any, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, own, other = keys
    signed = sign_catalogue(made, key)
    check_signature(signed, [own], store)
    assert list((store.folder / "keys" / MARK).rglob("*"))
    monkeypatch.setattr("afenv.catalogue.signed._vouching", lambda *_: pytest.fail("checked again"))
    assert check_signature(signed, [own], store) == "own.pub"
    monkeypatch.undo()
    with pytest.raises(AfenvError):
        check_signature(signed, [other], store)
    changed = sign_catalogue(make_catalogue("team", SOME[:2]), key).data[:-1] + b" "
    with pytest.raises(AfenvError):
        check_signature(Catalogue(changed, "x"), [own], store)


def test_where_a_catalogue_is(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"")
    assert find_place("here", tmp_path).path == tmp_path / "here"
    assert find_place("there.zst", tmp_path).path == tmp_path / "there.zst"
    assert find_place("r.example.org/a/b", tmp_path) == Place(reference="r.example.org/a/b")
    assert str(find_place("localhost:5000/a:main", tmp_path)) == "localhost:5000/a:main"
    with pytest.raises(AfenvError, match="neither a file nor a repository") as caught:
        find_place("there", tmp_path)
    assert caught.value.code == "E620"


def test_no_file(tmp_path: Path, store: ContentStore) -> None:
    with pytest.raises(AfenvError) as caught:
        open_catalogue(Place(path=tmp_path / "c.zst"), (), store)
    assert caught.value.code == "E620" and caught.value.exit_status == 2


# size, and the cost of choosing


def test_ten_thousand_records_are_small_and_choosing_reads_few_of_them() -> None:
    """Below twenty megabytes by far; and a bound on time that holds on slow machines: one is a part of the other."""
    import time

    from afenv.catalogue.rank import rank
    from afenv.documents.facility_file import read_facility

    one: list[ImageRecord] = list(records(1250))
    more = [
        replace(
            record,
            name=f"{record.name}-{number}",
            digest=digest(record.digest, number),
            image_id=digest(record.image_id, number),
            attached={kind: digest(value, number) for kind, value in record.attached.items()},
        )
        for number in range(8)
        for record in one
    ]
    many = make_catalogue("many", more)
    assert many.count == 10_000
    assert len(many.data) < 8_000_000
    folder = specs_folder() / "facility" / "v1" / "examples" / "batch-apptainer-cvmfs"
    profile = read_facility(folder / "facility.yaml")
    start = time.process_time()
    found = rank(Catalogue(many.data, "x"), profile)
    shown = [one.verdict for one, _ in list(found.newest())[:20]]
    choosing = time.process_time() - start
    start = time.process_time()
    sum(1 for row in range(0, many.count, 10) if Catalogue.record(many, row))
    reading = 10 * (time.process_time() - start)
    assert len(shown) == 20 and choosing < reading / 2


def test_selecting_starts_without_what_it_does_not_need(tmp_path: Path) -> None:
    """`afenv select` imports neither the cryptography nor readers of YAML once both answers are known."""
    import os
    import sys

    private, public = generate_key()
    (tmp_path / "k.pub").write_bytes(public)
    (tmp_path / "c.zst").write_bytes(sign_catalogue(make_catalogue("c", SOME), load_private(private)).data)
    source = specs_folder() / "facility" / "v1" / "examples" / "cloud-gpu" / "facility.yaml"
    words = ["select", "--facility", str(source), "--catalogue", "c.zst", "--trust", "k.pub"]
    code = (
        "import sys; from afenv.cli import main; main(sys.argv[1:]); "
        "print('LOADED', *(n for n in ('cryptography', 'ruamel.yaml', 'jsonschema', 'requests', 'tarfile', "
        "'afenv.workflow.check') if n in sys.modules))"
    )
    environment = os.environ | {"AFENV_CACHE_DIR": str(tmp_path / "cache")}
    for expected in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = done.stdout.splitlines()[-1].split()[1:]
        assert ("cryptography" in loaded) is expected
        assert not {"requests", "tarfile", "afenv.workflow.check"} & set(loaded)
    assert loaded == []
