"""The story of the tutorial about preservation: made at one facility, taken up at another without a network.

The page's own commands run here. Facility A has Docker and a registry; facility B has Apptainer, an empty
cache, no network interface, and of facility A the archive alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.conftest import running_registry, tool

pytestmark = [pytest.mark.network, pytest.mark.services]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial-preservation.md"
PART = re.compile(r"^## Facility (A|B): .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = "registry.example.org"


def commands(facility: str) -> str:
    """What a user types at a facility."""
    parts = [part[0] for part in PART.finditer(PAGE.read_text()) if part[1] == facility]
    return "\n".join(block for part in parts for block in BLOCK.findall(part))


@dataclass(frozen=True, kw_only=True)
class Facility:
    """A folder with a cache and a home of its own, and a runtime."""

    folder: Path
    runtime: str
    before: tuple[str, ...] = ()

    def shell(self, script: str) -> str:
        """Run a script of the user there; what it printed."""
        tools = self.folder / "tools"
        if not tools.exists():
            tools.mkdir(parents=True)
            (tools / "afenv").symlink_to(Path(sys.executable).with_name("afenv"))
            (self.folder / "gitconfig").write_text("[user]\n\tname = A\n\temail = a@example.org\n")
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        done = subprocess.run(
            [*self.before, "bash", "-c", f"set -euo pipefail\n{script}"],
            cwd=work,
            env={
                **os.environ,
                "PATH": f"{tools}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "AFENV_CACHE_DIR": str(self.folder / "cache"),
                "AFENV_RUNTIME": self.runtime,
                "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
                "GIT_CONFIG_NOSYSTEM": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def of_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def image_ids(run: Path) -> set[str]:
    """The images that the steps of a run had."""
    return {step["image"]["image_id"] for step in of_json(run / "record.json")["steps"]}


@pytest.fixture
def loaded(docker: str) -> Iterator[list[str]]:
    """IDs of images that are removed from Docker at the end."""
    found: list[str] = []
    yield found
    for image_id in found:
        subprocess.run([*docker.split(), "rmi", "-f", image_id], capture_output=True, check=False)


def test_the_story(
    tmp_path: Path, docker: str, apptainer: str, loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFENV_DOCKER", docker)
    made = Facility(folder=tmp_path / "a", runtime="docker")
    (tmp_path / "registry").mkdir()
    script = commands("A")
    assert EXAMPLE in script
    with running_registry(tmp_path / "registry") as host:
        made.shell(script.replace(EXAMPLE, host))
        pushed = made.shell(f"afenv pull -q --json {host}/physics/search:1.0 -o pulled")
    image_id = (made.folder / "work/image.id").read_text().strip()
    loaded.append(image_id)
    assert image_id in pushed
    original = made.folder / "work/search/.afenv/runs/default"
    assert {step["runtime"] for step in of_json(original / "record.json")["steps"]} == {"docker"}
    assert image_ids(original) == {image_id}

    # no network, and nothing of facility A but the archive
    cut = (tool("unshare"), "-n" if os.getuid() == 0 else "-rn")
    other = Facility(folder=tmp_path / "b", runtime="apptainer", before=cut)
    devices = other.shell("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    shutil.copy(made.folder / "work/search.zip", other.folder / "work/search.zip")
    reference = {path.name: path.read_bytes() for path in (original / "outputs").iterdir()}
    made.folder.rename(tmp_path / "gone")
    said = other.shell(commands("B"))
    assert f"built from the bag alone, it is {image_id} again" in said
    assert "uproot 5" in said
    assert "the results differ" in said
    assert "same (" in said
    work = other.folder / "work"
    again = work / "search/.afenv/runs/default"
    assert {step["runtime"] for step in of_json(again / "record.json")["steps"]} == {"apptainer"}
    assert image_ids(again) == image_ids(work / "recast") == {image_id}
    assert {path.name for path in (again / "outputs").iterdir()} == reference.keys()

    # the same results, and the comparison would see others
    found = json.loads(other.shell("cd search && afenv -q compare --json .afenv/runs/default ../search.zip"))
    assert found["verdict"] == "same"
    told = other.shell("cd search && ! afenv compare --json ../recast ../search.zip")
    assert '"different"' in told
    assert abs(of_json(again / "outputs/fit.json")["mass"] - 91.2) < 2
    assert abs(of_json(work / "recast/outputs/fit.json")["mass"] - 150) < 3
    assert of_json(work / "recast/record.json")["chosen"]["parameters"] == ["generate.mass=150"]
    report = (work / "report.html").read_text()
    assert "<svg" in report and "mass.root" in report
