"""The other solver: what is missing is said, and what is asked and answered passes through.

conda-lock itself is not run here: it needs a conda.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

_CONDA_LOCK = """
import json, os, pathlib, sys
folder = pathlib.Path.cwd()
seen = {"arguments": sys.argv[1:], "virtual": json.loads((folder / "virtual-packages.yml").read_text())}
seen["priority"] = [os.environ[name] for name in ("CONDA_CHANNEL_PRIORITY", "MAMBA_CHANNEL_PRIORITY")]
seen["environment"] = (folder / "environment.yml").read_text()
pathlib.Path(__file__).with_name("seen.json").write_text(json.dumps(seen))
answer = pathlib.Path(__file__).with_name("answer.yml")
if not answer.exists():
    sys.exit("nothing provides x")
(folder / "conda-lock.yml").write_bytes(answer.read_bytes())
"""


@pytest.fixture
def conda_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that stands for conda-lock, and a micromamba that does nothing."""
    package = tmp_path / "python" / "conda_lock"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(_CONDA_LOCK)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "micromamba").write_text("#!/bin/sh\n")
    (programs / "micromamba").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return package


def test_without_conda_lock(physics: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "afenv[conda-lock]" in physics.fails("E121", "hist", solver="conda-lock")


def test_without_conda(physics: Any, conda_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "none of them is on the PATH" in physics.fails("E121", "hist", solver="conda-lock")


def test_what_it_answers_is_taken(physics: Any, conda_lock: Path) -> None:
    folder = physics.folder / "channel"
    text = "version: 1\nmetadata: {platforms: [linux-64]}\npackage:\n"
    for name, path in (("fonts", "noarch/fonts-1-0.conda"), ("libz", "linux-64/libz-1.3-0.conda")):
        text += f"- {{name: {name}, version: '1', manager: conda, platform: linux-64, "
        text += f"url: '{(folder / path).as_uri()}'}}\n"
    (conda_lock / "answer.yml").write_text(text)
    found = physics.resolve("fonts", solver="conda-lock", cuda="12.2").records
    assert [(package.name, package.version, package.requested) for package in found] == [
        ("fonts", "1", True),
        ("libz", "1.3", False),
    ]
    assert found[0].channel == "./channel"
    assert found[0].file.urls == ("./channel/noarch/fonts-1-0.conda",)
    seen = json.loads((conda_lock / "seen.json").read_bytes())
    assert seen["priority"] == ["strict", "strict"]
    assert seen["virtual"]["subdirs"]["linux-64"]["packages"] == {
        "__archspec": "1 x86_64",
        "__cuda": "12.2",
        "__glibc": "2.36",
        "__linux": "4.18",
        "__unix": "0",
    }
    assert "--micromamba" in seen["arguments"]
    assert folder.as_uri() in seen["environment"]


def test_what_it_says_is_passed_on(physics: Any, conda_lock: Path) -> None:
    assert "nothing provides x" in physics.fails("E120", "hist", solver="conda-lock")
    offline = replace(physics.settings, offline=True)
    physics.fails("E203", "hist", solver="conda-lock", settings=offline)
    physics.fails("E030", "hist", solver="mamba")
