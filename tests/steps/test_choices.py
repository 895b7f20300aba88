"""What is chosen for a run: values by type, data by URI, and everything that is wrong at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.documents.steps import Parameter, Step
from afenv.errors import AfenvError
from afenv.steps.choices import choose_data, choose_parameters, typed_value
from afenv.steps.graph import StepGraph

GRAPH = StepGraph(
    [
        Step(
            name="signal",
            run="x",
            parameters={
                "mass": Parameter(type="number", default=91.2),
                "model": Parameter(type="string", default="Z"),
                "events": Parameter(type="integer"),
            },
        ),
        Step(
            name="fit",
            run="x",
            parameters={
                "mass": Parameter(type="number", default=90),
                "fast": Parameter(type="boolean", default=False),
            },
        ),
    ]
)


def test_values() -> None:
    found = choose_parameters(
        GRAPH, ["signal", "fit"], ["mass=750", "fit.mass=7.5e2", "signal.events=10", "fast=true", "model=a=b"]
    )
    assert found == {
        "signal": {"mass": 750, "model": "a=b", "events": 10},
        "fit": {"mass": 750.0, "fast": True},
    }
    assert choose_parameters(GRAPH, ["fit"], []) == {"fit": {"mass": 90, "fast": False}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mas=1", "no step has a parameter 'mas'; did you mean 'mass'?"),
        ("signa.mass=1", "there is no step 'signa'; did you mean 'signal'?"),
        ("signal.fast=1", "the step signal has no parameter 'fast'; there is: events, mass, model"),
        ("mass", "'mass' is not NAME=VALUE"),
        ("mass=heavy", "'heavy' is not of the type number, which signal.mass has"),
        ("mass=nan", "'nan' is not of the type number"),
        ("signal.events=1.5", "'1.5' is not of the type integer, which signal.events has"),
        ("fast=1", "'1' is not of the type boolean, which fit.fast has"),
    ],
)
def test_wrong_values(given: str, message: str) -> None:
    with pytest.raises(AfenvError) as caught:
        choose_parameters(GRAPH, ["signal", "fit"], ["events=1", given])
    assert {problem.code for problem in caught.value.problems} == {"E750"}
    assert caught.value.exit_status == 2
    assert message in str(caught.value)


def test_a_value_that_is_needed() -> None:
    with pytest.raises(AfenvError, match=r"--param signal\.events=VALUE \(integer\)") as caught:
        choose_parameters(GRAPH, ["signal"], [])
    assert caught.value.code == "E751"


def test_all_problems_at_once() -> None:
    with pytest.raises(AfenvError) as caught:
        choose_parameters(GRAPH, ["signal"], ["mas=1", "signal.mass=x"])
    assert [problem.code for problem in caught.value.problems] == ["E750", "E750", "E751"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("5", "number", 5),
        ("-5", "integer", -5),
        ("5.0", "integer", None),
        ("1e3", "number", 1000.0),
        ("inf", "number", None),
        ("", "string", ""),
        ("False", "boolean", False),
    ],
)
def test_types(text: str, kind: str, value: object) -> None:
    found = typed_value(text, kind)
    assert found == value
    assert type(found) is type(value)


def test_data(tmp_path: Path) -> None:
    (tmp_path / "new events.txt").touch()
    (tmp_path / "folder").mkdir()
    found = choose_data(["a", "b", "c"], ["a=new events.txt", "b=root://host//x.root", "c=folder"], tmp_path)
    assert found == {
        "a": f"file:{tmp_path}/new%20events.txt",
        "b": "root://host//x.root",
        "c": f"file:{tmp_path}/folder/",
    }


def test_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        choose_data(["events"], ["event=x", "events", "events=nothing.root"], tmp_path)
    assert [problem.code for problem in caught.value.problems] == ["E750", "E750", "E001"]
    assert "did you mean 'events'?" in str(caught.value)
