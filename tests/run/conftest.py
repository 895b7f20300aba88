"""Engines that are shell scripts, to see what they are asked and to let them fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Engine = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """``fake(name, script)`` puts a command on an otherwise empty PATH; the log of its calls comes back."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("AFENV_RUNTIME", "AFENV_DOCKER", "AFENV_PODMAN"):
        monkeypatch.delenv(name, raising=False)

    def make(name: str, script: str) -> Path:
        log = tmp_path / f"{name}.log"
        command = folder / name
        command.write_text(
            f'#!/bin/sh\nPATH=/usr/bin:/bin\nprintf "%s\\n" "$*" >> "{log}"\nstate="{tmp_path}"\n{script}\n'
        )
        command.chmod(0o755)
        return log

    return make
