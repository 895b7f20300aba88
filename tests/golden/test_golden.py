"""The image of a lock never changes: see ``regenerate.py``."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import zipfile
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    """The program that makes the golden image, as a module."""
    path = Path(__file__).with_name("regenerate.py")
    spec = importlib.util.spec_from_file_location("golden_regenerate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_golden_image_is_the_same_as_ever(golden: ModuleType, tmp_path: Path) -> None:
    expected = json.loads(golden.GOLDEN.read_text())
    built = golden.build(tmp_path)
    assert built["image_id"] == expected["image_id"], "the content of a layer or the configuration changed"
    assert built == expected, "the same content, compressed otherwise"


def test_it_does_not_depend_on_place_umask_or_processors(golden: ModuleType, tmp_path: Path) -> None:
    expected = json.loads(golden.GOLDEN.read_text())
    os.umask(0o077)
    assert golden.build(tmp_path / "another place é", jobs=1) == expected
    os.umask(0o000)
    assert golden.build(tmp_path / "third", jobs=8) == expected


def test_the_wheels_made_here_are_sound(golden: ModuleType) -> None:
    for name, files in golden.WHEELS.items():
        with zipfile.ZipFile(io.BytesIO(golden.make_wheel(name))) as archive:
            assert archive.testzip() is None
            assert {info.compress_type for info in archive.infolist()} == {0, 8}
            for path, data in files.items():
                assert archive.read(path) == data
