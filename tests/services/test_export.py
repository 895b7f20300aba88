"""What `afenv export` writes, judged and run by the engines' own code, each in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from afenv.export.cwl import cwl
from afenv.export.htcondor import htcondor
from afenv.export.plan import ExportFile, ExportImage, ExportPlan
from afenv.export.reana import FORMS, reana
from afenv.export.recast import recast
from afenv.export.snakemake import snakemake
from tests.export.conftest import IMAGE, MANIFEST, plan_of, write_data

from .conftest import missing
from .test_run_batch import words

pytestmark = pytest.mark.services

LABEL = 'it\'s "$HOME" $(id) `id` \\ 100%'
KEPT = f"1\n2\n4\n5\n6\nevent\na\nb\n{LABEL} is {LABEL}\n"
PACKAGES = {
    "reana": ("reana-commons[yadage]>=0.9.11,<0.10", "recast-atlas>=0.4.2", "setuptools<81"),
    "cwl": ("cwltool>=3.1",),
}


def environment(folder: Path, name: str) -> Path:
    """The commands of packages that cannot be installed beside afenv."""
    from uv import find_uv_bin

    uv = find_uv_bin()
    place = folder / name
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True, timeout=120)
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--python", place / "bin/python", *PACKAGES[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    if done.returncode != 0:
        missing(f"{', '.join(PACKAGES[name])} from PyPI ({done.stderr[-300:]})")
    return place / "bin"


@pytest.fixture(scope="session")
def of_reana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """REANA's library, yadage and RECAST."""
    return environment(tmp_path_factory.mktemp("engines"), "reana")


@pytest.fixture(scope="session")
def cwltool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference runner of CWL."""
    return environment(tmp_path_factory.mktemp("engines"), "cwl") / "cwltool"


def written(files: Any, folder: Path) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_data(folder)
    return folder


def plan(folder: Path, **more: Any) -> ExportPlan:
    return plan_of(MANIFEST, (f"label={LABEL}",), folder=str(folder), **more)


def run(*words: str | Path, cwd: Path, status: int = 0) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


REANA = """
import json, sys, warnings
warnings.simplefilter("ignore")
import yaml
from reana_commons.validation.utils import validate_reana_yaml
tree = yaml.safe_load(open("reana.yaml"))
wrong = validate_reana_yaml(tree)
assert not wrong, wrong
kind = tree["workflow"]["type"]
if kind == "serial":
    from reana_commons.serial import serial_load
    print(json.dumps(serial_load(None, tree["workflow"]["specification"], tree["inputs"]["parameters"])))
elif kind == "yadage":
    from reana_commons.yadage import yadage_load
    print(json.dumps(yadage_load(tree["workflow"]["file"], toplevel=".")))
"""


@pytest.mark.parametrize("form", FORMS)
def test_reana_accepts_the_document(of_reana: Path, tmp_path: Path, form: str) -> None:
    image = ExportImage(reference=IMAGE, cvmfs=("sft.cern.ch",))
    images = {"default": image, "other": ExportImage(reference=IMAGE)}
    exported = reana(plan(tmp_path, kerberos=True, images=images), form)
    folder = written(exported.files, tmp_path)
    shown = run(of_reana / "python", "-c", REANA, cwd=folder)
    if form == "serial":
        for step in json.loads(shown)["steps"]:  # as REANA fills the parameters in
            for command in step["commands"]:
                run("bash", "-c", command, cwd=folder)
        assert (folder / "kept.txt").read_text().startswith(KEPT)
        assert (folder / "n.txt").read_text() == "10\nplot\n"
    elif form == "yadage":
        assert [stage["name"] for stage in json.loads(shown)["stages"]] == ["generate", "select", "count"]
    else:
        found = run(sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", cwd=folder)
        assert "rule select" in found


def test_reanas_schema_finds_what_is_wrong(of_reana: Path, tmp_path: Path) -> None:
    folder = written(reana(plan(tmp_path)).files, tmp_path)
    text = (folder / "reana.yaml").read_text()
    (folder / "reana.yaml").write_text(text.replace("kubernetes_job_timeout: 600", "time: 600"))
    run(of_reana / "python", "-c", REANA, cwd=folder, status=1)


RECAST = """
import os, sys, yaml
from recastatlas.config import process_entry
from recastatlas.subcommands.run import make_spec
from recastatlas.testing import validate_entry
from yadage.steering_api import run_workflow
from yadage.utils import setupbackend_fromstring
found = {}
process_entry(found, "recast.yml", yaml.safe_load(open("recast.yml")))
(entry,) = found.values()
assert validate_entry(entry), "not a workflow"
spec = make_spec("work", entry, entry["example_inputs"]["default"])
run_workflow(**{**spec, "visualize": False, "backend": setupbackend_fromstring("foregroundasync")})
for result in entry["results"]:
    assert os.path.exists(os.path.join("work", result["relpath"])), result
"""


def test_yadage_runs_what_recast_reads(of_reana: Path, tmp_path: Path) -> None:
    folder = written(recast(plan(tmp_path)).files, tmp_path)
    run(of_reana / "yadage-validate", "workflow.yml", "-t", "specs", cwd=folder)
    steps = YAML(typ="safe", pure=True).load(folder / "specs/steps.yml")
    for step in steps.values():
        image = step["environment"]
        assert f"{image['image']}:{image['imagetag']}" == IMAGE
        step["environment"] = {"environment_type": "localproc-env"}  # on this machine, not in the image
    YAML().dump(steps, folder / "specs/steps.yml")
    run(of_reana / "python", "-c", RECAST, cwd=folder)
    assert (folder / "work/select/kept.txt").read_text().startswith(KEPT)
    assert (folder / "work/count/n.txt").read_text() == "10\nplot\n"


def test_cwltool_runs_the_workflow(cwltool: Path, tmp_path: Path) -> None:
    """From data that is here, with values of a run, and a step that waits without reading."""
    made = plan(tmp_path)
    files = {name: tuple(ExportFile(path=one.path) for one in found) for name, found in made.data.items()}
    folder = written(cwl(plan(tmp_path, data=files)).files, tmp_path)
    run(cwltool, "--strict", "--validate", "workflow.cwl", cwd=folder)
    shown = run(cwltool, "--no-container", "--outdir", "out", "workflow.cwl", "inputs.yml", cwd=folder)
    assert set(json.loads(shown)) == {"generate.numbers", "select.kept", "select.plots", "count.n"}
    assert (folder / "out/kept.txt").read_text().startswith(KEPT)
    assert (folder / "out/n.txt").read_text() == "10\nplot\n"
    assert (folder / "out/plots/deep/one").is_file()


def test_snakemake_runs_the_snakefile(tmp_path: Path) -> None:
    folder = written(snakemake(plan(tmp_path)).files, tmp_path)
    command = (sys.executable, "-m", "snakemake", "--cores", "2", "--workflow-profile", "none")
    run(*command, "--config", "label=it's {x}", cwd=folder)
    assert (folder / "kept.txt").read_text().startswith(KEPT.replace(LABEL, "it's {x}"))
    assert (folder / "n.txt").read_text() == "10\nplot\n"


ADS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import htcondor
(ad,) = htcondor.Submit(sys.stdin.read()).jobs(1)
print(json.dumps({key: ad.eval(key) for key in ad if isinstance(ad.eval(key), (str, int, float, bool))}))
"""


@pytest.fixture
def bindings() -> Iterator[None]:
    """The code of condor_submit."""
    from importlib.util import find_spec

    if find_spec("htcondor") is None:
        missing("the Python package htcondor")
    yield


def test_htcondor_understands_the_files(bindings: None, tmp_path: Path) -> None:
    folder = written(htcondor(plan(tmp_path)).files, tmp_path)
    dag = (folder / "analysis.dag").read_text()
    for name in re.findall(r"JOB \w+ (\S+)", dag):
        done = subprocess.run(
            [sys.executable, "-c", ADS],
            input=(folder / name).read_text(),
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={"CONDOR_CONFIG": "/dev/null", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        ad = json.loads(done.stdout)
        assert (ad["JobUniverse"], ad["WantContainer"]) == (5, True)
        assert ad["ContainerImage"] == f"docker://{IMAGE}"
        assert ad["PreserveRelativePaths"] is True
        if name == "select.sub":
            assert ad["TransferInput"].replace(", ", ",").split(",") == [
                "gen/numbers.txt",
                "afenv-data/events/events.txt",
                "afenv-data/many/a.txt",
                "afenv-data/many/deep/b.txt",
            ]
            assert ad["TransferOutput"].replace(", ", ",") == "kept.txt,plots"
            assert words(ad["Arguments"]) == [LABEL, "true"]
        if name == "generate.sub":
            assert (ad["RequestCpus"], ad["RequestMemory"], ad["AllowedJobDuration"]) == (2, 287, 600)
