"""The command for spawners of processes and batch jobs: its words, and what its script hands over."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run.apptainer import Apptainer
from afenv_registry.jupyterhub import apptainer_command, shell_line

SIF = "/images/hub 1.0.sif"
# stands for Apptainer: shows its words and variables, then does as it is told
FAKE = """#!/bin/sh
printf '%s\\n' "$@"
echo --
env | grep '^APPTAINERENV_\\|_PROXY\\|_proxy' | sort
case "$AFENV_TEST" in
  wait) echo ready; trap 'echo ended; kill $!; exit 5' TERM; sleep 60 & wait $!;;
  exit) exit 7;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Apptainer:
    """A runtime that is a script."""
    path = tmp_path / "apptainer"
    path.write_text(FAKE)
    path.chmod(0o755)
    return Apptainer(command=(str(path),))


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    home, scratch = tmp_path / "home of alice", tmp_path / "tmp"
    home.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "USER": "alice", "TMPDIR": str(scratch)}
    return given | {"https_proxy": "http://proxy:3128", "AFENV_TEST": "", **more}


def run(
    words: list[str], variables: dict[str, str], *arguments: str, status: int = 0
) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [*words, *arguments], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    said, _, handed = (
        done.stdout.partition("--\n--\n") if "--\n--\n" in done.stdout else done.stdout.partition("\n--\n")
    )
    return said.splitlines(), handed.splitlines()


def test_the_server_runs_in_the_image_with_the_home_folder(fake: Apptainer, tmp_path: Path) -> None:
    words = apptainer_command(SIF, gpu=True, cvmfs=True, binds=["/data:/mnt:ro"], runtime=fake)
    assert words[:2] == ["/bin/sh", "-c"] and "\n" not in words[2]
    variables = environment(tmp_path)
    said, _ = run(words, variables, "--ip=127.0.0.1", "a b")
    home = variables["HOME"]
    at = said.index(SIF)
    assert said[at:] == [SIF, "jupyterhub-singleuser", "--ip=127.0.0.1", "a b"]
    assert {"--nv", "--cleanenv", "--contain", "--pid"} <= set(said[:at])
    assert said[said.index("--home") + 1] == said[said.index("--pwd") + 1] == home
    mounts = [said[index + 1] for index, word in enumerate(said[:at]) if word == "--mount"]
    assert mounts == [
        f"type=bind,source={home},destination={home}",
        "type=bind,source=/data,destination=/mnt,ro",
        "type=bind,source=/cvmfs,destination=/cvmfs,ro",
    ]
    assert "--nv" not in run(apptainer_command(SIF, runtime=fake), variables)[0]


def test_variables_of_the_hub_go_in_and_those_of_the_host_do_not(fake: Apptainer, tmp_path: Path) -> None:
    scopes = '["access:servers!server=alice/", "$x `y` \\\\z"]'
    variables = environment(
        tmp_path,
        JUPYTERHUB_API_TOKEN="secret",
        JUPYTERHUB_OAUTH_SCOPES=scopes,
        MEM_LIMIT="1073741824",
        LD_LIBRARY_PATH="/host",
        PYTHONPATH="/host",
    )
    said, handed = run(apptainer_command(SIF, variables={"A": "it's $5"}, runtime=fake), variables)
    assert not [word for word in said if "secret" in word], "a token is a word of the command"
    values = dict(line.partition("=")[::2] for line in handed)
    assert values == {
        "APPTAINERENV_A": "it's \\$5",
        "APPTAINERENV_JUPYTERHUB_API_TOKEN": "secret",
        "APPTAINERENV_JUPYTERHUB_OAUTH_SCOPES": scopes.replace("\\", "\\\\")
        .replace("$", "\\$")
        .replace("`", "\\`"),
        "APPTAINERENV_LOGNAME": "alice",
        "APPTAINERENV_MEM_LIMIT": "1073741824",
        "APPTAINERENV_USER": "alice",
    }


def test_the_server_s_status_comes_back_and_nothing_is_left(fake: Apptainer, tmp_path: Path) -> None:
    run(apptainer_command(SIF, runtime=fake), environment(tmp_path, AFENV_TEST="exit"), status=7)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_spawner_that_ends_the_shell_ends_the_server(
    fake: Apptainer, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        apptainer_command(SIF, runtime=fake),
        env=environment(tmp_path, AFENV_TEST="wait"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    time.sleep(0.2)  # its trap is the next thing that it does
    process.send_signal(number)
    rest = process.communicate(timeout=30)[0]
    assert rest == "ended\n" and process.returncode == 5
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("home", ["", "relative", "/a:b", "/a,b", '/a"b'])
def test_a_home_folder_that_cannot_be_shown(fake: Apptainer, tmp_path: Path, home: str) -> None:
    words = apptainer_command(SIF, runtime=fake)
    done = subprocess.run(
        words, env=environment(tmp_path, HOME=home), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1 and "home folder" in done.stderr and done.stdout == ""


def test_in_the_script_of_a_batch_job(fake: Apptainer, tmp_path: Path) -> None:
    words = apptainer_command(SIF, command=("batchspawner-singleuser",), runtime=fake)
    script = f"set -euo pipefail\n{shell_line(words)} jupyterhub-singleuser --ip=0.0.0.0\n"
    done = subprocess.run(
        ["bash"],
        input=script,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.splitlines()
    at = said.index("batchspawner-singleuser")
    assert said[at : at + 3] == ["batchspawner-singleuser", "jupyterhub-singleuser", "--ip=0.0.0.0"]


def test_images_on_cvmfs_and_in_registries() -> None:
    for image in ("/cvmfs/unpacked.example.org/x", "docker://registry.example.org/x@sha256:" + "a" * 64):
        assert image in apptainer_command(image)[2]


@pytest.mark.parametrize("image", ["hub.sif", "", "../hub.sif", "/a\nb", "registry.example.org/x"])
def test_bad_images(image: str) -> None:
    with pytest.raises(AfenvError) as raised:
        apptainer_command(image)
    assert raised.value.code == "E632"


@pytest.mark.parametrize("bind", ["data", "", "/data/../x", ":/x"])
def test_bad_binds(bind: str) -> None:
    with pytest.raises(AfenvError) as raised:
        apptainer_command(SIF, binds=[bind])
    assert raised.value.code == "E632"
