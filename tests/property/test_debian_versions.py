"""The order of Debian versions against the algorithm of the policy, followed letter by letter."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.resolve.debian.version import satisfies, version_key

PART = st.text("019ab~+.", max_size=6)


@st.composite
def versions(draw: st.DrawFn) -> str:
    epoch = draw(st.sampled_from(["", "", "0:", "1:", "10:"]))
    upstream = draw(st.text("019aZ~+.-", max_size=8))
    revision = draw(st.sampled_from(["", "-"])) and "-" + draw(PART)
    return f"{epoch}{draw(st.sampled_from('0123456789'))}{upstream}{revision}"


def weight(character: str) -> int:
    """Policy: tilde before the end, the end before letters, letters before everything else."""
    if character == "~":
        return -1
    if character == "":
        return 0
    return ord(character) if character.isalpha() else ord(character) + 1000


def compare_part(one: str, other: str) -> int:
    """Policy 5.6.12: in turn, the initial part without digits, then the initial number; repeat."""
    while one or other:
        a = "".join(takewhile(lambda c: not c.isdigit(), one))
        b = "".join(takewhile(lambda c: not c.isdigit(), other))
        for place in range(max(len(a), len(b))):
            difference = weight(a[place : place + 1]) - weight(b[place : place + 1])
            if difference:
                return difference
        one, other = one[len(a) :], other[len(b) :]
        a = "".join(takewhile(str.isdigit, one))
        b = "".join(takewhile(str.isdigit, other))
        if int(a or 0) != int(b or 0):
            return int(a or 0) - int(b or 0)
        one, other = one[len(a) :], other[len(b) :]
    return 0


def split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (int(epoch), upstream, revision) if dash else (int(epoch), rest, "")


def compare(one: str, other: str) -> int:
    a, b = split(one), split(other)
    return (a[0] - b[0]) or compare_part(a[1], b[1]) or compare_part(a[2], b[2])


@given(versions(), versions())
def test_the_order_is_that_of_the_policy(one: str, other: str) -> None:
    expected = compare(one, other)
    assert (version_key(one) < version_key(other)) == (expected < 0)
    assert (version_key(one) == version_key(other)) == (expected == 0)


@given(versions(), versions())
def test_the_relations_agree(one: str, other: str) -> None:
    assert satisfies(one, "<<", other) + satisfies(one, "=", other) + satisfies(one, ">>", other) == 1
    assert satisfies(one, "<=", other) != satisfies(one, ">>", other)
    assert satisfies(one, ">=", other) != satisfies(one, "<<", other)


@pytest.mark.services
def test_dpkg_agrees() -> None:
    """dpkg itself, on versions made the same way."""
    import os
    import random
    import shutil
    import subprocess

    if shutil.which("dpkg") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("dpkg is not there")
        pytest.skip("dpkg is not there")
    rng = random.Random(1)

    def version() -> str:
        letters = "".join(rng.choices("019aZ~+.", k=rng.randrange(6)))
        revision = "".join(rng.choices("01ab~+.", k=rng.randrange(1, 4)))
        return rng.choice(["", "1:"]) + rng.choice("012") + letters + rng.choice(["", f"-{revision}"])

    for _ in range(300):
        one, other = version(), version()
        for word, operator in (("lt", "<<"), ("eq", "="), ("gt", ">>")):
            result = subprocess.run(["dpkg", "--compare-versions", one, word, other], capture_output=True)
            assert (result.returncode == 0) == satisfies(one, operator, other), (one, operator, other)
