"""The tutorial's commands, run in order in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run.choose import find_runtime

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)

DOCKER = Path("/usr/bin/docker")  # Debian's, where other commands of that name may come first

pytestmark = [pytest.mark.network, pytest.mark.services]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container engine that `afenv run` will find; its absence is a failure in CI."""
    if DOCKER.exists() and "AFENV_DOCKER" not in os.environ:
        monkeypatch.setenv("AFENV_DOCKER", str(DOCKER))
    try:
        find_runtime()
    except AfenvError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.mark.usefixtures("engine")
def test_every_command_works(tmp_path: Path) -> None:
    blocks = BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) > 8
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "afenv").symlink_to(Path(sys.executable).with_name("afenv"))
    script = "set -euo pipefail\n" + "\n".join(blocks)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AFENV_CACHE_DIR": str(tmp_path / "cache"),
        "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    (tmp_path / "gitconfig").write_text("[user]\n\tname = A Physicist\n\temail = physicist@example.org\n")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "mean mass: 91.17 GeV" in done.stdout
    assert "they differ" in done.stdout
    assert "bit for bit the same" in done.stdout
