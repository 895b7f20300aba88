"""However a manifest is damaged, it is read or it is an error with a place; nothing else happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.documents.load import parse_manifest
from afenv.documents.schema import schema_errors
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError
from afenv.specs import specs_folder

FOLDER = specs_folder() / "manifest" / "v1"
SCHEMA = json.loads((FOLDER / "schema.json").read_bytes())
TREES = [
    read_yaml(path.read_bytes(), path.parent.name).root.plain()
    for path in sorted((FOLDER / "vectors" / "valid").glob("*/afenv.yaml"))
]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text("aZ1.-/ \n{}", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text("ab-", max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def _damage(tree: Any, steps: list[int], value: Any) -> Any:
    """``tree`` with one value somewhere inside replaced, or one key renamed."""
    if not steps or not isinstance(tree, dict | list) or not tree:
        return value
    if isinstance(tree, list):
        position = steps[0] % len(tree)
        return [_damage(item, steps[1:], value) if i == position else item for i, item in enumerate(tree)]
    keys = list(tree)
    key = keys[steps[0] % len(keys)]
    if steps[0] % 7 == 6:
        return {f"{name}s" if name == key else name: item for name, item in tree.items()}
    return {**tree, key: _damage(tree[key], steps[1:], value)}


@given(st.sampled_from(TREES), st.lists(st.integers(0, 60), min_size=1, max_size=6), values)
def test_damage(tree: Any, steps: list[int], value: Any) -> None:
    damaged = _damage(tree, steps, value)
    text = json.dumps(damaged, indent=1).encode()  # JSON is YAML 1.2
    errors = schema_errors(damaged, SCHEMA)
    try:
        parse_manifest(text, "afenv.yaml")
    except AfenvError as error:
        assert errors or {problem.code for problem in error.problems} <= {"E013", "E014"}
        for problem in error.problems:
            assert problem.place is not None
            assert problem.place.count(":") == 2
            assert problem.render()
    else:
        assert errors == []


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: "-".join(tree["environments"]))
def test_json_is_read_as_yaml(tree: Any) -> None:
    assert parse_manifest(json.dumps(tree).encode(), "afenv.yaml").environments
