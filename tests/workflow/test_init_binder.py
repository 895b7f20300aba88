"""Repositories in the layouts that Binder knows, and the manifests that are drafted from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.load import parse_manifest
from afenv.documents.manifest import Environment
from afenv.workflow.init import draft_manifest, init_for_build

ENVIRONMENT = "channels: [conda-forge]\ndependencies: [python=3.12, root]\n"
BASH = '#!/bin/bash -l\nexec "$@"\n'

# The files of a repository, and what the only environment of its manifest has to be.
LAYOUTS: dict[str, tuple[Mapping[str, str], Mapping[str, Any]]] = {
    "requirements": ({"requirements.txt": "uproot\n"}, {"pypi.file": "requirements.txt"}),
    "environment": ({"environment.yml": ENVIRONMENT}, {"conda.file": "environment.yml"}),
    "folder of Binder": (
        {"binder/requirements.txt": "uproot\n", "requirements.txt": "not-this\n"},
        {"pypi.file": "binder/requirements.txt"},
    ),
    "hidden folder of Binder": (
        {".binder/environment.yml": ENVIRONMENT, "environment.yml": "channels: [other]\n"},
        {"conda.file": ".binder/environment.yml"},
    ),
    "Debian packages": (
        {"apt.txt": "# compiler\ng++ cmake\n", "requirements.txt": "uproot\n"},
        {"debian.packages": ("ca-certificates", "cmake", "g++", "python3")},
    ),
    "another Python": (
        {"binder/runtime.txt": "python-3.13\n", "binder/requirements.txt": "uproot\n"},
        {"debian.suite": "trixie"},
    ),
    "postBuild": (
        {"postBuild": "make\n", "requirements.txt": "uproot\n"},
        {"build": ("/bin/bash postBuild",)},
    ),
    "postBuild in Python": (
        {"binder/postBuild": "#!/usr/bin/env python3\nprint()\n", "binder/requirements.txt": "uproot\n"},
        {"build": ("/usr/bin/env python3 binder/postBuild",)},
    ),
    "start": (
        {"start": BASH, "requirements.txt": "uproot\n"},
        {"entrypoint": ("/bin/bash", "-l", "/analysis/start")},
    ),
    "Dockerfile": (
        {"Dockerfile": "FROM scratch\n"},
        {"builder.name": "docker", "builder.file": "Dockerfile"},
    ),
    "Dockerfile of Binder": (
        {"binder/Dockerfile": "FROM scratch\n", "binder/environment.yml": ENVIRONMENT},
        {"builder.name": "docker", "builder.folder": ".", "builder.file": "binder/Dockerfile"},
    ),
    "R": (
        {"install.R": "install.packages('x')\n", "runtime.txt": "r-4.1-2022-01-01\n"},
        {"builder.name": "repo2docker"},
    ),
    "Julia": ({"Project.toml": "[deps]\n"}, {"builder.name": "repo2docker"}),
    "Nix": ({"default.nix": "{}\n"}, {"builder.name": "repo2docker"}),
    "R beside Python": (
        {"install.R": "install.packages('x')\n", "environment.yml": ENVIRONMENT},
        {"conda.file": "environment.yml", "builder": None},
    ),
    "pyproject": (
        {"pyproject.toml": "[project]\nname = 'a'\nversion = '1'\ndependencies = ['uproot']\n"},
        {"pypi.file": "pyproject.toml"},
    ),
}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _environment(folder: Path) -> Environment:
    manifest = parse_manifest(draft_manifest(folder).encode(), "afenv.yaml")
    return manifest.environments["default"]


def _value(environment: Environment, path: str) -> Any:
    value: Any = environment
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout: str, tmp_path: Path) -> None:
    files, expected = LAYOUTS[layout]
    _write(tmp_path, files)
    environment = _environment(tmp_path)
    assert {path: _value(environment, path) for path in expected} == expected


def test_what_cannot_be_locked_is_said(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {"binder/apt.txt": "g++ Bad_Name\n", "binder/install.R": "x", "binder/requirements.txt": "a"},
    )
    told = "\n".join(init_for_build(tmp_path))
    assert "not taken over  binder/apt.txt: 'Bad_Name' is not the name of a package" in told
    assert "not taken over  binder/install.R: its R packages" in told
    assert "taken over      binder/requirements.txt" in told
    assert (tmp_path / "afenv.yaml").read_text().startswith("# Drafted")


def test_a_python_that_no_release_has_is_not_taken_over(tmp_path: Path) -> None:
    _write(tmp_path, {"runtime.txt": "python-2.7\n", "requirements.txt": "a\n"})
    lines = [line for line in init_for_build(tmp_path) if "runtime.txt" in line]
    assert len(lines) == 1
    assert "not taken over  runtime.txt: no Debian release has Python" in lines[0]


def test_a_manifest_stays(tmp_path: Path) -> None:
    _write(tmp_path, {"afenv.yaml": "mine", "requirements.txt": "uproot\n"})
    assert init_for_build(tmp_path) == []
    assert (tmp_path / "afenv.yaml").read_text() == "mine"


def test_an_empty_folder_gets_none(tmp_path: Path) -> None:
    assert init_for_build(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
