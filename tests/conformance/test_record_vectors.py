"""Every vector of the record gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from afenv.catalogue.record_tree import dump_record, parse_record
from afenv.documents.schema import schema_errors
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "record" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    data = (folder / "record.json").read_bytes()
    assert schema_errors(json.loads(data), SCHEMA) == []
    written = dump_record(parse_record(data, "record"))
    assert json.loads(written) == json.loads(data)
    assert dump_record(parse_record(written, "again")) == written


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    data = (folder / "record.json").read_bytes()
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        parse_record(data, "record")
    (problem,) = caught.value.problems
    assert {"code": problem.code, "path": problem.path} == {key: expected[key] for key in ("code", "path")}
    assert folder.name.startswith(expected["code"])
    found_by = expected.get("schema")
    if found_by != "unreadable":
        assert bool(schema_errors(json.loads(data), SCHEMA)) == (found_by is None)


def test_the_prose_has_a_valid_example() -> None:
    import re

    (text,) = re.findall(r"```json\n(.*?)```", (FOLDER / "spec.md").read_text(), re.DOTALL)
    assert parse_record(text.encode(), "spec.md").name == "dimuon"


def test_schema_says_what_its_keys_mean() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for entry in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in entry.get("properties", {}).items():
            assert value.get("title"), key
            assert value["description"].endswith("."), key


def test_a_record_beyond_the_recursion_limit() -> None:
    with pytest.raises(AfenvError) as caught:
        parse_record(b"[" * 100_000, "deep")
    assert caught.value.code == "E622"
