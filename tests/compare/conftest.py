"""Two folders with results, and the command that compares them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main

Compared = Callable[..., dict[str, Any]]


class Sides:
    """Two folders, and what comparing them gives."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.first, self.second = folder / "first", folder / "second"
        for side in (self.first, self.second):
            side.mkdir()

    def write(self, name: str, first: str | bytes | None, second: str | bytes | None) -> None:
        """A result of each; None for a side that lacks it."""
        for side, content in ((self.first, first), (self.second, second)):
            if content is not None:
                path = side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def rules(self, text: str) -> None:
        """The section ``compare`` of the manifest."""
        head = "afenv: 1\nname: small\nenvironments: {default: {base: {debian: bookworm}}}\ncompare:\n"
        (self.folder / "afenv.yaml").write_text(head + text)

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status and the verdict."""
        self.capsys.readouterr()
        status = main(["-q", "-C", str(self.folder), "compare", "first", "second", "--json", *words])
        out, err = self.capsys.readouterr()
        return status, json.loads(out or err)

    def verdict(self, *words: str) -> dict[str, Any]:
        """The verdict, which fits the exit status, and is the same with the two exchanged."""
        status, found = self.run(*words)
        assert status == {"same": 0, "different": 1, "incomparable": 2}[found["verdict"]]
        swapped = [*words[:0], "second", "first", "--json", *words]
        self.capsys.readouterr()
        assert main(["-q", "-C", str(self.folder), "compare", *swapped]) == status
        other = json.loads(self.capsys.readouterr().out)
        assert [(file["path"], file["outcome"], file.get("reason")) for file in other["files"]] == [
            (file["path"], file["outcome"], file.get("reason")) for file in found["files"]
        ]
        return found

    def file(self, *words: str) -> dict[str, Any]:
        """What is found of the only file."""
        (file,) = self.verdict(*words)["files"]
        return dict(file)

    def parts(self, *words: str) -> dict[str, dict[str, Any]]:
        """What is found in the only file, by path."""
        return {part["path"]: part for part in self.file(*words)["parts"]}


@pytest.fixture
def sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sides:
    """Two empty folders."""
    return Sides(tmp_path, capsys)
