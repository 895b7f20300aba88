"""Every vector of the verdict on two results gets the same judgement from the schema and from the reader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from afenv.compare.verdict import read_verdict
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "comparison" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())
RULES = ("E780_no_json", "E780_verdict_of_other_files", "E780_a_sure_difference_first", "E780_wrong_counts")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    found = read_verdict(folder / "comparison.json")
    jsonschema.validate(found, SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        read_verdict(folder / "comparison.json")
    problem = caught.value.problems[0]
    assert (problem.code, problem.path) == (expected["code"], expected["path"])
    if folder.name not in RULES:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads((folder / "comparison.json").read_bytes()), SCHEMA)


def test_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        read_verdict(tmp_path / "comparison.json")
    assert caught.value.code == "E001"
