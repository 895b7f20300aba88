"""Images that the real docker and the real repo2docker make, and repositories in Binder's layouts."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from afenv.oci.model import Image
from afenv.store.content import ContentStore

from .conftest import Call

pytestmark = pytest.mark.services

MIRROR = "http://deb.debian.org/debian/"
MANIFEST = """\
afenv: 1
name: whole
code: []
environments:
  default:
    builder: {{name: {name}, path: ., file: {file}}}
"""
Afenv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def base(runnable: Image, store: ContentStore, docker: str, call: Call) -> Iterator[str]:
    """The name of an image in the engine, for ``FROM``."""
    from afenv_builders.oci import OciBuilder

    name = f"afenv-test-{os.urandom(6).hex()}"
    OciBuilder().build(runnable, store, {"target": "docker", "quiet": True})
    call(docker, "tag", runnable.image_id, name)
    yield name
    call(docker, "rmi", "-f", name)


@pytest.fixture
def afenv(tmp_path: Path, docker: str) -> Afenv:
    """Run afenv in the project; exit status, standard output, standard error."""
    (tmp_path / "project").mkdir()

    def call(*arguments: str, **variables: str) -> tuple[int, str, str]:
        path = f"{Path(docker).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "AFENV_CACHE_DIR": str(tmp_path / "cache"), "PATH": path, **variables}
        done = subprocess.run(
            [sys.executable, "-m", "afenv", "-C", tmp_path / "project", *arguments],
            env={**environment, "AFENV_DOCKER": docker},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture
def project(tmp_path: Path, afenv: Afenv) -> Callable[[str, Mapping[str, str]], Path]:
    """Write the files of a repository; the manifest is for that builder."""

    def write(name: str, files: Mapping[str, str]) -> Path:
        folder = tmp_path / "project"
        recipe = next((one for one in files if one.endswith("Dockerfile")), None)
        manifest = (
            MANIFEST.format(name=name, file=recipe)
            if name == "docker"
            else MANIFEST.format(name=name, file="").replace(", file: ", "")
        )
        for path, text in {"afenv.yaml": manifest.replace("code: []\n", ""), **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    return write


def _built(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0, err
    (built,) = json.loads(out)
    return built


def test_a_dockerfile(base: str, project: Any, afenv: Afenv, call: Call, docker: str) -> None:
    recipe = f"FROM {base}\nCOPY hello.txt /made/hello\nUSER 5:5\nWORKDIR /made\n"
    project("docker", {"Dockerfile": recipe, "hello.txt": "hello\n"})
    built = _built(afenv("build", "--json", "--target", "docker"))
    try:
        shown = call(docker, "run", "--rm", built["path"], "where").stdout
        inspected = json.loads(call(docker, "inspect", built["path"]).stdout)[0]
    finally:
        call(docker, "rmi", "-f", built["path"])
    assert shown == "/made\n"
    assert inspected["Id"] == built["image_id"]
    assert inspected["Config"]["User"] == "5:5"
    assert inspected["Config"]["Labels"]["org.afenv.reproducible"] == "false"
    again = _built(afenv("-q", "build", "--locked", "--json"))
    assert again["image_id"] == built["image_id"]


def test_a_dockerfile_for_buildkit(base: str, project: Any, afenv: Afenv) -> None:
    recipe = f'FROM {base}\nRUN --mount=type=tmpfs,target=/x ["/bin/program", "write", "/tmp/made"]\n'
    project("docker", {"sub/Dockerfile": recipe})
    status, out, err = afenv("build", "--json")
    assert "needs BuildKit" in err
    assert _built((status, out, err))["layers"][-1]["source"].startswith("base:docker")


def test_a_dockerfile_that_fails(base: str, project: Any, afenv: Afenv) -> None:
    folder = project("docker", {"Dockerfile": f'FROM {base}\nRUN ["/bin/program", "exit", "3"]\n'})
    status, _, err = afenv("build")
    assert status == 2
    assert "E416" in err and "non-zero code: 3" in err
    assert "Step 2/2" in (folder / ".afenv" / "default.docker.log").read_text()
    assert not (folder / "afenv.lock").exists()


def test_no_engine(project: Any, afenv: Afenv) -> None:
    project("docker", {"Dockerfile": "FROM scratch\n"})
    status, _, err = afenv("build", DOCKER_HOST="unix:///nonexistent.sock")
    assert (status, "E415" in err, "Traceback" in err) == (3, True, False)


@pytest.fixture(scope="session")
def buildx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of the command docker, and its plugin buildx from a later Debian."""
    index = urllib.request.urlopen(f"{MIRROR}dists/trixie/main/binary-amd64/Packages.xz", timeout=60).read()
    stanzas = lzma.decompress(index).decode().split("\n\n")
    stanza = next(one for one in stanzas if one.startswith("Package: docker-buildx\n"))
    fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
    deb = urllib.request.urlopen(MIRROR + fields["Filename"], timeout=60).read()
    assert hashlib.sha256(deb).hexdigest() == fields["SHA256"]
    folder = tmp_path_factory.mktemp("buildx")
    (folder / "buildx.deb").write_bytes(deb)
    subprocess.run(["dpkg-deb", "-x", folder / "buildx.deb", folder / "deb"], check=True)
    (folder / "cli-plugins").mkdir()
    (folder / "deb/usr/libexec/docker/cli-plugins/docker-buildx").rename(
        folder / "cli-plugins" / "docker-buildx"
    )
    return folder


@pytest.mark.network
def test_repo2docker(base: str, project: Any, afenv: Afenv, buildx: Path) -> None:
    # its conda build pack takes micromamba from the network: a Dockerfile shows the rest
    recipe = f'FROM {base}\nCOPY . /srv\nRUN ["/bin/program", "write", "/tmp/made"]\n'
    project("repo2docker", {"binder/Dockerfile": recipe, "hello.txt": "hello\n"})
    status, out, err = afenv("build", "--json", DOCKER_CONFIG=str(buildx))
    built = _built((status, out, err))
    assert "Using DockerBuildPack builder" in err
    assert built["layers"][-1]["source"].startswith("base:repo2docker")
    assert afenv("-q", "build", "--locked", DOCKER_CONFIG=str(buildx))[0] == 0


def test_repo2docker_without_buildx(project: Any, afenv: Afenv, tmp_path: Path) -> None:
    project("repo2docker", {"binder/Dockerfile": "FROM scratch\n"})
    status, _, err = afenv("build", DOCKER_CONFIG=str(tmp_path))
    assert (status, "plugin buildx" in err) == (3, True)


@pytest.mark.network
@pytest.mark.usefixtures("engines")
def test_a_binder_repository_without_a_manifest(tmp_path: Path, afenv: Afenv) -> None:
    files = {
        "binder/requirements.txt": "six==1.16.0\n",
        "binder/apt.txt": "file\n",
        "binder/runtime.txt": "python-3.11\n",
        "binder/postBuild": "#!/bin/bash\nset -e\npython3 -c 'import six; print(six.__version__)' > made\n",
        "binder/start": '#!/bin/bash\nexport STARTED=yes\nexec "$@"\n',
        "read.py": "import os; print(open('/analysis/made').read().strip(), os.environ['STARTED'])\n",
    }
    for path, text in files.items():
        (tmp_path / "project" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / path).write_text(text)
    status, _, err = afenv("build")
    assert status == 0, err
    assert "taken over      binder/postBuild" in err
    status, out, err = afenv("-q", "run", "--runtime", "docker", "--", "python3", "read.py")
    assert (status, out.split()) == (0, ["1.16.0", "yes"]), err
