"""Every vector of ``vm.json`` gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from afenv.documents.schema import schema_errors
from afenv.documents.vm import dump_vm, parse_vm
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name

FOLDER = specs_folder() / "vm" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    data = (folder / "vm.json").read_bytes()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert schema_errors(json.loads(data), SCHEMA) == []
    machine = parse_vm(data, "vm.json")
    known = {key: value for key, value in json.loads(data).items() if key != "later"}
    assert json.loads(dump_vm(machine)) == known


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    data = (folder / "vm.json").read_bytes()
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        parse_vm(data, "vm.json")
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == (expected["code"], expected["path"])
    assert folder.name.startswith(expected["code"])
    if expected.get("schema") != "unreadable":
        assert schema_errors(json.loads(data), SCHEMA)


def test_the_prose_has_a_valid_example() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", (FOLDER / "spec.md").read_text(), re.DOTALL)
    assert parse_vm(text.encode(), "spec.md").name == "dimuon"
