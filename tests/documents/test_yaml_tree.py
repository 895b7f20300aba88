"""The safe subset of YAML: what it reads, what it refuses, and where it says things are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.documents import yaml_tree
from afenv.documents.yaml_tree import MAXIMUM_SIZE, format_path, read_yaml
from afenv.errors import AfenvError


def _plain(text: str) -> object:
    document = read_yaml(text.encode(), "a.yaml")
    assert document.problems == ()
    return document.root.plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("True", True),
        ("2026-01-31", "2026-01-31"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("+3", 3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("~", None),
        ("''", ""),
        ('"1"', "1"),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">\n  a\n  b\n", "a b\n"),
        ("=", "="),
        ("[1, [2, {a: 3}]]", [1, [2, {"a": 3}]]),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    found = _plain(f"a: {text}")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_places() -> None:
    document = read_yaml(b"a:\n  - b: 1\n    c: [x, yy]\nd: \n", "f")
    assert document.value_place(("a", 0, "c", 1)) == "f:3:12"
    assert document.key_place(("a", 0, "c")) == "f:3:5"
    assert document.value_place(("d",)) == "f:4:1"  # nothing was written, so the key is shown
    assert document.value_place(("a", 7, "z")) == "f:2:3"  # the nearest that exists


def test_alias_shares_the_place_of_its_anchor() -> None:
    document = read_yaml(b"a: &x {k: 1}\nb: *x\n", "f")
    assert document.root.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert document.value_place(("b", "k")) == "f:1:11"


def test_smaller_transgressions_are_collected() -> None:
    document = read_yaml(b"a: !x 1\na: 2\n1: b\n<<: {}\nc: .nan\n", "f")
    assert [(problem.code, problem.place) for problem in document.problems] == [
        ("E004", "f:1:4"),
        ("E003", "f:2:1"),
        ("E011", "f:3:1"),
        ("E004", "f:4:1"),
        ("E004", "f:5:4"),
    ]
    assert document.is_opaque(("a",))


def _fails(data: bytes) -> str:
    with pytest.raises(AfenvError) as caught:
        read_yaml(data, "f")
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"a: b: c", "E002"),
        (b"\xff\xfea\x00", "E002"),
        (b'a: "\\UFFFFFFFF"', "E002"),
        (b"a: 1\n--- \nb: 2\n", "E002"),
        (b"%YAML 1.1\n---\na: 1\n", "E004"),
        (b"%TAG ! tag:example.org:\n---\na: 1\n", "E004"),
        (b"? [a]\n: 1\n", "E004"),
        (b'"\\ud83d": 1\n', "E004"),
        (b"a" * (MAXIMUM_SIZE + 1), "E004"),
    ],
)
def test_refused(data: bytes, code: str) -> None:
    assert _fails(data) == code


def test_bombs_fail_at_once() -> None:
    laughs = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    laughs += [b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 40)]
    deep = [b"a0: &a0 [x]"] + [b"a%d: &a%d [*a%d]" % (i, i, i - 1) for i in range(1, 100)]
    bombs = [b"\n".join(laughs), b"\n".join(deep), b"[" * 2000, b"- " * 2000, b"a: &a {b: *a}"]
    started = time.process_time()
    assert [_fails(bomb) for bomb in bombs] == ["E004"] * len(bombs)
    assert time.process_time() - started < 2


def test_values_without_aliases_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_tree, "MAXIMUM_NODES", 50)
    assert _fails(b"[" + b"1," * 51 + b"]") == "E004"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("a", 0, "b-c"), "a[0].b-c"),
        (("environments", "x y"), 'environments["x y"]'),
        ((0, "a"), "[0].a"),
    ],
)
def test_format_path(path: tuple[str | int, ...], text: str) -> None:
    assert format_path(path) == text


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"%@`,?\n\t \\0.~<=\ufeff\x00é", max_size=60))
def test_any_text_gives_a_tree_or_an_error(text: str) -> None:
    try:
        read_yaml(text.encode(), "f")
    except AfenvError as error:
        assert error.code in {"E002", "E004"}


@given(st.binary(max_size=40))
def test_any_bytes_give_a_tree_or_an_error(data: bytes) -> None:
    try:
        read_yaml(data, "f")
    except AfenvError as error:
        assert error.code in {"E002", "E004"}
