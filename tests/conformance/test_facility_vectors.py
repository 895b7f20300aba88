"""Every vector of the facility profile gets the same verdict from the schema and from the parser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from afenv.documents.cuda import cuda_tables, version
from afenv.documents.facility import FacilityProfile
from afenv.documents.facility_file import dump_facility, facility_tree, parse_facility, read_facility
from afenv.documents.schema import schema_errors
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name, summary

FOLDER = specs_folder() / "facility" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
EXAMPLES = sorted((FOLDER / "examples").iterdir())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + EXAMPLES
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    path = folder / "facility.yaml"
    tree = read_yaml(path.read_bytes(), str(path)).root.plain()
    assert schema_errors(tree, SCHEMA) == []
    profile = read_facility(path)
    assert parse_facility(dump_facility(profile).encode(), "written") == profile
    assert schema_errors(facility_tree(profile), SCHEMA) == []


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    path = folder / "facility.yaml"
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        read_facility(path)
    assert [summary(problem, path) for problem in caught.value.problems] == expected["problems"]
    assert folder.name[:4] in {problem.code for problem in caught.value.problems}
    assert caught.value.exit_status == 2
    for problem in caught.value.problems:
        assert not re.search("is not valid under|does not match '|is not of type", problem.message)
    found_by = expected.get("schema")
    if found_by != "unreadable":
        tree = read_yaml(path.read_bytes(), str(path)).root.plain()
        assert bool(schema_errors(tree, SCHEMA)) == (found_by is None)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(AfenvError) as caught:
        parse_facility(b"afenv-facility: 1\nname: x\nruntimes: [{name: dokcer}]\n", "f.yaml")
    (problem,) = caught.value.problems
    assert problem.place == "f.yaml:3:19"
    assert "did you mean 'docker'?" in problem.message


def test_examples_are_those_of_the_kinds_of_facility() -> None:
    assert [folder.name for folder in EXAMPLES] == [
        "batch-apptainer-cvmfs",
        "cloud-gpu",
        "hpc-offline",
        "kubernetes-jupyterhub",
    ]


def test_the_prose_has_a_valid_example() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "spec.md").read_text(), re.DOTALL)
    assert parse_facility(text.encode(), "spec.md").name == "batch"


def test_schema_and_values_say_the_same() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    fields = {name.replace("_", "-") for name in FacilityProfile.__slots__}
    assert set(SCHEMA["properties"]) == fields | {"afenv-facility"}
    for entry in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in entry.get("properties", {}).items():
            assert value.get("title"), key
            assert value["description"].endswith("."), key
        if "properties" in entry:
            assert entry["additionalProperties"] is False


def test_what_is_absent_is_not_known_and_what_is_empty_is_not_there() -> None:
    profile = parse_facility(b"afenv-facility: 1\nname: x\ngpus: []\n", "f.yaml")
    assert profile.gpus == ()
    assert profile.runtimes is None


def test_cuda_tables() -> None:
    tables = cuda_tables()
    assert tables.full_driver((12, 4)) == (550, 54, 14)
    assert tables.least_driver((12, 4)) == (525,)
    assert tables.least_driver((10, 2)) == (440, 33)
    assert tables.full_driver((12, 7)) is None
    assert tables.cuda_of_driver((535, 104, 5)) == (12, 2)
    assert tables.cuda_of_driver((100,)) is None
    volta, hopper = tables.architecture((7, 0)), tables.architecture((9, 0))
    assert volta and volta.last_driver == 580 and volta.ended_before((13, 0))
    assert not volta.ended_before((12, 9))
    assert hopper and hopper.first == (11, 8) and not hopper.ended_before((13, 2))
    assert tables.architecture((99, 0)) is None
    assert version("5.14.0-427.el9.x86_64") == (5, 14, 0)
    assert version("595.45.04") == (595, 45, 4)
