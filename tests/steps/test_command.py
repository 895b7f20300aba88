"""Commands of steps: whatever a value holds, the shell sees it as it is."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from afenv.documents.steps import Parameter, Step, Value
from afenv.steps.command import expand

NASTY = 'it\'s "a" $HOME `id` \\ $(id) #;&|*?~ é'
SHOW = "show() { for w; do printf '<%s>' \"$w\"; done; }; "


def _step(run: str, *names: str) -> Step:
    return Step(name="s", run=run, parameters={name: Parameter(type="string") for name in names})


def _run(run: str, **values: Value) -> str:
    line = SHOW + expand(_step(run, *values), {}, {}, values)
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ("show {parameters.v}", "<V>"),
        ("show --v={parameters.v}x", "<--v=Vx>"),
        ('show "{parameters.v}" "--v={parameters.v}"', "<V><--v=V>"),
        ("show '{parameters.v}'", "<V>"),
        ('show "$(printf %s {parameters.v})"', "<V>"),
        ('show "$(printf %s "{parameters.v}" | cat)" {parameters.v}', "<V><V>"),
        ("show \"`printf %s 'x'`\" {parameters.v}", "<x><V>"),
        ("# don't {parameters.v}\nshow {parameters.v}", "<V>"),
        ('show "# no comment" {parameters.v}', "<# no comment><V>"),
        ("show \\' {parameters.v}", "<'><V>"),
        ("cat <<EOF\n{parameters.v}\nEOF\nshow {parameters.v}", "V\n<V>"),
        ("cat <<'EOF'\nit's {parameters.v}\nEOF\n", "it's V\n"),
        ("cat <<-EOF\n\t{parameters.v}\n\tEOF\nshow x", "V\n<x>"),
        ("cat <<A; cat <<B\n{parameters.v}\nA\nb\nB\n", "V\nb\n"),
        ("show $((1 + 2)) {parameters.v}", "<3><V>"),
        ("(show {parameters.v})", "<V>"),
    ],
)
def test_quoting(run: str, shown: str) -> None:
    assert _run(run, v=NASTY) == shown.replace("V", NASTY)


def test_newlines_are_kept_and_do_not_end_a_comment() -> None:
    assert _run("show {parameters.v} # {parameters.v}", v="a\nb") == "<a\nb>"


def test_values_as_text() -> None:
    shown = _run(
        "show {parameters.a} {parameters.b} {parameters.c} {parameters.d}", a=True, b=20, c=1e-6, d=""
    )
    assert shown == "<true><20><1e-06><>"


def test_paths() -> None:
    step = Step(
        name="s",
        run="show {inputs.events} {inputs.select.hist} > {outputs.out}",
        inputs=("events", "select.hist"),
        outputs={"out": "out put.txt"},
    )
    command = expand(step, {"events": ["a 1.root", "b.root"], "select.hist": "h.root"}, step.outputs, {})
    assert command == "show 'a 1.root' b.root h.root > 'out put.txt'"


def test_notebook() -> None:
    step = Step(
        name="s", notebook="n.ipynb", inputs=("events",), outputs={"notebook": "s.ipynb", "p": "p.png"}
    )
    words = shlex.split(expand(step, {"events": ["a", "b"]}, step.outputs, {"cut": 1.5, "on": True}))
    assert words[:3] == ["python3", "-m", "papermill"]
    assert words[-2:] == ["n.ipynb", "s.ipynb"]
    given = json.loads(words[words.index("-y") + 1])
    assert given == {"cut": 1.5, "on": True, "inputs": {"events": ["a", "b"]}, "outputs": {"p": "p.png"}}


def test_other_braces_stay() -> None:
    assert _run("show {a,b} {inputs} {parameters.v}", v="x") == "<{a,b}><{inputs}><x>"
