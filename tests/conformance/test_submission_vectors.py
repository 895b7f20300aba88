"""Every vector of the state of a submission gets the same verdict from the schema and from the reader."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from afenv import canonical
from afenv.errors import AfenvError
from afenv.specs import specs_folder
from afenv.submit.state import State, parse_state

from .conftest import folder_name

FOLDER = specs_folder() / "submission" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path, tmp_path: Path) -> None:
    data = (folder / "submission.json").read_bytes()
    value = parse_state(data, "here")
    CHECK.validate(value)
    # read and written again it is the same, with what is not known of
    path = tmp_path / "state.json"
    path.write_bytes(data)
    State(path, value["target"], value["bag"]).load().save()
    assert path.read_bytes() == canonical.indented(json.loads(data))


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_bytes())
    data = (folder / "submission.json").read_bytes()
    with pytest.raises(AfenvError) as caught:
        parse_state(data, "here")
    (problem,) = caught.value.problems
    assert (problem.code, problem.place, problem.path) == (expected["code"], "here", expected["path"])
    assert folder.name.startswith(problem.code)
    kind = expected.get("schema")
    if kind != "unreadable":
        assert CHECK.is_valid(json.loads(data)) == (kind == "valid")


def test_what_is_written_is_of_the_specification(tmp_path: Path) -> None:
    state = State(tmp_path / "state.json", "invenio https://example.org", "urn:uuid:1")
    state.save()
    state.update(record="abc-1", step="draft")
    state.file("bag.zip").update(md5="0" * 32, size=11, part_size=5, parts=[1, 2, 3])
    state.save()
    CHECK.validate(json.loads(state.path.read_bytes()))
    again = State(state.path, "invenio https://example.org", "urn:uuid:1").load()
    assert again.as_json() == state.as_json()
