"""The image of a lock with a base never changes: see ``on_base.py``."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    """The program that makes the golden image, as a module."""
    spec = importlib.util.spec_from_file_location("golden_on_base", Path(__file__).with_name("on_base.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("umask", "jobs", "place"), [(0o022, 2, "a"), (0o077, 1, "another place é")])
def test_the_golden_image_on_a_base_is_the_same_as_ever(
    golden: ModuleType, tmp_path: Path, umask: int, jobs: int, place: str
) -> None:
    expected = json.loads(golden.GOLDEN.read_text())
    before = os.umask(umask)
    try:
        built = golden.build(tmp_path / place, jobs=jobs)
    finally:
        os.umask(before)
    assert built["image_id"] == expected["image_id"], "the content of a layer or the configuration changed"
    assert built == expected, "the same content, compressed otherwise"
