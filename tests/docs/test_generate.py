"""The generated reference pages are what would be generated now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    status = generator.main(["--check"])
    assert capsys.readouterr().out == ""
    assert status == 0


def test_check_tells_what_is_not_and_writes_nothing(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    monkeypatch.setattr(generator, "PAGES", {tmp_path / "a" / "page.md": lambda: "text\n"})
    assert generator.main(["--check"]) == 1
    assert "a/page.md is not up to date" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert generator.main(["--what"]) == 2


def test_each_key_of_the_schema_is_in_the_page(generator: ModuleType) -> None:
    import json

    for folder, page in (("manifest", generator.manifest_page()), ("lock", generator.lock_page())):
        schema = json.loads((ROOT / "specs" / folder / "v1" / "schema.json").read_bytes())
        described = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
        keys = list(schema["properties"])
        for entry in schema["$defs"].values():
            keys += entry.get("properties", {})
        assert set(described) == set(keys)  # an entry that stands at two places is described at both


def test_each_code_is_in_the_page(generator: ModuleType) -> None:
    from afenv.errors import catalogue

    rows = re.findall(r"^\| (E\d{3}) \|", generator.errors_page(), re.MULTILINE)
    assert rows == sorted(catalogue())
