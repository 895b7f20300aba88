"""A build on a disk that is full, and the next one on the same disk when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.services


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=2000", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("mounting needs root")
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(world: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.afenv_json("lock")
    monkeypatch.setenv("AFENV_CACHE_DIR", str(small_disk / "cache"))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - 40_000)
    status, _, err = world.afenv("build", "--locked")
    assert (status, "E402" in err) == (3, True), err
    assert "Traceback" not in err
    assert not (world.project / ".afenv" / "default.oci").exists()
    ballast.unlink()
    status, _, err = world.afenv("build", "--locked", "--check")
    assert status == 0, err
    assert world.afenv("cache", "verify")[0] == 0
