"""Submit files, read by the batch systems' own code: Slurm runs them, HTCondor makes job descriptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from afenv.oci.model import Image
from afenv.run.apptainer import for_jobs
from afenv.run.batch import Resources, htcondor_file, slurm_script
from afenv.run.container import request_of
from afenv.run.prepared import sif_of
from afenv.store.content import ContentStore
from tests.services.conftest import missing
from tests.services.slurm_parts import running_slurm

pytestmark = pytest.mark.services

NASTY = 'it\'s "a" $HOME $(id) `id` \\ %s → é'
RESOURCES = Resources(cpus=2, memory=300, time=600)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cluster of this host alone; the variables that its commands need."""
    with running_slurm(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


@pytest.fixture
def sif(runnable: Image, store: ContentStore) -> Path:
    """The image as a SIF."""
    return sif_of(runnable, store, quiet=True)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a name that has to be quoted."""
    folder = tmp_path / "it's a $HOME"
    folder.mkdir()
    return folder


def config(image: Image) -> dict[str, Any]:
    """What the image says of running it."""
    found: dict[str, Any] = image.configuration()["config"]
    return found


def submit(slurm: dict[str, str], script: str, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Hand a script to the real sbatch."""
    return subprocess.run(
        ["sbatch", *options],
        input=script,
        cwd=work,
        env=slurm,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_slurm_accepts_the_script(slurm, runnable, sif, work):
    request = request_of(["variable", "SEED"], workdir=work, env={"SEED": NASTY})
    script = slurm_script("sample", sif, config(runnable), request, RESOURCES, for_jobs())
    tried = submit(slurm, script, work, "--test-only")
    assert tried.returncode == 0, tried.stderr
    assert "using 2 processors" in tried.stderr
    too_much = slurm_script(
        "sample", sif, config(runnable), request, replace(RESOURCES, memory=1 << 30), for_jobs()
    )
    assert submit(slurm, too_much, work, "--test-only").returncode != 0


@pytest.mark.parametrize(
    ("command", "status", "expected"),
    [
        (("variable", "SEED"), 0, NASTY + "\n"),
        (("exit", "7"), 7, None),
        (("write", "result.txt"), 0, ""),
    ],
)
def test_slurm_runs_the_command(slurm, runnable, sif, work, command, status, expected):
    request = request_of(command, workdir=work, env={"SEED": NASTY})
    script = slurm_script("sample", sif, config(runnable), request, RESOURCES, for_jobs())
    done = submit(slurm, script, work, "--wait", "--output=job.out")
    said = (work / "job.out").read_text()
    assert done.returncode == status, said + done.stderr
    if expected is not None:
        assert said == expected
    if command[0] == "write":
        assert (work / "result.txt").read_text() == "written\n"


ADS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import htcondor
submit = htcondor.Submit(sys.stdin.read())
(ad,) = submit.jobs(1)
print(json.dumps({key: ad.eval(key) for key in ad if isinstance(ad.eval(key), (str, int, float, bool))}))
"""


def job(description: str) -> dict[str, Any]:
    """The job that HTCondor makes of a submit file, by the code of ``condor_submit``."""
    try:
        found = version("htcondor")
    except ModuleNotFoundError:
        found = ""
    if not found.startswith("24."):
        missing("the Python package htcondor, version 24,")
    done = subprocess.run(
        [sys.executable, "-c", ADS],
        input=description,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CONDOR_CONFIG": "/dev/null"},
    )
    assert done.returncode == 0, done.stderr
    ad: dict[str, Any] = json.loads(done.stdout)
    return ad


def words(text: str) -> list[str]:
    """Words as HTCondor keeps them: parts between single quotes hold spaces, and two quotes are one."""
    found, word, inside, started = [], "", False, False
    position = 0
    while position < len(text):
        letter = text[position]
        if letter == "'":
            if inside and text[position + 1 : position + 2] == "'":
                word, position = word + "'", position + 1
            else:
                inside, started = not inside, True
        elif letter == " " and not inside:
            if word or started:
                found.append(word)
            word, started = "", False
        else:
            word += letter
        position += 1
    return [*found, word] if word or started else found


def test_htcondor_understands_the_file(runnable, work):
    command = ["python3", "fit.py", NASTY, "two words", ""]
    request = request_of(command, workdir=work, env={"SEED": NASTY, "PLAIN": "1"})
    image = work.parent / "image.sif"
    image.write_bytes(b"")
    resources = replace(RESOURCES, gpus=1)
    made = {**config(runnable), "Entrypoint": []}
    ad = job(htcondor_file("sample", image, made, request, resources))
    assert (ad["JobUniverse"], ad["WantContainer"], ad["WantSIF"]) == (5, True, True)
    assert ad["ContainerImageFullPath" if "ContainerImageFullPath" in ad else "ContainerImage"] == str(image)
    assert (ad["Cmd"], ad["TransferExecutable"]) == ("/bin/sh", False)
    assert words(ad["Arguments"]) == ["-c", 'exec "$@"', "sh", *command]
    assert words(ad["Environment"]) == ["PLAIN=1", f"SEED={NASTY}"]
    assert ad["Iwd"] == str(work)
    assert (ad["RequestCpus"], ad["RequestMemory"], ad["RequestGPUs"]) == (2, 300, 1)
    assert ad["AllowedJobDuration"] == 600


def test_htcondor_gets_an_absolute_command_as_it_is(runnable, work):
    request = request_of(["exit", "3"], workdir=work)
    ad = job(htcondor_file("sample", work / "x.sif", config(runnable), request, Resources()))
    assert (ad["Cmd"], words(ad["Arguments"])) == ("/bin/program", ["exit", "3"])
