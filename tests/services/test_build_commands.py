"""Build commands, sdists and post-link scripts from the manifest to the image, with Debian's packages."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.oci.files import merged
from afenv.oci.read import open_image
from afenv.specs import specs_folder

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "compiled"
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
MANIFEST = """\
afenv: 1
name: commands
code:
  - {path: src}
environments:
  default:
    base: {debian: bookworm, packages: [dash, coreutils]}
"""

BACKEND = """\
import os, zipfile

MEMBERS = {
    "handmade-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: handmade\\nVersion: 1.0\\n",
    "handmade-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}

def get_requires_for_build_wheel(settings=None):
    assert "SECRET" not in os.environ
    return []

def build_wheel(folder, settings=None, metadata=None):
    name = "handmade-1.0-py3-none-any.whl"
    members = {"handmade.py": open("handmade.py").read() + ADDED, **MEMBERS}
    members["handmade-1.0.dist-info/RECORD"] = "".join(f"{path},,\\n" for path in members)
    with zipfile.ZipFile(os.path.join(folder, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in members.items():
            wheel.writestr(path, text)
    return name
"""


class Project:
    """A folder that is a git repository, and afenv in it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        (folder / "src").mkdir(parents=True)
        self.write("src/answer", "42\n")
        subprocess.run([*GIT, "init", "-q", "-b", "main", folder], check=True)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def manifest(self, more: str) -> None:
        self.write("afenv.yaml", MANIFEST + more)
        self.commit()

    def commit(self) -> None:
        subprocess.run([*GIT, "-C", self.folder, "add", "-A"], check=True)
        subprocess.run([*GIT, "-C", self.folder, "commit", "-q", "--allow-empty", "-m", "x"], check=True)

    def afenv(self, *words: str, status: int = 0, **more: str) -> tuple[str, str]:
        """Run afenv; standard output and standard error."""
        variables = {**os.environ, "AFENV_CACHE_DIR": str(self.cache), **more}
        done = subprocess.run(
            [AFENV, "-C", self.folder, *words],
            env=variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def build(self, *words: str, **more: Any) -> tuple[dict[str, Any], str]:
        """Build; what ``--json`` says, and standard error."""
        out, err = self.afenv("build", "--json", *words, **more)
        return json.loads(out)[0], err

    def locked(self) -> dict[str, Any]:
        lock = json.loads((self.folder / "afenv.lock").read_bytes())
        found: dict[str, Any] = lock["environments"]["default"]
        return found

    def files(self) -> dict[str, bytes]:
        """Small files of the image that was built last."""
        with open_image(self.folder / ".afenv/default.oci") as opened:
            tree = merged(opened, contents=False, keep=lambda path: path.startswith(("analysis/", "opt/")))
        return {path: entry.content for path, entry in tree.items() if entry.content is not None}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bwrap") is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("bubblewrap is needed")
        pytest.skip("bubblewrap is needed")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(tmp_path: Path, cache: Path) -> Project:
    return Project(tmp_path / "project", cache)


def test_commands_run_once_and_again_when_something_changed(project):
    project.manifest("    build: ['cat answer > result; echo $HOME $SOURCE_DATE_EPOCH >> result']\n")
    first, err = project.build()
    assert "+ cat answer > result" in err
    assert project.files()["analysis/result"].startswith(b"42\n/home/analyst ")
    assert first["layers"][-1]["source"].startswith("build: cat answer")
    assert project.locked()["built"]["diff-id"] == first["layers"][-1]["diff_id"]
    second, err = project.build()
    assert (second, "+ cat" in err) == (first, False)
    _, err = project.build("--locked")
    assert "+ cat" not in err
    before = project.locked()["built"]["inputs"]
    project.write("src/answer", "43\n")
    project.commit()
    third, err = project.build()
    assert "+ cat answer" in err
    assert third["layers"][-1]["diff_id"] != first["layers"][-1]["diff_id"]
    assert project.locked()["built"]["inputs"] != before
    debs = project.locked()["debs"]
    project.manifest("    build: [echo other > result]\n")
    project.build()
    assert project.files()["analysis/result"] == b"other\n"
    assert project.locked()["debs"] == debs


def test_a_command_that_fails(project):
    project.manifest("    build: [echo before, 'echo the reason; exit 7', echo after]\n")
    _, err = project.afenv("-q", "build", status=2)
    log = project.folder / ".afenv/default-build.log"
    assert f"{log}: error E410: 'echo the reason; exit 7' failed with exit status 7" in err
    assert "the reason" not in err.replace("echo the reason", "")
    assert log.read_text() == "+ echo before\nbefore\n+ echo the reason; exit 7\nthe reason\n"
    assert "built" not in project.locked()


def test_a_command_that_asks_the_network(project):
    project.manifest("    build: ['echo \"curl: (6) Could not resolve host: example.org\"; exit 6']\n")
    _, err = project.afenv("-q", "build", status=2)
    assert "error E410" in err
    assert "no network in the sandbox" in err


def test_a_command_that_hangs(project):
    project.manifest("    build: [sleep 1000]\n")
    _, err = project.afenv("-q", "build", status=3, AFENV_BUILD_TIME="1")
    assert "error E411: 'sleep 1000' was stopped: it ran for more than 1 s" in err
    assert "AFENV_BUILD_TIME" in err


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_build_leaves_nothing_running(project, how, status):
    seconds = str(60_000 + os.getpid() + how)
    project.manifest(f"    build: [echo started; sleep {seconds}]\n")
    process = subprocess.Popen(
        [AFENV, "-C", project.folder, "build"],
        env={**os.environ, "AFENV_CACHE_DIR": str(project.cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        assert any(line == "started\n" for line in process.stderr)
        assert f"sleep {seconds}" in running()
        process.send_signal(how)
        process.stderr.read()
    assert process.wait(timeout=30) == status
    for _ in range(100):
        if f"sleep {seconds}" not in running():
            break
        time.sleep(0.05)
    assert f"sleep {seconds}" not in running()
    project.afenv("cache", "prune")
    assert not list((project.cache / "trees").glob(".*"))


def running() -> str:
    """The commands of all processes but those of afenv, whose arguments have the command's text."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in listed.splitlines() if line.startswith("sleep "))


def test_what_is_not_reproducible_is_named(project):
    project.manifest("    build: ['date +%s.%N > when; mkdir d; echo same > d/same']\n")
    _, err = project.afenv("-q", "build", "--check-reproducible", status=1)
    assert "error E406: layer build of default: /analysis/when: other content" in err
    assert "same" not in err.replace("d/same", "")
    project.build()
    recorded = project.locked()["built"]
    keys = project.cache / "keys"
    shutil.rmtree(keys / "sandbox")
    shutil.rmtree(keys / "image")
    _, err = project.afenv("-q", "build", "--locked", status=5)
    assert "error E412" in err
    assert recorded["diff-id"] in err
    _, err = project.afenv("build")
    assert "the lock is changed" in err
    assert project.locked()["built"]["diff-id"] != recorded["diff-id"]


def test_the_example_is_compiled_and_is_the_same_again(tmp_path, cache):
    project = Project(tmp_path / "project", cache)
    shutil.rmtree(project.folder / "src")
    shutil.copytree(EXAMPLE, project.folder, dirs_exist_ok=True)
    project.commit()
    first, err = project.build("--check-reproducible")
    assert "default: what was run in the sandbox came out the same again" in err
    copied, _ = project.build("--check-reproducible", AFENV_BUILD_OVERLAY="0")
    assert copied["image_id"] == first["image_id"]
    docker = shutil.which("docker", path="/usr/bin:/usr/local/bin")
    if docker is None or subprocess.run([docker, "version"], capture_output=True, check=False).returncode:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "a Docker engine is needed"
        pytest.skip("a Docker engine is needed")
    out, _ = project.afenv("-q", "run", "--", "peak", AFENV_RUNTIME="docker", AFENV_DOCKER=docker)
    assert out == "mean 91.180 GeV, width 2.497 GeV\n"


def test_post_link_scripts(project, hard_channel):
    conda = f"    conda: {{channels: [{hard_channel}], dependencies: [hard-post-link]MORE}}\n"
    project.manifest(conda.replace("MORE", ""))
    _, err = project.afenv("-q", "build", status=2)
    assert "error E408" in err
    assert "hard-post-link (post-link)" in err
    assert "conda.post-link" in err
    project.manifest(conda.replace("MORE", ", post-link: [hard-post-link]"))
    built, err = project.build("--check-reproducible")
    assert "+ post-link script of hard-post-link" in err
    assert project.files()["opt/conda/share/hard-post-link/made"] == b"linked\n"
    sources = [layer["source"] for layer in built["layers"]]
    assert sources[sources.index("conda:environment") + 1].startswith("post-link: ")
    assert set(project.locked()["linked"]) == {"inputs", "diff-id"}
    project.manifest(conda.replace("MORE", ", post-link: [other]"))
    _, err = project.afenv("-q", "build", status=2)
    assert "error E101: post-link names other" in err


def make_sdist(added: str = "") -> bytes:
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": "Metadata-Version: 2.1\nName: handmade\nVersion: 1.0\n",
        "backend.py": BACKEND.replace("ADDED", added or "''"),
        "handmade.py": "answer = 42\n",
    }
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"handmade-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return result.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and for the page of a project its ``index.json``."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        is_page = os.fspath(path).endswith(".json")
        return "application/vnd.pypi.simple.v1+json" if is_page else "application/octet-stream"

    def log_message(self, *_: object) -> None:
        pass

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.rstrip("/") + "/index.json" if path.endswith("/") else path)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """A package index that has one source archive; its URL."""
    folder = tmp_path / "index"
    (folder / "simple/handmade").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def publish(data: bytes) -> str:
        name = "handmade-1.0.tar.gz"
        (folder / "simple/handmade" / name).write_bytes(data)
        file = {
            "filename": name,
            "url": name,
            "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            "upload-time": "2024-01-01T00:00:00Z",
            "size": len(data),
        }
        page = {"meta": {"api-version": "1.1"}, "name": "handmade", "files": [file], "versions": ["1.0"]}
        (folder / "simple/handmade/index.json").write_text(json.dumps(page))
        return f"http://127.0.0.1:{server.server_port}/simple"

    yield publish
    server.shutdown()
    server.server_close()


PYPI = """\
    pypi: {dependencies: [handmade], sdists: [handmade]}
"""


def with_python(project: Project, more: str) -> None:
    project.manifest(more)
    project.write(
        "afenv.yaml", (project.folder / "afenv.yaml").read_text().replace("[dash,", "[python3, dash,")
    )
    project.commit()


def forget_wheel(project: Project) -> None:
    """Make the cache one of a machine that has not built the wheel."""
    name = project.locked()["wheels"][0]["sha256"]
    (project.cache / "blobs/sha256" / name[:2] / name).unlink()
    for kind in ("sdist", "image"):
        shutil.rmtree(project.cache / "keys" / kind, ignore_errors=True)


def test_an_sdist_is_built_once_and_pinned(project, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index(make_sdist()))
    monkeypatch.setenv("SECRET", "of the host")
    with_python(project, PYPI.replace(", sdists: [handmade]", ""))
    _, err = project.afenv("-q", "lock", status=2)
    assert "error E107" in err
    assert "pypi.sdists" in err
    with_python(project, PYPI)
    _, err = project.afenv("lock")
    assert "+ build handmade 1.0: wheel" in err
    (wheel,) = project.locked()["wheels"]
    assert wheel["urls"] == ["built:///handmade-1.0-py3-none-any.whl"]
    assert wheel["built-from"]["urls"][0].endswith("/simple/handmade/handmade-1.0.tar.gz")
    first, err = project.build("--locked")
    assert "+ build handmade" not in err
    forget_wheel(project)
    again, err = project.build("--locked")
    assert "+ build handmade 1.0: wheel" in err
    assert again["image_id"] == first["image_id"]


def test_names_of_sdists_that_are_wrong(project, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index(make_sdist()))
    with_python(project, "    pypi: {dependencies: [], sdists: [handmade]}\n")
    _, err = project.afenv("-q", "lock", status=2)
    assert "error E101: pypi.sdists names handmade, which nothing needs" in err
    with_python(project, PYPI.replace("sdists: [handmade]", "sdists: [handmade, handmad]"))
    _, err = project.afenv("-q", "lock", status=2)
    assert "error E101: the package index has no handmad, which pypi.sdists names" in err


def test_an_sdist_that_builds_otherwise_is_not_used(project, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index(make_sdist("'# ' + os.urandom(4).hex()")))
    with_python(project, PYPI)
    project.afenv("-q", "lock")
    _, err = project.afenv("-q", "build", "--check-reproducible", status=1)
    assert "error E406: wheel of handmade 1.0: handmade.py differs in a second build" in err
    forget_wheel(project)
    _, err = project.afenv("-q", "build", "--locked", status=5)
    assert "error E412: handmade 1.0, built from its source archive, is sha256:" in err


def test_an_sdist_that_does_not_build(project, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", index(make_sdist("1 / 0")))
    with_python(project, PYPI)
    _, err = project.afenv("-q", "lock", status=2)
    assert "error E410: 'build handmade 1.0: wheel' failed with exit status 1" in err
    log = project.folder / ".afenv/sdist.log"
    assert "ZeroDivisionError" in log.read_text()
    with contextlib.suppress(FileNotFoundError):
        assert "wheels" not in project.locked()


def test_commands_find_the_environment_of_conda_activated(project, toy_channel):
    conda = f"    conda: {{channels: [{toy_channel}], dependencies: [toyenv]}}\n"
    project.manifest(conda + "    build: ['echo \"$CONDA_PREFIX|$TOYENV_HOME|$TOYENV_WORDS\" > seen']\n")
    project.build()
    assert project.files()["analysis/seen"] == b"/opt/conda|/opt/conda/share/toyenv|two words\n"


def test_commands_on_a_minimal_root(tmp_path, cache, toy_channel):
    """Without an operating system there is a shell, and what it can do by itself."""
    project = Project(tmp_path / "project", cache)
    project.manifest("")
    text = (project.folder / "afenv.yaml").read_text()
    text = text.replace("{debian: bookworm, packages: [dash, coreutils]}", "{conda: {}}")
    conda = f"    conda: {{channels: [{toy_channel}], dependencies: [toyenv]}}\n"
    project.write("afenv.yaml", text + conda + "    build: ['echo done > seen']\n")
    project.commit()
    project.build()
    assert project.files()["analysis/seen"] == b"done\n"
