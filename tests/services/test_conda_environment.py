"""Conda packages from manifest to a running image: solved, locked, built, and run by every engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.specs import specs_folder

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "conda-gpu"
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
PREFIX = "opt/conda"
RUNS = 50

TOYS = """\
afenv: 1
name: toys
environments:
  default:
    base: {debian: bookworm, packages: [bash]}
    conda:
      channels: [conda-forge]
      dependencies: ["python=3.11", uproot, hist, toyenv, toynoarch, toygpu]
"""

TINY = """\
afenv: 1
name: tiny
environments:
  default:
    base: {debian: bookworm}
    conda: {channels: [conda-forge], dependencies: [toyenv]}
"""

NUMBER = "import uproot, numpy; print('uproot', uproot.__version__, int(numpy.arange(10).sum()))"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A folder with a manifest, and what its afenv is told by the environment."""

    folder: Path
    variables: Mapping[str, str]

    def afenv(self, *words: str | Path, status: int = 0, **more: str) -> str:
        """Run afenv in the folder; its standard output."""
        done = subprocess.run(
            [AFENV, "-q", "-C", self.folder, *words],
            env={**os.environ, **self.variables, **more},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def build(self, *words: str | Path, **more: str) -> list[dict[str, Any]]:
        """Build, and what ``--json`` says of each environment."""
        built: list[dict[str, Any]] = json.loads(self.afenv("build", "--json", *words, **more))
        return built

    @property
    def lock(self) -> dict[str, Any]:
        """The lock's environments."""
        environments: dict[str, Any] = json.loads((self.folder / "afenv.lock").read_text())["environments"]
        return environments


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def variables(core_channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A store, and the core channel in the place of conda-forge."""
    handler = partial(_Quiet, directory=str(core_channel))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield {
            "AFENV_CACHE_DIR": str(tmp_path_factory.mktemp("store")),
            "AFENV_MIRRORS": f"https://conda.anaconda.org/conda-forge=http://127.0.0.1:{server.server_port}",
        }
        server.shutdown()


def commit(folder: Path) -> None:
    """Make a git repository of the folder."""
    (folder / ".gitignore").write_text(".afenv/\nresults/\n")
    subprocess.run([*GIT, "init", "-q", folder], check=True)
    subprocess.run([*GIT, "-C", folder, "add", "-A"], check=True)
    subprocess.run([*GIT, "-C", folder, "commit", "-q", "-m", "Add"], check=True)


@pytest.fixture(scope="module")
def toys(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A built project with the toys."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "afenv.yaml").write_text(TOYS)
    project = Project(folder=folder, variables=variables)
    project.afenv("lock")
    project.build()
    return project


@pytest.fixture(scope="module")
def rootfs(toys: Project, umoci: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toys' image, unpacked."""
    bundle = tmp_path_factory.mktemp("unpacked") / "bundle"
    layout = toys.folder / ".afenv" / "default.oci"
    tags = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"]
    tag = tags["org.opencontainers.image.ref.name"]
    subprocess.run([umoci, "unpack", "--rootless", "--image", f"{layout}:{tag}", bundle], check=True)
    return bundle / "rootfs"


Run = Callable[..., str]


@pytest.fixture(scope="module", params=["docker", "podman", "apptainer"])
def run(
    request: pytest.FixtureRequest, toys: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Runs a command in the toys' image with an engine."""
    engine: str = request.param
    folder = tmp_path_factory.mktemp(engine)
    (built,) = toys.build()
    name = built["image_id"].removeprefix("sha256:")
    if engine == "apptainer":
        apptainer = request.getfixturevalue("apptainer")
        sif = folder / "toys"
        places = {f"APPTAINER_{place}DIR": str(folder / place) for place in ("CACHE", "TMP")}
        for place in places.values():
            Path(place).mkdir()
        environment = {**os.environ, **places}
        built_sif = [apptainer, "--silent", "build", "--sandbox", str(sif), f"oci:{built['path']}"]
        subprocess.run(built_sif, env=environment, check=True)
        prefix: Sequence[str] = (apptainer, "--silent", "exec", "--cleanenv", "--no-home", str(sif))
    else:
        command = shlex.split(request.getfixturevalue(engine))
        archive = folder / "toys.tar"
        toys.build("--target", "oci-archive", "-o", archive)
        subprocess.run([*command, "load", "--quiet", "--input", archive], check=True, capture_output=True)
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")  # podman asks for too much
        prefix, environment = (*command, "run", "--rm", "--network", "none", *limits, name), dict(os.environ)

    def call(*words: str) -> str:
        done = subprocess.run(
            [*prefix, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{engine} {words}: {done.stderr}"
        return done.stdout

    yield call
    if engine != "apptainer":
        subprocess.run([*command, "image", "rm", "--force", name], capture_output=True, check=False)


def test_python_and_packages_run(run: Run) -> None:
    name, _, number = run("python", "-W", "error", "-c", NUMBER).split()
    assert (name, number) == ("uproot", "45")
    assert run("uhi", "--help")
    assert run("toyhello", "there") == "hello from toynoarch 2.0 there\n"


@pytest.mark.parametrize("shell", [("sh", "-c"), ("bash", "-c"), ("/bin/sh", "-c")], ids=" ".join)
def test_activation_holds_in_shells(run: Run, shell: tuple[str, ...]) -> None:
    script = 'echo "$CONDA_PREFIX|$TOYENV_HOME|$TOYENV_WORDS|$TOYENV_JSON|$TOYENV_LEVEL"; command -v python'
    expected = "/opt/conda|/opt/conda/share/toyenv|two words|from a file|3\n/opt/conda/bin/python\n"
    assert run(*shell, script) == expected


def test_login_shells_find_python(run: Run) -> None:
    assert run("bash", "-lc", "command -v python") == "/opt/conda/bin/python\n"


def test_activation_holds_without_a_shell(run: Run) -> None:
    script = "import os; print(os.environ['TOYENV_HOME'], os.environ['TOYENV_JSON'])"
    assert run("python", "-c", script) == "/opt/conda/share/toyenv from a file\n"
    assert "TOYENV_WORDS=two words\n" in run("env")


def test_bytecode_is_there_and_unchecked(run: Run) -> None:
    script = "import pathlib, sys, uproot; print(*pathlib.Path(uproot.__cached__).read_bytes()[4:8])"
    assert run("python", "-c", script) == "1 0 0 0\n"  # PEP 552


def test_two_builds_are_one_image(toys: Project, variables: dict[str, str], tmp_path: Path) -> None:
    (first,) = toys.build("--locked")
    other = Project(
        folder=tmp_path / "elsewhere é", variables={**variables, "AFENV_CACHE_DIR": str(tmp_path / "c")}
    )
    other.folder.mkdir()
    for name in ("afenv.yaml", "afenv.lock"):
        shutil.copy(toys.folder / name, other.folder)
    (second,) = other.build("--locked", TZ="Asia/Tokyo", PYTHONHASHSEED="7", AFENV_JOBS="1", LC_ALL="C")
    assert [layer["source"] for layer in first["layers"] if layer not in second["layers"]] == []
    assert second["image_id"] == first["image_id"]


def test_locking_again_gives_the_same_bytes(toys: Project, tmp_path: Path) -> None:
    again = Project(folder=tmp_path, variables=toys.variables)
    shutil.copy(toys.folder / "afenv.yaml", tmp_path)
    again.afenv("lock", "--as-of", toys.lock["default"]["as-of"])
    assert again.lock["default"]["conda"] == toys.lock["default"]["conda"]


READER = """
import json, os, pathlib, sys
from rattler import PrefixRecord
found = []
for path in sorted(pathlib.Path(sys.argv[1], "conda-meta").glob("*.json")):
    record = PrefixRecord.from_path(path)
    files = [str(name) for name in record.files]
    found.append({"name": record.name.normalized, "version": str(record.version), "build": str(record.build),
                  "url": record.url, "files": files})
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


def test_rattler_sees_a_valid_environment(rootfs: Path, toys: Project) -> None:
    prefix = rootfs / PREFIX
    done = subprocess.run([sys.executable, "-c", READER, prefix], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {record["name"]: record for record in json.loads(done.stdout)}
    locked = {package["name"]: package for package in toys.lock["default"]["conda"]}
    assert found.keys() == locked.keys()
    for name, record in found.items():
        assert (record["version"], record["build"]) == (locked[name]["version"], locked[name]["build"])
        assert "127.0.0.1" not in record["url"]
        assert [path for path in record["files"] if not os.path.lexists(prefix / path)] == []
    for path in (prefix / "conda-meta").glob("*.json"):
        for entry in json.loads(path.read_text())["paths_data"]["paths"]:
            expected = entry.get("sha256_in_prefix")
            if expected and entry["path_type"] == "hardlink":
                assert hashlib.sha256((prefix / entry["_path"]).read_bytes()).hexdigest() == expected
    assert (prefix / "conda-meta" / "history").is_file()


def tree(prefix: Path) -> dict[str, tuple[str, Any]]:
    """What an environment holds, but for what tells of the installation itself, and bytecode."""
    found: dict[str, tuple[str, Any]] = {}
    for path in prefix.rglob("*"):
        name = str(path.relative_to(prefix))
        if name.startswith(("conda-meta", "__clobbers__", "CACHEDIR.TAG")) or name.endswith(".pyc"):
            continue
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_file():
            mode = path.stat().st_mode & 0o111 != 0
            found[name] = ("file", (mode, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


def test_the_image_has_what_rattler_installs(
    rootfs: Path, toys: Project, core_channel: Path, tmp_path: Path, rattler: Any
) -> None:
    locked = toys.lock["default"]["conda"]
    specs = [f"{package['name']} =={package['version']} {package['build']}" for package in locked]
    rattler(core_channel, tmp_path / "env", *specs, "--as-prefix", f"/{PREFIX}")
    ours, theirs = tree(rootfs / PREFIX), tree(tmp_path / "env")
    assert {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} == set()


@pytest.fixture(scope="module")
def example(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The example, built from the local channel."""
    folder = tmp_path_factory.mktemp("example") / "conda-gpu"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    commit(folder)
    project = Project(folder=folder, variables=variables)
    built = project.build()
    yield project
    for image in built:
        command = ["docker", "image", "rm", "--force", image["image_id"]]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False)


def test_the_example_is_locked_for_its_gpu(example: Project) -> None:
    names = {
        environment: {package["name"] for package in locked["conda"]}
        for environment, locked in example.lock.items()
    }
    assert names["gpu"] - names["cpu"] == {"cuda-cudart", "cuda-version"}
    assert "__cuda" not in example.lock["cpu"]["virtual-packages"]
    assert example.lock["gpu"]["virtual-packages"]["__cuda"] == "12.2"
    for locked in example.lock.values():
        assert [wheel["name"] for wheel in locked["wheels"]] == ["vector"]
        urls = [url for package in locked["conda"] for url in package["urls"]]
        assert all(url.startswith("https://conda.anaconda.org/conda-forge/") for url in urls)


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize(("environment", "gpus"), [("cpu", None), ("gpu", 0)])
def test_the_example_gives_its_numbers(example: Project, environment: str, gpus: int | None) -> None:
    results = f"results/{environment}"
    command = ["--", "python", "pairs.py", "--output", results]
    if environment == "gpu" and not Path("/dev/nvidiactl").exists():
        example.afenv("run", "-e", environment, *command, status=3)  # it is not run without what it asks for
        command = ["--no-gpu", *command]
    example.afenv("run", "-e", environment, *command)
    summary = json.loads((example.folder / "results" / environment / "summary.json").read_text())
    assert abs(summary["median_mass"] - 91.1876) < 0.1
    if not Path("/dev/nvidiactl").exists():
        assert summary["gpus"] == gpus


def test_fifty_runs_all_end_well(variables: dict[str, str], tmp_path: Path) -> None:
    """py-rattler can crash while its process ends; that never reaches a user."""
    (tmp_path / "afenv.yaml").write_text(TINY)
    project = Project(folder=tmp_path, variables=variables)
    ids = set()
    for _ in range(RUNS):
        project.afenv("lock", "--upgrade")
        (built,) = project.build()
        ids.add(built["image_id"])
    assert len(ids) == 1
