"""A bag with steps: its crate read by roc-validator, its workflow run by Snakemake and Apptainer alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import tool

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
HERE = Path(__file__).parent
MANIFEST = """\
afenv: 1
name: counted
version: "1"
metadata: {title: A count, license: MIT, authors: [{name: Emmy, orcid: 0000-0002-1825-0097}]}
code: [{path: src}]
environments:
  default: {base: {debian: bookworm, packages: [dash, coreutils]}, bytecode: false}
data:
  - {name: events, uri: "file:kept/events.txt"}
steps:
  - name: repeat
    run: "cat {inputs.events} {inputs.events} > {outputs.twice}; echo {parameters.text} >> {outputs.twice}"
    inputs: [events]
    outputs: {twice: "twice.txt"}
    parameters: {text: {type: string, default: "it's {here}"}}
  - name: count
    run: "mkdir plots; wc -l < {inputs.repeat.twice} > plots/lines"
    inputs: [repeat.twice]
    outputs: {plots: plots/}
"""


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The analysis, run once."""
    pytest.importorskip("snakemake")
    tool("bwrap")
    project = tmp_path_factory.mktemp("stepped") / "project"
    (project / "src").mkdir(parents=True)
    (project / "kept").mkdir()
    (project / "src/readme.txt").write_text("a count\n")
    (project / "kept/events.txt").write_text("one event\n")
    (project / "afenv.yaml").write_text(MANIFEST)
    for words in (["lock"], ["data", "pin"], ["rerun"]):
        afenv(project, *words)
    return project


def afenv(project: Path, *words: str | Path) -> str:
    """Run afenv in the project."""
    variables = {"AFENV_CACHE_DIR": str(project.parent / "cache"), "AFENV_RUNTIME": "userns"}
    return run(AFENV, "-q", *words, folder=project, **variables)


def test_a_run_in_a_bag(tmp_path: Path, project: Path, apptainer: str) -> None:
    runs = project / ".afenv/runs/default"
    bag = tmp_path / "bag"
    afenv(project, "archive", "--data", "--results", runs, "--without-afenv", "-o", bag)

    profiles = ("ro-crate-1.2", "provenance-run-crate-0.5", "workflow-ro-crate-1.0")
    command = [sys.executable, HERE / "rocrate_offline.py", bag / "data", *profiles]
    shown = run(*command, folder=tmp_path)
    assert json.loads(shown.partition("RESULT ")[2]) == {profile: [] for profile in profiles}
    crate = {
        one["@id"]: one for one in json.loads((bag / "data/ro-crate-metadata.json").read_bytes())["@graph"]
    }
    claimed = {one["@id"].rpartition("/ro/")[2] for one in crate["./"]["conformsTo"]}
    assert {f"wfrun/{name}/0.5" for name in ("process", "workflow", "provenance")} <= claimed
    # the data that the run read is the file of the bag
    assert {"@id": "data/events/events.txt"} in crate["#run"]["object"]
    assert (bag / "data/data/events/events.txt").read_text() == "one event\n"

    # as the README has it
    place = tmp_path / "run"
    readme = (bag / "README.md").read_text()
    lines = readme.partition("## Run the steps")[2].partition("##")[0].splitlines()
    typed = "\n".join(line.strip() for line in lines if line.startswith("    "))
    assert "snakemake" in typed
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    place.mkdir()
    shutil.copytree(bag, place / "bag")
    run("bash", "-ec", typed, folder=place / "bag", PATH=scripts, XDG_CACHE_HOME=str(tmp_path / "home"))
    outputs = place / "run/workflow"
    for path in ("twice.txt", "plots/lines"):
        assert (outputs / path).read_bytes() == (runs / "outputs" / path).read_bytes()


def test_the_bag_has_all_that_a_rerun_needs(tmp_path: Path, project: Path) -> None:
    """Installed from the bag as its README says, without a network; then the same run there, compared."""
    runs = project / ".afenv/runs/default"
    bag = tmp_path / "bag"
    afenv(project, "archive", "--data", "--results", runs, "--no-sif", "-o", bag)
    readme = (bag / "README.md").read_text()
    (install,) = (line.strip() for line in readme.splitlines() if "--no-index" in line)
    assert "'afenv[rerun,compare]'" in install and "which is not here" not in readme
    cut = [tool("unshare"), "-n" if os.getuid() == 0 else "-rn"]
    assert "    python3 -m venv ../afenv\n" in readme
    run(sys.executable, "-m", "venv", "../afenv", folder=bag)
    run(*cut, "bash", "-c", install.replace("install", "install -q --no-compile"), folder=bag)
    scripts = tmp_path / "afenv/bin"
    variables = {
        "PATH": f"{scripts}:/usr/bin:/bin",
        "AFENV_CACHE_DIR": str(tmp_path / "cache"),
        "AFENV_RUNTIME": "userns",
        "XDG_CACHE_HOME": str(tmp_path / "home"),
    }

    def there(*words: str | Path) -> str:
        return run(*cut, *words, folder=bag, **variables)

    assert "--param" in there("afenv", "rerun", "--help")
    assert there("snakemake", "--version").startswith("9.")
    found = there(scripts / "python", "-I", "-c", "import afenv, snakemake, uproot; print(afenv.__file__)")
    assert Path(found.strip()).is_relative_to(tmp_path / "afenv")
    there("afenv", "-q", "verify", ".")
    there("afenv", "-q", "restore", ".", "--to", "project", "-o", tmp_path / "again")
    there("afenv", "-q", "-C", tmp_path / "again", "rerun", "--check", bag)
    outputs = tmp_path / "again/.afenv/runs/default/outputs"
    assert (outputs / "twice.txt").read_bytes() == (runs / "outputs/twice.txt").read_bytes()
