"""``afenv submit`` to an OCI registry, and pulling the bag back."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main

from .bags import METADATA, make_bag

FAKE = Path(__file__).parent.parent / "registry" / "conftest.py"


@pytest.fixture
def registry() -> Iterator[Any]:
    """The registry in memory of the registry's tests."""
    spec = importlib.util.spec_from_file_location("fake_registry", FAKE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.FakeRegistry()
    yield found
    found.close()


def test_the_parts_of_a_bag_come_back_as_they_were(
    tmp_path: Path, registry: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    make_bag(tmp_path / "bag.zip", parts=7000)
    files = {one.name: one.read_bytes() for one in tmp_path.glob("bag.zip.*")}
    reference = f"{registry.host}/archives/dimuon:1"
    words = ["-C", str(tmp_path), "submit", "bag.zip", "--to", reference, "--json"]
    assert main(words) == 0
    done = json.loads(capsys.readouterr().out)
    manifest = json.loads(registry.manifests["archives/dimuon", "1"])
    assert done["step"] == "pushed" and manifest["artifactType"] == "application/vnd.afenv.archive.v1"
    assert manifest["annotations"]["org.opencontainers.image.title"] == METADATA["title"]
    sent = sum(
        method in ("PUT", "PATCH", "POST") and "blobs" in path for method, path, _ in registry.requests
    )
    assert main(words) == 0
    again = sum(
        method in ("PUT", "PATCH", "POST") and "blobs" in path for method, path, _ in registry.requests
    )
    assert again == sent  # what is there is not sent again
    assert main(["-C", str(tmp_path), "pull", reference, "-o", "back"]) == 0
    assert {one.name: one.read_bytes() for one in (tmp_path / "back").iterdir()} == files
