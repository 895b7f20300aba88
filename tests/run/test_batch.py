"""Submit files, read back by the rules of their formats; the real programs do that in the services tests."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run.apptainer import Apptainer
from afenv.run.batch import Resources, htcondor_file, parse_resources, slurm_script
from afenv.run.request import Mount, RunRequest

IMAGE = Path("/data/my images/x.sif")
CONFIG = {"Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]}
APPTAINER = Apptainer(command=("apptainer",))


@pytest.fixture
def request_(tmp_path):
    return RunRequest(
        command=("python3", "fit.py", "it's $HOME"), workdir=tmp_path, uid=1, gid=1, env={"SEED": "a b"}
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None, None), Resources()),
        ((4, "4G", 1, "90"), Resources(cpus=4, memory=4096, gpus=1, time=5400)),
        ((1, "500M", None, "1-02:03:04"), Resources(cpus=1, memory=500, time=93784)),
        ((None, "1TiB", None, "00:10:00"), Resources(memory=1 << 20, time=600)),
    ],
)
def test_resources(given, expected):
    assert parse_resources(*given) == expected


@pytest.mark.parametrize(
    "given",
    [(0, None, None, None), (None, "4", None, None), (None, "0G", None, None), (None, None, -1, None)]
    + [(None, None, None, text) for text in ("soon", "0", "1:2", "1:2:3", "-00:01:00")],
)
def test_resources_that_are_not_understood(given):
    with pytest.raises(AfenvError) as caught:
        parse_resources(*given)
    assert caught.value.code == "E030"


def test_a_slurm_script(request_):
    resources = Resources(cpus=4, memory=4096, gpus=1, time=93784)
    text = slurm_script("dimuon", IMAGE, CONFIG, replace(request_, gpu=True), resources, APPTAINER)
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=dimuon",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=4096M",
        "#SBATCH --gpus=1",
        "#SBATCH --time=26:03:04",
    ]
    assert "export APPTAINERENV_SEED='a b'" in lines
    words = shlex.split(lines[-1])
    assert words[:4] == ["srun", "apptainer", "--silent", "exec"]
    assert "--nv" in words
    assert words[words.index("--workdir") + 1] == "$scratch"
    assert words[words.index(str(IMAGE)) + 1 :] == ["python3", "fit.py", "it's $HOME"]


def test_a_slurm_script_asks_for_nothing_by_itself(request_):
    assert "--mem" not in slurm_script("x", IMAGE, CONFIG, request_, Resources(), APPTAINER)


def test_an_htcondor_file(request_):
    text = htcondor_file("dimuon", IMAGE, CONFIG, request_, Resources(cpus=2, memory=500, time=60))
    settings = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    assert settings["universe"] == "container"
    assert settings["container_image"] == str(IMAGE)
    assert settings["executable"] == "/bin/sh"
    assert settings["arguments"] == '''"-c 'exec ""$(DOLLAR)@""' sh python3 fit.py 'it''s $(DOLLAR)HOME'"'''
    assert settings["environment"] == '''"'SEED=a b'"'''
    assert settings["initialdir"] == str(request_.workdir)
    assert (settings["request_cpus"], settings["request_memory"]) == ("2", "500M")
    assert settings["allowed_job_duration"] == "60"
    assert "request_gpus" not in settings
    assert text.endswith("queue\n")


def test_what_htcondor_cannot_do_is_said(request_):
    for bad in (
        replace(request_, command=("a\nb",)),
        replace(request_, network=False),
        replace(request_, mounts=(Mount(Path("/data"), "/data"),)),
    ):
        with pytest.raises(AfenvError) as caught:
            htcondor_file("x", IMAGE, CONFIG, bad, Resources())
        assert caught.value.code == "E030"


def test_a_command_with_a_path_is_the_executable(request_):
    text = htcondor_file("x", IMAGE, CONFIG, replace(request_, command=("/bin/true",)), Resources())
    assert "executable = /bin/true\n" in text
    assert "arguments" not in text
