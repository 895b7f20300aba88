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
    """A folder with a wheel of this checkout, which pip takes for afenv; the rest comes from the index."""
    place = folder / "wheels"
    build = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "-o", str(place), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = place.glob("afenv-*.whl")
    (folder / "pip").mkdir()
    (folder / "pip").chmod(0o777)
    (folder / "pins.txt").write_text(f"afenv @ file:///wheels/{wheel.name}\n")
    return place


@pytest.fixture
def checkout(folder: Path) -> Iterator[Path]:
    """A repository with a manifest, its lock and a public key, committed; the private key is beside it."""
    place = folder / "checkout"
    place.mkdir()
    (place / "afenv.yaml").write_text(PROJECT)
    (place / "run.sh").write_text("echo hello\n")

    def git(*arguments: str) -> None:
        options = ("-c", "user.name=CI", "-c", "user.email=ci@example.org")
        subprocess.run(["git", *options, *arguments], cwd=place, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    os.environ["AFENV_KEY_PASSWORD"] = "secret"
    assert main(["-C", str(place), "-q", "key", "generate", "signing.key"]) == 0
    del os.environ["AFENV_KEY_PASSWORD"]
    (place / "signing.key").rename(place.with_suffix(".key"))
    git("add", "afenv.yaml", "run.sh", "signing.pub")
    git("commit", "-q", "-m", "Begin")
    assert main(["-C", str(place), "-q", "lock"]) == 0
    git("add", "afenv.lock")
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
        "PIP_CONSTRAINT": "/pins.txt",
        "PIP_CACHE_DIR": "/pip",  # what the index gives is asked for once
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
        "PATH": "/home/analyst/.local/bin:/usr/local/bin:/usr/bin:/bin",
        **more,
    }
    command = [docker, "run", "--rm", "--network=host", "-i", "-w", "/checkout"]
    command += ["-v", f"{checkout}:/checkout", "-v", f"{wheels}:/wheels:ro"]
    command += ["-v", f"{wheels.parent}/pip:/pip"]
    command += ["-v", f"{wheels.parent}/pins.txt:/pins.txt:ro", "-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    for name, value in variables.items():
        command += ["-e", f"{name}={value}"]
    return subprocess.run(
        [*command, runner, "/bin/sh", "-e"], input=script, capture_output=True, text=True, check=False
    )


def test_they_run_in_a_clean_container(
    docker: str,
    runner: str,
    wheels: Path,
    checkout: Path,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, other = FILES
    assert commands(path) == commands(other), "both files run the same, so one run shows both"
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
    (again,) = json.loads((checkout / "image.json").read_text())
    assert again["image_id"] == built["image_id"]
    assert built["path"] and again["path"] is None, "the second took the layers from the remote cache"
    assert sorted((tmp_path / "registry").rglob("data")) == stored, "nothing was pushed twice"
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "empty"))
    # another machine's checkout belongs to its user, and this one to the container's
    subprocess.run(["chown", "-R", f"{os.getuid()}:{os.getgid()}", str(checkout)], check=True)
    capsys.readouterr()
    cache = ("--cache-from", f"{registry}/group/sample/cache", "--cache-trust", "signing.pub")
    target = ("--push", f"{registry}/elsewhere/sample:1")
    assert main(["-C", str(checkout), "-q", "build", "--locked", "--json", *target, *cache]) == 0
    subprocess.run(["chown", "-R", "1000:1000", str(checkout)], check=True)
    (mounted,) = json.loads(capsys.readouterr().out)
    assert mounted["manifest_digest"] == built["manifest_digest"] and mounted["path"] is None
    files = [one for one in (tmp_path / "empty").rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in files) < 2_000_000, "no layer and no package came here"
    with (checkout / "afenv.yaml").open("a") as file:
        file.write("    variables: {A: b}\n")
    install, check, build, _ = commands(path)
    third = in_container(*where, f"{install} >&2\n{check} || echo $?\n{build} || echo $?")
    assert third.stdout.split() == ["1", "1"], third.stdout + third.stderr
    assert "afenv.lock: error E021" in third.stderr
    assert json.loads(third.stderr.splitlines()[-1])["errors"][0]["code"] == "E021"
