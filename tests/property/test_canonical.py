"""Canonical JSON against the standard library's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv import canonical

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=30,
)


@given(VALUES)
def test_indented_is_what_the_standard_library_writes(value: Any) -> None:
    try:
        expected = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2).encode() + b"\n"
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            canonical.indented(value)
        return
    assert canonical.indented(value) == expected


@given(VALUES.filter(lambda value: not isinstance(value, tuple)))
def test_compact_reads_back(value: Any) -> None:
    def plain(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return [plain(item) for item in one]
        return {key: plain(item) for key, item in one.items()} if isinstance(one, dict) else one

    assert json.loads(canonical.compact(value)) == plain(value)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    for write in (canonical.compact, canonical.indented):
        with pytest.raises(ValueError):
            write(value)
