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


def test_a_run_in_a_bag(tmp_path: Path, apptainer: str) -> None:
    pytest.importorskip("snakemake")
    tool("bwrap")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "kept").mkdir()
    (project / "src/readme.txt").write_text("a count\n")
    (project / "kept/events.txt").write_text("one event\n")
    (project / "afenv.yaml").write_text(MANIFEST)
    variables = {"AFENV_CACHE_DIR": str(tmp_path / "cache"), "AFENV_RUNTIME": "userns"}

    def afenv(*words: str | Path) -> str:
        return run(AFENV, "-q", *words, folder=project, **variables)

    afenv("lock")
    afenv("data", "pin")
    afenv("rerun")
    runs = project / ".afenv/runs/default"
    afenv("archive", "--data", "--results", runs, "--without-afenv", "-o", "../bag")
    bag = tmp_path / "bag"

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
