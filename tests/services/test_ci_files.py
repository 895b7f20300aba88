"""The commands of the CI files, as they stand there, in a clean container that runs as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from afenv.cli import main

pytestmark = [pytest.mark.services, pytest.mark.network]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "registry" / "deploy"
FILES = [DEPLOY / "github-actions" / "image.yml", DEPLOY / "gitlab-ci" / "image.gitlab-ci.yml"]
RUNNER = """\
afenv: 1
name: afenv-ci-runner
version: "1"
environments:
  default:
    base: {debian: bookworm, packages: [python3, python3-pip, git, ca-certificates]}
    bytecode: false
"""
PROJECT = """\
afenv: 1
name: ci-sample
version: "1"
code:
  - {path: .}
environments:
  default:
    base: {debian: bookworm}
"""


def commands(path: Path) -> list[str]:
    """What a run on the main branch executes, in order."""
    jobs = YAML(typ="safe").load(path.read_text())
    if "jobs" in jobs:
        steps = jobs["jobs"]["image"]["steps"]
        return [step["run"] for step in steps if "run" in step and "==" not in step.get("if", "")]
    return [*jobs[".afenv"]["before_script"], *jobs["image"]["script"]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the container's user can read."""
    path = Path(tempfile.mkdtemp(prefix="afenv-ci-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def runner(docker: str, folder: Path) -> Iterator[str]:
    """An image with Python and git, made by afenv, as CI systems offer them."""
    project = folder / "runner"
    project.mkdir()
    (project / "afenv.yaml").write_text(RUNNER)
    previous = os.environ.get("AFENV_DOCKER")
    os.environ["AFENV_DOCKER"] = docker
    try:
        assert main(["-C", str(project), "-q", "build", "--target", "docker"]) == 0
    finally:
        if previous is None:
            del os.environ["AFENV_DOCKER"]
        else:
            os.environ["AFENV_DOCKER"] = previous
    yield "afenv-ci-runner:1"
    subprocess.run([docker, "image", "rm", "-f", "afenv-ci-runner:1"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def wheels(folder: Path) -> Path:
    """A wheel of this checkout, and those that it needs, for the container's Python."""
    place = folder / "wheels"
    build = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "-o", str(place), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = place.glob("afenv-*.whl")
    download = [sys.executable, "-m", "uv", "pip", "compile", "-q", "--python-version", "3.11", "-"]
    pinned = subprocess.run(download, input=str(wheel), capture_output=True, text=True, check=True).stdout
    (folder / "pins.txt").write_text(pinned)
    return place


@pytest.fixture
def checkout(folder: Path, request: Any) -> Iterator[Path]:
    """A repository with a manifest, its lock and a public key, committed; the private key is beside it."""
    place = folder / f"checkout-{request.node.name.partition('[')[2].strip(']')}"
    place.mkdir()
    (place / "afenv.yaml").write_text(PROJECT)
    (place / "run.sh").write_text("echo hello\n")

    def git(*arguments: str) -> None:
        options = ("-c", "user.name=CI", "-c", "user.email=ci@example.org")
        subprocess.run(["git", *options, *arguments], cwd=place, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", "afenv.yaml", "run.sh")
    git("commit", "-q", "-m", "Begin")
    os.environ["AFENV_KEY_PASSWORD"] = "secret"
    assert main(["-C", str(place), "-q", "key", "generate", "signing.key"]) == 0
    del os.environ["AFENV_KEY_PASSWORD"]
    (place / "signing.key").rename(place.with_suffix(".key"))
    assert main(["-C", str(place), "-q", "lock"]) == 0
    git("add", "afenv.lock", "signing.pub")
    git("commit", "-q", "-m", "Lock")
    subprocess.run(["chown", "-R", "1000:1000", str(place)], check=True)
    yield place


def in_container(
    docker: str, runner: str, wheels: Path, checkout: Path, registry: str, script: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a CI system does, with nothing of this machine but the checkout and the wheels."""
    variables = {
        "IMAGE": f"{registry}/group/sample",
        "TAG": "abc",
        "ENVIRONMENT": "default",
        "AFENV_SIGNING_KEY": checkout.with_suffix(".key").read_text(),
        "AFENV_KEY_PASSWORD": "secret",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CONSTRAINT": "/pins.txt",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "PATH": "/home/analyst/.local/bin:/usr/local/bin:/usr/bin:/bin",
        **more,
    }
    command = [docker, "run", "--rm", "--network=host", "-i", "-w", "/checkout"]
    command += ["-v", f"{checkout}:/checkout", "-v", f"{wheels}:/wheels:ro"]
    command += ["-v", f"{wheels.parent}/pins.txt:/pins.txt:ro", "-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    for name, value in variables.items():
        command += ["-e", f"{name}={value}"]
    return subprocess.run(
        [*command, runner, "/bin/sh", "-e"], input=script, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_they_run_in_a_clean_container(
    path: Path, docker: str, runner: str, wheels: Path, checkout: Path, registry: str, tmp_path: Path
) -> None:
    script = "\n".join(commands(path))
    where = (docker, runner, wheels, checkout, registry)
    first = in_container(*where, script)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "the manifest is signed by signing" in first.stdout
    (built,) = json.loads((checkout / "image.json").read_text())
    assert built["pushed"] == f"{registry}/group/sample:abc"
    (checkout / "image.json").unlink()
    stored = sorted((tmp_path / "registry").rglob("data"))
    second = in_container(*where, script)
    assert second.returncode == 0, second.stdout + second.stderr
    assert json.loads((checkout / "image.json").read_text())[0]["image_id"] == built["image_id"]
    assert sorted((tmp_path / "registry").rglob("data")) == stored, "nothing was pushed twice"
    with (checkout / "afenv.yaml").open("a") as file:
        file.write("    variables: {A: b}\n")
    third = in_container(*where, script)
    assert third.returncode == 1 and "E021" in third.stderr, third.stdout + third.stderr
    (build,) = [command for command in commands(path) if command.startswith("afenv build")]
    fourth = in_container(*where, f"{commands(path)[0]} >&2\n{build}")
    assert fourth.returncode == 1
    assert json.loads(fourth.stderr.splitlines()[-1])["errors"][0]["code"] == "E021"
