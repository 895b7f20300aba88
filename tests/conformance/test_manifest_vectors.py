"""Every vector of the manifest gets the same verdict from the schema and from the parser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afenv.documents.load import check_document, load_manifest
from afenv.documents.schema import schema_errors
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError, catalogue
from afenv.specs import specs_folder

from .conftest import folder_name, summary

FOLDER = specs_folder() / "manifest" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


def _load_for_use(path: Path) -> None:
    load_manifest(path)


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    path = folder / "afenv.yaml"
    document = read_yaml(path.read_bytes(), str(path))
    assert schema_errors(document.root.plain(), SCHEMA) == []
    assert check_document(document) == []
    assert load_manifest(path).environments


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    path = folder / "afenv.yaml"
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        _load_for_use(path)
    assert [summary(problem, path) for problem in caught.value.problems] == expected["problems"]
    assert folder.name[:4] in {problem.code for problem in caught.value.problems}
    assert catalogue()[caught.value.code].exit_status == 2
    found_by = expected.get("schema")
    if found_by != "unreadable":
        tree = read_yaml(path.read_bytes(), str(path)).root.plain()
        assert bool(schema_errors(tree, SCHEMA)) == (found_by is None)


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_messages_are_for_people(folder: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        _load_for_use(folder / "afenv.yaml")
    for problem in caught.value.problems:
        for leak in ("is not valid under", "does not match '", "Traceback", "is not of type", "object at 0x"):
            assert leak not in problem.message


def test_there_is_a_vector_for_each_code() -> None:
    wanted = {code for code in catalogue() if code.startswith(("E00", "E01"))}
    wanted -= {"E016"}  # of what is not supported yet, nothing is in the manifest itself
    assert wanted == {folder.name[:4] for folder in INVALID}


def test_there_are_enough_vectors() -> None:
    assert len(VALID) >= 6
    assert len(INVALID) >= 40
