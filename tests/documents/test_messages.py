"""What a person reads: what was expected, what was found, what may have been meant, what to do."""

from __future__ import annotations

import pytest

from afenv.documents.load import parse_manifest
from afenv.documents.suggest import did_you_mean, one_of
from afenv.errors import AfenvError, Problem

HEAD = "afenv: 1\nname: example\n"
RELEASE = "the codename of a Debian release: bullseye, bookworm or trixie"
BASE = "environments:\n  default:\n    base: {debian: bookworm}\n"


def _problem(text: str) -> Problem:
    with pytest.raises(AfenvError) as caught:
        parse_manifest(text.encode(), "afenv.yaml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        (HEAD + "enviroments: {}\n" + BASE, "unknown key 'enviroments'; did you mean 'environments'?", None),
        (
            HEAD + BASE + "    packages: [git]\n",
            "unknown key 'packages' in environments.default; it belongs in 'base'",
            None,
        ),
        (
            HEAD + "code: [{path: ., branch: main}]\n" + BASE,
            "unknown key 'branch' in code[0]; known are git, rev, path and into",
            None,
        ),
        (HEAD + BASE + "compare: [{chi2: 2}]\n", "expected at most 1, found 2", None),
        (HEAD + "version: 1.10\n" + BASE, "expected text, found the number 1.1", 'Put it in quotes: "1.10".'),
        (
            HEAD + BASE + "    entrypoint: python3 a,b.py\n",
            "expected a list, found 'python3 a,b.py'",
            'Write a list: [python3, "a,b.py"].',
        ),
        (HEAD + BASE + "    bytecode: yes\n", "expected true or false, found 'yes'", None),
        (
            HEAD + BASE + "    platform: linux/x86_64\n",
            "expected linux/amd64 or linux/arm64, found 'linux/x86_64'; did you mean 'linux/amd64'?",
            None,
        ),
        (
            HEAD + "environments: {a: {base: {debian: 13}}}\n",
            f"expected {RELEASE}, found the number 13; did you mean 'trixie'?",
            None,
        ),
        ("afenv: one\nname: a\n" + BASE, "expected the number 1, found 'one'", None),
        (
            HEAD + BASE + "    gpu: {cuda: \">=12\", architectures: ['80']}\n",
            "expected a compute capability such as \"8.0\", in quotes, found '80'",
            None,
        ),
        (
            HEAD + "code: [{path: a}, {path: b}]\n" + BASE,
            "goes into /analysis, as code[0] does",
            "Give one of the two another `into`.",
        ),
        (
            HEAD + "metadata:\n\ttitle: x\n",
            "while scanning for the next token, found character '\\t' that cannot start any token",
            "Indent with spaces: YAML does not accept tabs.",
        ),
        (
            HEAD + 'version: "1\n' + BASE,
            "while scanning a quoted scalar, found unexpected end of stream (it began on line 3)",
            None,
        ),
    ],
)
def test_message(text: str, message: str, remedy: str | None) -> None:
    problem = _problem(text)
    assert problem.message == message
    assert problem.remedy == remedy


def test_the_sentence_as_a_whole() -> None:
    assert _problem(HEAD + "environments: {a: {base: {debian: bokworm}}}\n").render() == (
        f"afenv.yaml:3:35: error E013: expected {RELEASE}, "
        "found 'bokworm'; did you mean 'bookworm'? (at environments.a.base.debian)\n"
        "  Choose a value that the message allows."
    )


def test_suggestions() -> None:
    assert did_you_mean("Bookwrom", ["bookworm", "trixie"]) == "; did you mean 'bookworm'?"
    assert did_you_mean("zzz", ["bookworm", "trixie"]) == ""
    assert did_you_mean("12", ["a", "b"]) == ""
    assert one_of([]) == ""
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"], "and") == "a, b and c"
