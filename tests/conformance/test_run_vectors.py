"""Every vector of the record of a run gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from afenv.errors import AfenvError
from afenv.rerun.record import read_record
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "run" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    record = read_record(folder)
    assert record == read_record(folder / "record.json")
    jsonschema.validate(record, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        read_record(folder)
    problem = caught.value.problems[0]
    assert (problem.code, problem.path) == (expected["code"], expected["path"])
    assert folder.name.startswith(problem.code)


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        read_record(tmp_path)
    assert caught.value.code == "E001"
