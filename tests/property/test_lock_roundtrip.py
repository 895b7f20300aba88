"""A lock that is written and read is the same lock; one lock is one sequence of bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.documents.lock import (
    Lock,
    LockedCode,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedIndex,
    LockedPython,
    LockedWheel,
)
from afenv.documents.lockfile import dump_lock, parse_lock
from afenv.documents.schema import schema_errors
from afenv.specs import specs_folder

SCHEMA = json.loads((specs_folder() / "lock" / "v1" / "schema.json").read_bytes())

characters = st.characters(codec="utf-8")
text = st.text(characters, min_size=1, max_size=12)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12).map("/".__add__)
hexadecimal = "0123456789abcdef"
sha256 = st.text(hexadecimal, min_size=64, max_size=64)
sha1 = st.text(hexadecimal, min_size=40, max_size=40)
times = st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
text_map = st.dictionaries(text, st.text(characters, max_size=12), max_size=3)
sizes = st.integers(0, 2**63)
files = st.builds(
    LockedFile, urls=st.lists(text, min_size=1, max_size=2).map(tuple), size=sizes, sha256=sha256
)
debs = st.builds(
    LockedDeb,
    name=text,
    version=text,
    architecture=text,
    source=text,
    file=files,
    requested=st.booleans(),
    control=text_map,
)
wheels = st.builds(
    LockedWheel,
    name=text,
    version=text,
    file=files,
    requested=st.booleans(),
    dependencies=st.lists(text, max_size=2).map(tuple),
)
indexes = st.builds(LockedIndex, url=text, suite=text, date=times, sha256=sha256, signed_by=text)
pythons = st.builds(LockedPython, version=text, executable=paths, site_packages=paths, scripts=paths)
codes = st.builds(
    LockedCode,
    into=paths,
    tree=st.one_of(sha1, sha256),
    swhid=sha1.map("swh:1:dir:".__add__),
    git=st.none() | text,
    rev=st.none() | text,
    folder=st.none() | text,
    commit=st.none() | sha1,
    date=st.none() | times,
    dirty=st.booleans(),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(characters, max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
extra = st.dictionaries(text.map("x-".__add__), values, max_size=2)


def _sorted(packages: list[Any]) -> tuple[Any, ...]:
    return tuple(sorted(packages, key=lambda package: (package.name, package.version)))


environments = st.builds(
    LockedEnvironment,
    request=sha256.map("sha256:".__add__),
    platform=st.sampled_from(["linux/amd64", "linux/arm64", "linux/arm64/v8"]),
    as_of=times,
    suite=st.none() | text,
    indexes=st.lists(indexes, max_size=2).map(tuple),
    debs=st.lists(debs, max_size=3).map(_sorted),
    python=st.none() | pythons,
    wheels=st.lists(wheels, max_size=3).map(_sorted),
    owners=text_map,
    bytecode=st.booleans(),
    variables=text_map,
    entrypoint=st.lists(text, max_size=2).map(tuple),
    workdir=st.none() | paths,
    extra=extra,
)
locks = st.builds(
    Lock,
    name=text,
    version=text,
    metadata=st.dictionaries(text, values, max_size=2),
    assembly_version=st.integers(1, 9),
    code=st.lists(codes, max_size=2).map(tuple),
    environments=st.dictionaries(text, environments, max_size=2),
    extra=extra,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(locks)
def test_round_trip(lock: Lock) -> None:
    data = dump_lock(lock)
    assert parse_lock(data, "afenv.lock") == lock
    assert dump_lock(parse_lock(data, "afenv.lock")) == data
    assert schema_errors(json.loads(data), SCHEMA) == []


def _damage(tree: Any, steps: list[int], value: Any) -> Any:
    """``tree`` with one value somewhere inside replaced."""
    if not steps or not isinstance(tree, dict | list) or not tree:
        return value
    if isinstance(tree, list):
        position = steps[0] % len(tree)
        return [_damage(item, steps[1:], value) if i == position else item for i, item in enumerate(tree)]
    key = sorted(tree)[steps[0] % len(tree)]
    return {**tree, key: _damage(tree[key], steps[1:], value)}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(locks, st.lists(st.integers(0, 30), max_size=6), values | st.floats(-2, 2))
def test_reader_and_schema_agree_on_damage(lock: Lock, steps: list[int], value: Any) -> None:
    from afenv.errors import AfenvError

    tree = _damage(json.loads(dump_lock(lock)), steps, value)
    try:
        parse_lock(json.dumps(tree).encode(), "afenv.lock")
    except AfenvError as error:
        assert schema_errors(tree, SCHEMA), error
    else:
        assert schema_errors(tree, SCHEMA) == []
