"""`afenv rerun --check`: the steps run, and what they give is compared with a reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from afenv.cli import main
from afenv.compare.verdict import read_verdict
from afenv.workflow import rerun

from .conftest import Analysis


@pytest.fixture
def project(analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the small analysis, whose images are there."""
    analysis.place.joinpath("afenv.yaml").write_text(analysis.text)
    monkeypatch.setenv("AFENV_CACHE_DIR", str(analysis.store.folder))
    monkeypatch.setattr(rerun, "_images", lambda *_: analysis.images)
    return analysis.place


def test_the_old_results_come_out_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["-q", "-C", str(project), "rerun", "-j", "2", "-o", "../run"]
    assert main(call) == 0
    run = project.parent / "run"
    reference = project.parent / "reference"
    shutil.copytree(run / "outputs", reference)
    (reference / "n.txt").rename(reference / "count.txt")  # the reference need not have everything
    (reference / "count.txt").unlink()
    assert main([*call, "--check", "../reference"]) == 0
    assert read_verdict(run / "comparison.json")["verdict"] == "same"
    assert "The two are the same." in (run / "comparison.html").read_text()
    capsys.readouterr()
    # another value: other numbers
    assert main([*call, "--param", "n=6", "--check", "../reference", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    outcomes = {file["path"]: file["outcome"] for file in found["files"]}
    assert outcomes == {
        "gen/numbers.txt": "different",
        "kept.txt": "different",
        "plots/deep/one": "identical",
    }
    assert found["first"]["chosen"] == ["n=6"]
    assert read_verdict(run / "comparison.json") == found
    # what the reference has and the run has not
    (reference / "more.txt").write_text("x")
    assert main([*call, "--check", "../reference"]) == 1


def test_a_reference_that_is_not_there_is_told_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["-q", "-C", str(project), "rerun", "-o", "../run", "--json", "--check"]
    assert main([*call, "../nothing.zip"]) == 2
    assert json.loads(capsys.readouterr().err)["errors"][0]["code"] == "E001"
    (project.parent / "empty").mkdir()
    assert main([*call, "../empty"]) == 2
    assert json.loads(capsys.readouterr().err)["errors"][0]["code"] == "E781"
    assert main([*call, "../empty", "--dry-run"]) == 2
    assert not (project.parent / "run").exists()
