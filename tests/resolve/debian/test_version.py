from __future__ import annotations

from itertools import combinations

import pytest

from afenv.resolve.debian.version import satisfies, version_key

ASCENDING = [  # each is older than all that follow
    "~~",
    "~~a",
    "~",
    "0",
    "0+b1",
    "0.1~rc1-1",
    "0.1-1~bpo12+1",
    "0.1-1",
    "0.1-1+b1",
    "0.1-1+deb12u1",
    "0.1-1.1",
    "0.9",
    "0.10",
    "1.0-1",
    "1.0a",
    "1.0+dfsg-1",
    "1.0+dfsg2-1",
    "1.0.1",
    "20250419~deb12u2",
    "20250419",
    "1:0.1",
    "1:0.1-1",
    "2:0",
]


@pytest.mark.parametrize(("older", "newer"), list(combinations(ASCENDING, 2)))
def test_order(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)
    assert satisfies(older, "<<", newer)
    assert satisfies(newer, ">>", older)
    assert not satisfies(older, ">=", newer)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0-0"), ("1.0", "0:1.0"), ("1.01", "1.1"), ("1a", "1a0"), ("1-00", "1-0")]
)
def test_equal(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)
    assert satisfies(one, "=", other)
    assert satisfies(one, "<=", other)
    assert satisfies(one, ">=", other)
    assert not satisfies(one, "<<", other)


def test_unknown_operator() -> None:
    with pytest.raises(ValueError, match="=="):
        satisfies("1", "==", "1")
