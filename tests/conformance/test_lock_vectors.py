"""Every vector of the lock gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afenv.documents.lockfile import dump_lock, read_lock
from afenv.documents.schema import schema_errors
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "lock" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    path = folder / "afenv.lock"
    data = path.read_bytes()
    assert schema_errors(json.loads(data), SCHEMA) == []
    assert dump_lock(read_lock(path)) == data


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    path = folder / "afenv.lock"
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        read_lock(path)
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        (expected["code"], expected["path"])
    ]
    assert folder.name.startswith(expected["code"])
    if expected.get("schema") != "unreadable":
        assert schema_errors(json.loads(path.read_bytes()), SCHEMA)
