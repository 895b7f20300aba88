"""``afenv run`` and ``afenv shell`` from the manifest to the command line of a runtime."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from afenv.resolve import code_fingerprint
from afenv.run.apptainer import Apptainer
from afenv.workflow import build, receipt

DOCKER = r"""#!/bin/sh
case "$1" in
info) echo "20.10 [name=seccomp]" ;;
run) printf '%s\n' "$@" > "$LOG"; echo ran; exit 7 ;;
esac
"""


@pytest.fixture
def built(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The world, built, with a Docker that writes down what it is asked."""
    for module in (receipt, code_fingerprint):
        monkeypatch.setattr(module, "RACY", 0)
    docker = world.folder / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("AFENV_DOCKER", str(docker))
    monkeypatch.setenv("AFENV_RUNTIME", "docker")
    monkeypatch.setenv("LOG", str(world.folder / "log"))
    (image,) = world.afenv_json("build")
    world.image = image["image_id"].removeprefix("sha256:")
    return world


def shown(world: Any, *arguments: str) -> list[str]:
    """The command line that ``--dry-run`` prints."""
    status, out, err = world.afenv(*arguments)
    assert status == 0, err
    return shlex.split(out)


def after(words: list[str], option: str) -> list[str]:
    """The values of an option."""
    return [value for name, value in pairwise(words) if name == option]


def test_run_passes_the_exit_status_on(built):
    assert built.afenv("run", "--", "python3", "x.py")[0] == 7
    log = (built.folder / "log").read_text().splitlines()
    assert log[-3:] == [built.image, "python3", "x.py"]
    assert after(log, "--workdir") == [str(built.project)]
    words = shown(built, "shell", "--dry-run")
    assert after(words, "--entrypoint") == [""]
    assert words[-3:-1] == ["/bin/sh", "-c"]
    assert "bash" in words[-1]


def test_only_what_changed_is_built(built, monkeypatch):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(build, "build_project", never)
        assert shown(built, "run", "--dry-run", "--", "ls")[-2:] == [built.image, "ls"]
    for blob in (built.cache / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    assert shown(built, "run", "--dry-run", "--", "ls")[-2] == built.image
    built.write("src/more.py", "more = 1\n")
    words = shown(built, "run", "--allow-dirty", "--dry-run", "--", "ls")
    assert words[-1] == "ls"
    assert words[-2] != built.image


def commit(folder: Path) -> None:
    """Make a git repository of the folder."""
    import pygit2

    (folder / ".gitignore").write_text(".afenv/\n")
    repository = pygit2.init_repository(str(folder))
    repository.index.add_all()
    who = pygit2.Signature("test", "test@example.org", 1767225600, 0)
    repository.create_commit("HEAD", who, who, "Add", repository.index.write_tree(), [])
    repository.index.write()


def test_live_covers_the_code_of_the_last_commit(built):
    """An edit that is not committed is in the container, and neither refused nor built."""
    commit(built.project)
    (image,) = built.afenv_json("build")
    (code,) = built.lock()["code"]
    edited = built.project / "src"
    next(edited.glob("*.py")).write_text("edited = True\n")
    words = shown(built, "run", "--live", "--dry-run", "--", "ls")
    assert words[-2] == image["image_id"].removeprefix("sha256:")
    mounts = after(words, "--mount")
    assert f"type=bind,source={edited},target={code['into']}" in mounts
    assert not [mount for mount in mounts if "readonly" in mount]


def test_binds_variables_and_network(built, monkeypatch):
    monkeypatch.setenv("TAKEN", "from here")
    data = built.folder / "data"
    data.mkdir()
    words = shown(
        built,
        *("run", "--dry-run", "--bind", f"{data}:/data:ro", "--env", "A=b c", "--env", "TAKEN"),
        *("--no-network", "--", "ls"),
    )
    assert f"type=bind,source={data},target=/data,readonly=true" in after(words, "--mount")
    assert {"A=b c", "TAKEN=from here"} <= set(after(words, "--env"))
    assert after(words, "--network") == ["none"]


def test_errors(built, monkeypatch):
    gpu(built, monkeypatch)
    for arguments, code in (
        (("--runtime", "lxc"), "E030"),
        (("--bind", "relative:nowhere"), "E001"),
        (("--env", "1=2"), "E030"),
        (("-e", "other"), "E031"),
    ):
        status, _, err = built.afenv("run", *arguments, "--dry-run", "--", "ls")
        assert (status, code in err) == (2, True), err
    monkeypatch.setenv("AFENV_DOCKER", str(built.folder / "no-docker"))
    status, _, err = built.afenv("run", "--", "ls")
    assert (status, "E502" in err) == (3, True)


def gpu(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is needed, with and without a driver on the host."""
    from afenv.cli import command_run
    from afenv.documents.manifest import GpuSection

    load = command_run.load

    def with_gpu(project: Any) -> Any:
        from dataclasses import replace

        manifest = load(project)
        default = replace(manifest.environments["default"], gpu=GpuSection(cuda=">=12", optional=optional))
        return replace(manifest, environments={"default": default})

    monkeypatch.setattr(command_run, "load", with_gpu)
    monkeypatch.setattr("afenv.run.gpu.has_driver", lambda: present)
    monkeypatch.setattr("afenv.run.gpu.wants_gpu.__kwdefaults__", {"present": lambda: present})
    optional, present = False, True
    assert after(shown(built, "run", "--dry-run", "--", "ls"), "--gpus") == ["all"]
    assert not after(shown(built, "run", "--no-gpu", "--dry-run", "--", "ls"), "--gpus")
    present = False
    status, _, err = built.afenv("run", "--dry-run", "--", "ls")
    assert (status, "E505" in err) == (3, True)
    optional = True
    status, out, err = built.afenv("run", "--dry-run", "--", "ls")
    assert (status, "--gpus" in out, "warning" in err) == (0, False, True)


class _Sif:
    def build(self, image: Any, store: Any, options: Any) -> None:
        options["path"].write_text(image.image_id)


def test_submit_files(built, monkeypatch):
    monkeypatch.setattr("afenv.oci.builders.find_builder", lambda _: _Sif())
    monkeypatch.setattr("afenv.run.apptainer.for_jobs", lambda: Apptainer(command=("apptainer",)))
    for system in ("slurm", "htcondor"):
        submit(built, system)


def submit(built: Any, system: str) -> None:
    asked = ("--cpus", "2", "--memory", "1G", "--gpus", "1", "--time", "30")
    status, out, err = built.afenv("run", "--batch", system, *asked, "--", "python3", "x.py")
    assert status == 0, err
    sif = built.project / ".afenv" / "default.sif"
    assert sif.read_text() == f"sha256:{built.image}"
    assert str(sif) in out
    assert "x.py" in out
    assert {"slurm": "#SBATCH --mem=1024M", "htcondor": "request_memory = 1024M"}[system] in out
    assert ("--nv" in out) == (system == "slurm")
    assert built.afenv("run", "--batch", system, "-o", "job.sub", "--", "python3", "x.py")[0] == 0
    assert "x.py" in (built.project / "job.sub").read_text()
    assert built.afenv("run", "--batch", system, "-o", "no/job.sub", "--", "x")[0] == 3
    assert built.afenv("run", "--batch", system, "--memory", "much", "--", "x")[0] == 2
    for words in (("-o", "job.sub"), ("--cpus", "2"), ("--memory", "1G"), ("--image", "x", "--time", "3")):
        status, _, err = built.afenv("run", *words, "--", "x")
        assert status == 2 and "it goes with --batch" in err
    status, _, err = built.afenv("run", "--batch", system, "--vm", "--", "x")
    assert (status, "E030" in err and "qemu" in err) == (2, True)
