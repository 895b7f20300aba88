"""The examples in the prose of the specifications are what the programs accept and reject."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from afenv.documents.load import parse_manifest
from afenv.documents.lockfile import dump_lock, parse_lock
from afenv.errors import AfenvError
from afenv.specs import specs_folder
from afenv.submit.state import parse_state

_FENCE = re.compile(r"^```(yaml|json)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _examples(document: str) -> list[tuple[str, str]]:
    text = (specs_folder() / document / "v1" / "spec.md").read_text(encoding="utf-8")
    return [(match[2].strip(), match[3]) for match in _FENCE.finditer(text)]


def _whole(kind: str, text: str) -> str:
    """A fragment as part of a whole manifest."""
    head = "afenv: 1\nname: example\n"
    if kind == "environment":
        indented = "".join(f"    {line}\n" for line in text.splitlines())
        return f"{head}environments:\n  default:\n{indented}"
    if kind == "top":
        return f"{head}environments:\n  default:\n    base: {{debian: bookworm}}\n{text}"
    return text


@pytest.mark.parametrize(("kind", "text"), _examples("manifest"))
def test_manifest(kind: str, text: str) -> None:
    whole = _whole(kind, text).encode()
    if kind.startswith("invalid"):
        with pytest.raises(AfenvError) as caught:
            parse_manifest(whole, "spec.md")
        assert {problem.code for problem in caught.value.problems} == {kind.split()[1]}
    else:
        assert kind in ("", "environment", "top")
        assert parse_manifest(whole, "spec.md").environments


@pytest.mark.parametrize(("kind", "text"), _examples("lock"))
def test_lock(kind: str, text: str) -> None:
    assert kind == ""
    assert dump_lock(parse_lock(text.encode(), "spec.md")) == text.encode()


@pytest.mark.parametrize(("kind", "text"), _examples("submission"))
def test_submission(kind: str, text: str) -> None:
    assert kind == ""
    assert parse_state(text.encode(), "spec.md")["step"] == "draft"


def test_manifest_of_the_decision_record() -> None:
    record = Path(__file__).parents[2] / "docs" / "adr" / "0003-code-destination-is-into.md"
    (match,) = _FENCE.finditer(record.read_text(encoding="utf-8"))
    assert [source.into for source in parse_manifest(_whole("top", match[3]).encode(), "adr").code] == [
        "/analysis",
        "/opt/macros",
    ]
