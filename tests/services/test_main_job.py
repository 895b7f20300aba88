"""The main job with real registries and runtimes: manifest, lock, the same image everywhere, a number."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lockfile import read_lock
from afenv.store.content import ContentStore
from afenv.workflow.demo import copy_example

pytestmark = [pytest.mark.network, pytest.mark.services]

ROOT = Path(__file__).parents[2]
NOBODY = 65534
NUMBER = "import uproot, numpy; print('uproot', uproot.__version__, int(numpy.arange(10).sum()))"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How one build is different from the others."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    user: int | None = None
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"


CONDITIONS = [
    Condition(name="plain"),
    Condition(
        name="another place, with spaces é",
        variables={"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "1", "AFENV_JOBS": "1"},
        umask=0o077,
    ),
    Condition(
        name="another-user",
        variables={"TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "7", "AFENV_JOBS": "4"},
        umask=0o002,
        user=NOBODY,
    ),
]


def interpreters() -> dict[str, Path]:
    """The Pythons of this machine that afenv supports, by version."""
    found: dict[str, Path] = {}
    for minor in (11, 12, 13, 14):
        places = [
            Path(f"/usr/bin/python3.{minor}"),
            Path(f"/usr/local/bin/python3.{minor}"),
            *sorted(Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python")),
        ]
        place = next((place for place in places if place.exists()), None)
        if place is not None:
            found[f"3.{minor}"] = place
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user can read, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="afenv-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def installed(folder: Path) -> dict[str, Path]:
    """afenv's command for each Python of this machine, installed from one wheel."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "-q", "--wheel", "-o", folder / "wheel", ROOT], check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    commands = {}
    for version, interpreter in interpreters().items():
        place = folder / f"python{version}"
        subprocess.run([*uv, "venv", "-q", "-p", interpreter, place], check=True)
        subprocess.run(
            [*uv, "pip", "install", "-q", "--link-mode", "copy", "-p", place / "bin" / "python", wheel],
            check=True,
        )
        commands[version] = place / "bin" / "afenv"
    assert len(commands) >= 1
    return commands


@pytest.fixture(scope="module")
def example(folder: Path, installed: dict[str, Path]) -> Iterator[Path]:
    """The example, locked and built once, so that everything is downloaded."""
    place = copy_example(folder / "example")
    environment = {**os.environ, "AFENV_CACHE_DIR": str(folder / "store")}
    command = [installed["3.11"], "-q", "-C", place, "build"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    yield place
    for engine in ("docker", "podman"):  # what the tests loaded
        known = os.environ.get(f"AFENV_{engine.upper()}") or shutil.which(engine, path="/usr/bin:/bin")
        if known:
            subprocess.run([*shlex.split(known), "rmi", "-f", done.stdout.strip()], capture_output=True)


def downloads(example: Path, source: Path, target: Path) -> None:
    """A new store at ``target`` that has the downloads of the lock, and nothing else."""
    (environment,) = read_lock(example / "afenv.lock").environments.values()
    for package in (*environment.debs, *environment.wheels):
        place = ContentStore(target).path(package.file.digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ContentStore(source).path(package.file.digest), place)
        place.chmod(0o444)


def own(folder: Path, user: int) -> None:
    """Give a folder and all in it to a user."""
    os.chown(folder, user, user)
    for path in folder.rglob("*"):
        os.chown(path, user, user, follow_symlinks=False)


def build(folder: Path, example: Path, command: Path, condition: Condition) -> dict[str, Any]:
    """Build the example under a condition, offline and with an empty cache but for the downloads."""
    place = folder / condition.name
    place.mkdir()
    shutil.copytree(example, place / "analysis", ignore=shutil.ignore_patterns(".afenv"))
    downloads(example, folder / "store", place / "store")
    if condition.user is not None:
        own(place, condition.user)
    done = subprocess.run(
        [command, "-q", "--offline", "-C", place / "analysis", "build", "--locked", "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "AFENV_CACHE_DIR": str(place / "store"),
            **condition.variables,
        },
        user=condition.user,
        group=condition.user,
        extra_groups=[] if condition.user is not None else None,
        umask=condition.umask,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (built,) = json.loads(done.stdout)
    result: dict[str, Any] = built
    del result["path"]
    return result


def test_one_lock_gives_one_image_under_all_conditions(
    folder: Path, example: Path, installed: dict[str, Path]
) -> None:
    conditions = [
        *(condition for condition in CONDITIONS if condition.user is None or os.geteuid() == 0),
        *(Condition(name=f"with-{version}", python=version) for version in installed if version != "3.11"),
    ]
    results = {}
    for condition in conditions:
        # another user needs an interpreter outside of root's home: the oldest is Debian's own
        version = condition.python if condition.user is None else "3.11"
        results[condition.name] = build(folder, example, installed[version], condition)
        shutil.rmtree(folder / condition.name)
    first = results["plain"]
    assert first["image_id"].startswith("sha256:")
    for name, result in results.items():
        assert result["image_id"] == first["image_id"], name
        differing = [layer["source"] for layer in result["layers"] if layer not in first["layers"]]
        assert (name, differing) == (name, [])
        assert result == first, name


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.usefixtures("engines")
def test_it_runs(
    engine: str, folder: Path, example: Path, installed: dict[str, Path], tmp_path: Path
) -> None:
    environment = {**os.environ, "AFENV_CACHE_DIR": str(folder / "store")}
    command = [installed["3.11"], "-q", "-C", example, "run", "--runtime", engine, "--locked", "--"]
    done = subprocess.run(
        [*command, "python3", "-c", NUMBER], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    name, version, number = done.stdout.split()
    assert (name, number) == ("uproot", "45")
    (locked,) = read_lock(example / "afenv.lock").environments.values()
    assert version == next(wheel.version for wheel in locked.wheels if wheel.name == "uproot")


@pytest.mark.usefixtures("engines")
def test_the_analysis_gives_its_numbers(folder: Path, example: Path, installed: dict[str, Path]) -> None:
    environment = {**os.environ, "AFENV_CACHE_DIR": str(folder / "store")}
    command = [
        installed["3.11"],
        "-q",
        "-C",
        example,
        "run",
        "--",
        "python3",
        "dimuon.py",
        "--output",
        "results",
    ]
    subprocess.run(command, env=environment, check=True)
    fitted = json.loads((example / "results" / "fit.json").read_text())["parameters"]["mass"]
    assert abs(fitted["value"] - 91.1876) < 2 * fitted["error"]
    assert (example / "results" / "mass.png").stat().st_uid == os.getuid()


def test_docker_runs_it_without_afenv(
    docker: str, folder: Path, example: Path, installed: dict[str, Path]
) -> None:
    """As the image's own user, with nothing mounted."""
    environment = {**os.environ, "AFENV_CACHE_DIR": str(folder / "store"), "AFENV_DOCKER": docker}
    done = subprocess.run(
        [installed["3.11"], "-q", "-C", example, "build", "--locked", "--target", "docker", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    (built,) = json.loads(done.stdout)
    reference = built["path"]
    script = f"{NUMBER}; import getpass; print(getpass.getuser())"
    try:
        done = subprocess.run(
            [docker, "run", "--rm", "--network", "none", reference, "python3", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        subprocess.run([docker, "rmi", "-f", reference], stdout=subprocess.DEVNULL, check=True)
    assert done.stdout.split()[-2:] == ["45", "analyst"]
