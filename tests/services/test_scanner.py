"""A scanner of another project, syft, sees every package of the image and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from afenv.documents.lockfile import read_lock
from afenv.workflow.demo import copy_example

from .conftest import tool

pytestmark = [pytest.mark.network, pytest.mark.services]


def test_syft_sees_what_the_lock_names(tmp_path: Path) -> None:
    syft = tool("syft", str(Path(sys.executable).parent / "syft"))
    example = copy_example(tmp_path / "example")
    environment = {
        **os.environ,
        "AFENV_CACHE_DIR": str(tmp_path / "store"),
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "SYFT_CACHE_DIR": str(tmp_path / "syft"),
    }
    subprocess.run(
        [sys.executable, "-m", "afenv", "-q", "-C", example, "build"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    scanned = subprocess.run(
        [syft, "scan", "--quiet", "--output", "json", f"oci-dir:{example / '.afenv' / 'default.oci'}"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(scanned.stdout)
    seen: dict[str, set[tuple[str, str]]] = {}
    for package in found["artifacts"]:
        seen.setdefault(package["type"], set()).add((canonicalize_name(package["name"]), package["version"]))
    locked = read_lock(example / "afenv.lock").environments["default"]
    assert found["distro"]["versionCodename"] == "bookworm"
    assert seen == {
        "deb": {(canonicalize_name(deb.name), deb.version) for deb in locked.debs},
        "python": {(wheel.name, wheel.version) for wheel in locked.wheels},
    }
