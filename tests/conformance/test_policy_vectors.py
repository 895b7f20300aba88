"""Every vector of the policy gets the same verdict from the schema and from the parser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from afenv.attest.policy import parse_policy, read_policy
from afenv.documents.schema import schema_errors
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError
from afenv.specs import specs_folder

from .conftest import folder_name, summary

FOLDER = specs_folder() / "policy" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
VALID = sorted((FOLDER / "vectors" / "valid").iterdir()) + sorted((FOLDER / "examples").iterdir())
INVALID = sorted((FOLDER / "vectors" / "invalid").iterdir())


@pytest.mark.parametrize("folder", VALID, ids=folder_name)
def test_valid(folder: Path) -> None:
    path = folder / "policy.yaml"
    assert schema_errors(read_yaml(path.read_bytes(), str(path)).root.plain(), SCHEMA) == []
    read_policy(path)


@pytest.mark.parametrize("folder", INVALID, ids=folder_name)
def test_invalid(folder: Path) -> None:
    path = folder / "policy.yaml"
    expected = json.loads((folder / "expected.json").read_bytes())
    with pytest.raises(AfenvError) as caught:
        read_policy(path)
    assert [summary(problem, path) for problem in caught.value.problems] == expected["problems"]
    assert folder.name[:4] in {problem.code for problem in caught.value.problems}
    assert caught.value.exit_status == 2
    found_by = expected.get("schema")
    if found_by != "unreadable":
        tree = read_yaml(path.read_bytes(), str(path)).root.plain()
        assert bool(schema_errors(tree, SCHEMA)) == (found_by is None)


def test_the_prose_has_a_valid_example() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "spec.md").read_text(), re.DOTALL)
    policy = parse_policy(text.encode(), "spec.md", FOLDER / "examples" / "facility")
    assert policy.name == "example facility" and not policy.dirty


def test_the_policy_in_the_guide_is_valid(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "trust.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(), re.DOTALL)
    (tmp_path / "signing.pub").write_bytes((FOLDER / "examples" / "facility" / "ci.pub").read_bytes())
    assert parse_policy(text.encode(), "trust.md", tmp_path).require == ("sbom", "provenance", "signature")
