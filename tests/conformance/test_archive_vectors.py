"""Every vector of the archive's index gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from afenv.archive.index import dump_index, parse_index
from afenv.documents.schema import schema_errors
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "archive" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())
NAME = "afenv-archive.json"


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    data = (folder / NAME).read_bytes()
    assert schema_errors(json.loads(data), SCHEMA) == []
    assert dump_index(parse_index(data, NAME)) == data


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    data = (folder / NAME).read_bytes()
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        parse_index(data, NAME)
    assert caught.value.code == expected["code"] == folder.name[:4]
    if expected.get("schema") != "unreadable":
        found_by_schema = bool(schema_errors(json.loads(data), SCHEMA))
        assert found_by_schema == (expected.get("schema") != "valid")


def test_the_prose_has_a_valid_example() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", (FOLDER / "spec.md").read_text(), re.DOTALL)
    index = parse_index(text.encode(), "spec.md")
    assert index.environments["default"].platform == "linux/amd64"
