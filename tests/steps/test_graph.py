"""The graph of the steps: order, what goes in, what comes out."""

from __future__ import annotations

import pytest

from afenv.documents.load import parse_manifest
from afenv.documents.steps import memory_bytes, time_seconds
from afenv.errors import AfenvError
from afenv.steps.graph import Input, StepGraph

TEXT = b"""
afenv: 1
name: example
environments: {default: {base: {debian: bookworm}}, other: {base: {debian: trixie}}}
data: [{name: events, uri: "file:events.txt"}, {name: table, uri: "file:t.csv"}, {name: more, uri: "file:m"}]
steps:
  - {name: plot, environment: other, notebook: plot.ipynb, inputs: [fit.result, table], outputs: {png: p.png}}
  - {name: fit, run: fit, inputs: [select.hist, table], outputs: {result: fit.json}}
  - {name: select, run: select, inputs: [events], outputs: {hist: h.root, log: l.txt},
     resources: {cores: 2, memory: 1.5 GiB, gpus: 1, time: 1d2h3m4s}}
  - {name: report, run: report, inputs: [plot.notebook], needs: [select]}
  - {name: alone, run: alone}
"""


@pytest.fixture(scope="module")
def graph() -> StepGraph:
    return StepGraph.of(parse_manifest(TEXT, "afenv.yaml"))


def test_order(graph: StepGraph) -> None:
    assert graph.order() == ("select", "fit", "plot", "report", "alone")
    assert graph.closure(["fit"]) == ("select", "fit")
    assert graph.closure(["alone", "select"]) == ("alone", "select")
    assert graph.before("report") == ("plot", "select")
    assert graph.after("select") == ("fit", "report")
    assert graph.last() == ("report", "alone")


def test_inputs_and_outputs(graph: StepGraph) -> None:
    assert graph.inputs("fit") == (
        Input(name="select.hist", step="select", output="hist", path="h.root"),
        Input(name="table", data="table"),
    )
    assert graph.outputs("plot") == {"notebook": "plot.ipynb", "png": "p.png"}
    assert graph.data() == ("events", "table")
    assert graph.data(["select"]) == ("events",)


def test_values(graph: StepGraph) -> None:
    resources = graph.step("select").resources
    assert (resources.cores, resources.memory, resources.gpus) == (2, 1_610_612_736, 1)
    assert resources.time == 86400 + 2 * 3600 + 3 * 60 + 4
    assert graph.step("plot").environment == "other"
    assert memory_bytes("512 kB") == 512_000
    assert time_seconds("90s") == 90


def test_unknown_step(graph: StepGraph) -> None:
    with pytest.raises(AfenvError, match="did you mean 'select'") as caught:
        graph.closure(["selct"])
    assert caught.value.code == "E750"
    with pytest.raises(AfenvError, match="there is: plot, fit"):
        graph.step("zzz")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            "{name: a, run: x, needs: [c]}, {name: b, run: x, needs: [a]}, {name: c, run: x, needs: [b]}",
            "a waits for c waits for b waits for a",
        ),
        (
            "{name: d, run: x, needs: [b]}, {name: a, run: x, needs: [b]}, {name: b, run: x, needs: [a]}",
            "a waits for b waits for a",
        ),
        ("{name: a, run: x, needs: [a]}", "the step a waits for itself"),
        ('{name: a, run: "x {parameters.ct}", parameters: {cut: {type: number}}}', "did you mean 'cut'"),
        ("{name: a, run: x, environment: defult}", "did you mean 'default'"),
    ],
)
def test_contradictions(steps: str, message: str) -> None:
    text = f"afenv: 1\nname: e\nenvironments: {{default: {{base: {{debian: bookworm}}}}}}\nsteps: [{steps}]\n"
    with pytest.raises(AfenvError) as caught:
        parse_manifest(text.encode(), "afenv.yaml")
    assert {problem.code for problem in caught.value.problems} == {"E014"}
    assert message in str(caught.value)


def test_two_steps_of_one_name_are_one_error() -> None:
    steps = (
        "{name: a, run: 'x {outputs.o}', outputs: {o: o}}, {name: a, run: 'x {inputs.a.o}', inputs: [a.o]}"
    )
    text = f"afenv: 1\nname: e\nenvironments: {{default: {{base: {{debian: bookworm}}}}}}\nsteps: [{steps}]\n"
    with pytest.raises(AfenvError, match="the name 'a' is taken") as caught:
        parse_manifest(text.encode(), "afenv.yaml")
    assert len(caught.value.problems) == 1
