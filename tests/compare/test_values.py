"""JSON, YAML, CSV, text, notebooks and workspaces of pyhf: what is the same, and the path of what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afenv.compare.numbers import close
from afenv.compare.rules import Limits

from .conftest import Sides


def test_identical_bytes(sides: Sides) -> None:
    sides.write("a.bin", b"\0", b"\0")
    file = sides.file()
    assert file["outcome"] == "identical"
    assert file["first"] == file["second"]
    assert file["first"]["size"] == 1


def test_numbers_in_json(sides: Sides) -> None:
    sides.write(
        "fit.json",
        '{"mass": {"value": 91.2, "n": 3}, "list": [1, 2]}',
        '{"list": [1,2.0], "mass": {"n": 3, "value": 91.20000000001}}',
    )
    assert sides.file()["outcome"] == "same"
    sides.write("fit.json", '{"mass": {"value": 91.2}}', '{"mass": {"value": 91.3}}')
    part = sides.parts()["mass.value"]
    assert (part["first"], part["second"]) == (91.2, 91.3)
    assert part["measures"]["absolute"] == pytest.approx(0.1)
    assert sides.file("--relative", "0.01")["outcome"] == "same"
    assert sides.file("--absolute", "0.2")["outcome"] == "same"
    assert sides.file("--absolute", "0.05")["outcome"] == "different"


@pytest.mark.parametrize(
    ("first", "second", "path", "reason"),
    [
        ('{"a": 1}', '{"a": "1"}', "a", "type"),
        ('{"a": 1}', '{"a": true}', "a", "type"),
        ('{"a": null}', '{"a": 0}', "a", "type"),
        ('{"a": [1]}', '{"a": [1, 2]}', "a", "length"),
        ('{"a": 1}', '{"b": 1}', "a", "missing"),
        ('{"a": NaN}', '{"a": 1}', "a", "value"),
        ('{"a": Infinity}', '{"a": -Infinity}', "a", "value"),
        ('{"a": Infinity}', '{"a": 1e300}', "a", "value"),
        (f'{{"a": 1{"0" * 400}}}', f'{{"a": 2{"0" * 400}}}', "a", "value"),
        ('{"a b": [[1, "x"]]}', '{"a b": [[1, "y"]]}', '["a b"][0][1]', "value"),
        ("1", "2", "(all)", "value"),
    ],
)
def test_differences_in_json(sides: Sides, first: str, second: str, path: str, reason: str) -> None:
    sides.write("x.json", first, second)
    assert sides.parts()[path]["reason"] == reason


def test_not_a_number_is_the_same_as_itself(sides: Sides) -> None:
    sides.write("x.json", '{"a": NaN, "b": -Infinity}', '{"b":-Infinity,"a":NaN}')
    assert sides.file()["outcome"] == "same"


def test_ignored_keys_and_tolerances_by_part(sides: Sides) -> None:
    sides.write(
        "out/x.json", '{"time": {"start": 1}, "m": 1, "n": 1}', '{"time": {"start": 2}, "m": 1.05, "n": 1.05}'
    )
    sides.rules(
        "  - {relative: 0.1}\n"
        "  - {files: '*.json', parts: time, ignore: true}\n"
        "  - {files: out/*.json, parts: n, relative: 0}\n"
    )
    assert list(sides.parts()) == ["n"]
    sides.rules("  - {files: '*.yaml', relative: 0.1}\n  - {files: x/**, ignore: true}\n")
    assert list(sides.parts()) == ["time.start", "m", "n"]
    sides.rules("  - {files: '**', ignore: true}\n")
    assert sides.file()["outcome"] == "ignored"


def test_yaml(sides: Sides) -> None:
    sides.write("x.yaml", "a: [1, 2.5]\nb: x\n", "b: 'x'\na:\n- 1\n- 2.5\n")
    assert sides.file()["outcome"] == "same"
    sides.write("x.yaml", "a: [1, 2.5]\n", "a: [1, 2.6]\n")
    assert list(sides.parts()) == ["a[1]"]


def test_csv(sides: Sides) -> None:
    sides.write("x.csv", "m,n,name\n1,2,x\n3,4.0,y\n", "n,m,name\r\n2,1.0,x\r\n4,3,y\r\n")
    assert sides.file()["outcome"] == "same"
    sides.write("x.csv", "m,n\n1,2\n3,4\n", "m,n\n1,2\n3,5\n")
    part = sides.parts()["n[1]"]
    assert (part["first"], part["second"]) == (4, 5)
    sides.write("x.csv", "1;2\n3;nan\n", "1;2\n3;NaN\n")
    assert sides.file()["outcome"] == "same"
    sides.write("x.csv", "m,n\n1,2\n", "m,k\n1,2\n")
    assert set(sides.parts()) == {"n", "k"}
    sides.write("x.csv", "m\n1\n", "m\n1\n2\n")
    assert sides.parts()["m"]["reason"] == "length"
    sides.write("x.csv", "m,n\n1,2\n", "m,n\n1,2,3\n")
    file = sides.file()
    assert (file["outcome"], file["reason"]) == ("incomparable", "unreadable")
    assert file["message"] == "the second cannot be read as csv: row 2 has 3 cells, not 2"


def test_text(sides: Sides) -> None:
    sides.write("x.log", "a\nb\n", "a\r\nb")
    assert sides.file()["outcome"] == "same"
    sides.write("x.log", "a\nDate: 1\nb\n", "a\nDate: 2\nc\nd\n")
    sides.rules("  - {ignore-lines: ['Date: *']}\n")
    assert sides.file()["message"] == "2 and 3 lines; 2 of 3 lines differ"
    assert list(sides.parts()) == ["line 3", "line 4"]


def test_a_missing_file(sides: Sides) -> None:
    sides.write("a.json", "1", "1")
    sides.write("b.json", "1", None)
    found = sides.verdict()
    assert found["counts"] == {"identical": 1, "same": 0, "different": 1, "incomparable": 0, "ignored": 0}
    assert found["files"][1]["reason"] == "missing"
    assert sides.verdict("--common")["verdict"] == "same"


def test_kinds_that_are_not_known(sides: Sides) -> None:
    sides.write("a.dat2", "1\n", "1.0\n")
    assert sides.file()["reason"] == "bytes"
    sides.rules("  - {files: '*.dat2', kind: csv}\n")
    assert sides.file()["outcome"] == "same"


@pytest.mark.parametrize(
    "name", ["x.json", "x.yaml", "x.root", "x.png", "x.npy", "x.npz", "x.ipynb", "x.txt"]
)
def test_not_of_its_kind(sides: Sides, name: str) -> None:
    sides.write(name, b"\xff\xfe{", b"\xff\xfe[: ")
    file = sides.file()
    assert (file["outcome"], file["reason"]) == ("incomparable", "unreadable")
    assert file["message"].startswith("neither can be read as")
    assert not file["message"].endswith((",", " "))


def test_very_deep_json(sides: Sides) -> None:
    sides.write("x.json", "[" * 100_000, "[" * 100_001)
    assert sides.file()["reason"] == "unreadable"


WORKSPACE: dict[str, Any] = {
    "version": "1.0.0",
    "channels": [
        {
            "name": "signal region",
            "samples": [
                {
                    "name": "signal",
                    "data": [5.0, 10.0],
                    "modifiers": [
                        {"name": "mu", "type": "normfactor", "data": None},
                        {"name": "scale", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                    ],
                },
                {"name": "background", "data": [50.0, 60.0], "modifiers": []},
            ],
        },
        {"name": "control", "samples": [{"name": "background", "data": [100.0], "modifiers": []}]},
    ],
    "observations": [{"name": "signal region", "data": [55.0, 71.0]}, {"name": "control", "data": [99.0]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": [{"name": "mu", "inits": [1.0]}]}}],
}


def test_a_workspace_does_not_depend_on_order(sides: Sides) -> None:
    other = json.loads(json.dumps(WORKSPACE))
    other["channels"].reverse()
    other["observations"].reverse()
    other["channels"][1]["samples"].reverse()
    other["channels"][1]["samples"][1]["modifiers"].reverse()
    sides.write("w.json", json.dumps(WORKSPACE), json.dumps(other))
    assert (sides.file()["outcome"], sides.file()["kind"]) == ("same", "pyhf")
    sides.rules("  - {kind: json}\n")
    assert sides.file()["outcome"] == "different"
    (sides.folder / "afenv.yaml").unlink()
    other["channels"][1]["samples"][1]["modifiers"][0]["data"]["hi"] = 1.2
    sides.write("w.json", json.dumps(WORKSPACE), json.dumps(other))
    path = 'channels["signal region"].samples.signal.modifiers["normsys scale"].data.hi'
    assert list(sides.parts()) == [path]


def test_a_workspace_that_names_a_channel_twice(sides: Sides) -> None:
    other = json.loads(json.dumps(WORKSPACE))
    other["channels"].append(other["channels"][0])
    sides.write("w.json", json.dumps(WORKSPACE), json.dumps(other))
    assert sides.file()["reason"] == "unreadable"


def _notebook(count: int, text: str) -> str:
    output = {"output_type": "stream", "name": "stdout", "text": [text]}
    cell = {
        "cell_type": "code",
        "source": ["x\n", "y"],
        "execution_count": count,
        "outputs": [output],
        "metadata": {"at": count},
    }
    return json.dumps({"cells": [cell], "metadata": {"papermill": {"duration": count}}, "nbformat": 4})


def test_a_notebook_without_its_times(sides: Sides) -> None:
    sides.write("fit.ipynb", _notebook(1, "m = 91"), _notebook(2, "m = 91"))
    assert sides.file()["outcome"] == "same"
    sides.write("fit.ipynb", _notebook(1, "m = 91"), _notebook(2, "m = 92"))
    assert list(sides.parts()) == ["[0].outputs[0].text"]


def test_the_larger_number_counts() -> None:
    limits = Limits(relative=0.1)
    assert close(100, 110.5, limits)
    assert close(110.5, 100, limits)
    assert not close(100, 112, limits)
