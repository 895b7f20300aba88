"""Base images with the real thing: Debian from mmdebstrap, a registry, skopeo, apt, Docker and Podman."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.oci import media
from afenv.oci.read import open_image
from afenv.oci.registries import find_registry
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image
from tests.services.conftest import missing, tool

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
DEBIAN = "http://deb.debian.org"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "[python3, git, vim-tiny, liblzma-dev, ca-certificates]"


@dataclass(frozen=True, kw_only=True)
class Host:
    """A registry, a store, and the commands of engines."""

    registry: str
    folder: Path
    variables: Mapping[str, str]

    def afenv(self, project: Path, *words: str, status: int = 0, **more: str) -> str:
        """Run afenv; its standard output."""
        done = subprocess.run(
            [AFENV, "-q", "-C", project, *words],
            env={**os.environ, **self.variables, **more},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def project(self, name: str, environment: str) -> Path:
        """A project whose only environment is this; locked."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "afenv.yaml").write_text(
            f"afenv: 1\nname: {name}\nenvironments:\n  default:\n    {environment}\n"
        )
        self.afenv(folder, "lock")
        return folder

    def run(self, project: Path, engine: str, script: str) -> str:
        """Run a shell script in the image, by an engine."""
        return self.afenv(project, "run", "--", "/bin/sh", "-ec", script, AFENV_RUNTIME=engine).strip()


@pytest.fixture(scope="module")
def host(
    docker: str, podman: str, core_channel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    command = tool("docker-registry", "/usr/bin/docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    handler = partial(_Quiet, directory=str(core_channel))
    with (
        (folder / "registry.log").open("wb") as log,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as channel,
    ):
        threading.Thread(target=channel.serve_forever, args=(0.05,), daemon=True).start()
        process = subprocess.Popen([command, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Host(
            registry=f"127.0.0.1:{port}",
            folder=folder,
            variables={
                "AFENV_CACHE_DIR": str(folder / "store"),
                "AFENV_DOCKER": docker,
                "AFENV_PODMAN": podman,
                "AFENV_MIRRORS": f"https://conda.anaconda.org/conda-forge=http://127.0.0.1:{channel.server_port}",
            },
        )
        process.terminate()
        process.wait()
        channel.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a real bookworm, with apt."""
    if os.geteuid() != 0:
        missing("root, for mmdebstrap and chroot,")
    path = tmp_path_factory.mktemp("debian") / "bookworm.tar"
    command = [tool("mmdebstrap"), "--quiet", "--variant=minbase", "--mode=root", "bookworm", path]
    subprocess.run([*command, f"{DEBIAN}/debian"], check=True, capture_output=True, timeout=300)
    return path


@pytest.fixture(scope="module")
def bookworm(host: Host, root: Path, skopeo: str) -> dict[str, str]:
    """The same Debian as an OCI image, as Docker's schema 2, with zstd layers, and by way of an index."""
    name = f"{host.registry}/base/bookworm"
    settings = {"Cmd": ["bash"], "Env": [f"PATH={SYSTEM_PATH}"]}
    store = ContentStore(host.folder / "elsewhere")
    image = make_foreign_image(store, [root.read_bytes()], settings=settings)
    other = make_foreign_image(store, [[]], platform="linux/arm64")
    registry = find_registry()
    registry.push(image, store, f"{name}:oci", quiet=True)
    registry.push(other, store, f"{name}:arm64", quiet=True)
    layout = f"oci:{host.folder}/zstd:x"
    source, plain = f"docker://{name}:oci", ["--src-tls-verify=false", "--dest-tls-verify=false"]
    for words in (
        [*plain, "--format", "v2s2", source, f"docker://{name}:docker"],
        ["--src-tls-verify=false", "--dest-compress-format", "zstd", source, layout],
        ["--dest-tls-verify=false", "--preserve-digests", layout, f"docker://{name}:zstd"],
    ):
        subprocess.run([skopeo, "copy", "-q", *words], check=True, capture_output=True)
    entries = [one.manifest_descriptor().as_json() | {"platform": one.platform()} for one in (other, image)]
    index = {"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": entries}
    with registry.repository(name) as repository:
        repository.put_manifest(json.dumps(index).encode(), media.IMAGE_INDEX, "index")
    return {form: f"{name}:{form}" for form in ("oci", "docker", "zstd", "index")}


def lowest(project: Path, count: int = 1) -> list[tuple[str, str]]:
    with open_image(project / ".afenv" / "default.oci") as opened:
        return [(layer.digest, layer.media_type) for layer in opened.image.layers[:count]]


@pytest.fixture(scope="module")
def packages(host: Host, bookworm: dict[str, str]) -> Path:
    """Debian and PyPI packages on the real Debian."""
    pypi = "pypi: {dependencies: [six]}"
    project = host.project(
        "packages", f'base: {{oci: "{bookworm["oci"]}", packages: {PACKAGES}}}\n    {pypi}'
    )
    host.afenv(project, "build", "--check")
    return project


def test_debian_packages_are_installed_as_dpkg_and_apt_see_it(host: Host, packages: Path) -> None:
    script = (
        "dpkg --audit; dpkg --verify; apt-get -qq check; "
        "python3 -c 'import six, ssl; print(len(ssl.create_default_context().get_ca_certs()) > 99)'; "
        "git init -q /tmp/r && git -C /tmp/r status --porcelain; readlink -f /usr/bin/editor; "
        "getent passwd 1000; update-alternatives --query vi | sed -n 's/^Status: //p'"
    )
    wanted = [
        "True",
        "/usr/bin/vim.tiny",
        "analyst:x:1000:1000:analyst:/home/analyst:/bin/bash",
        "auto",
    ]
    assert host.run(packages, "docker", script).splitlines() == wanted
    assert host.run(packages, "podman", script).splitlines() == wanted


def test_what_the_base_has_is_kept_but_for_what_is_needed(packages: Path) -> None:
    environment = json.loads((packages / "afenv.lock").read_text())["environments"]["default"]
    names = {deb["name"] for deb in environment["debs"]}
    assert {"vim-tiny", "git", "liblzma-dev", "python3.11"} <= names
    assert not names & {"bash", "libc6", "dpkg", "apt", "coreutils"}
    assert environment["base"]["system"].startswith("debian 12")
    assert environment["base"]["glibc"] == "2.36"


def test_the_choice_is_that_of_apt(packages: Path, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    subprocess.run(["tar", "-xf", root, "-C", folder, "--exclude=./dev/*"], check=True, capture_output=True)
    lines = [f"deb {DEBIAN}/debian {suite} main\n" for suite in ("bookworm", "bookworm-updates")]
    lines.append(f"deb {DEBIAN}/debian-security bookworm-security main\n")
    (folder / "etc/apt/sources.list").write_text("".join(lines))
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")

    def apt(*words: str) -> str:
        command = ["chroot", str(folder), "apt-get", "-q", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": SYSTEM_PATH})
        return done.stdout

    apt("-o", "APT::Sandbox::User=root", "update")
    named = PACKAGES.strip("[]").split(", ")
    new, upgraded = {}, {}
    for line in apt("-s", "install", "--no-install-recommends", *named).splitlines():
        if line.startswith("Inst "):
            words = line.split()
            installed = words[2].startswith("[")
            (upgraded if installed else new)[words[1]] = words[3 if installed else 2].strip("(")
    environment = json.loads((packages / "afenv.lock").read_text())["environments"]["default"]
    ours = {deb["name"]: deb["version"] for deb in environment["debs"]}
    assert {name: version for name, version in ours.items() if name not in upgraded} == new
    assert {name: ours[name] for name in ours if name in upgraded}.items() <= upgraded.items()
    assert "liblzma5" in ours  # which liblzma-dev needs in its own version, and the base may have older


@pytest.mark.parametrize("form", ["oci", "docker", "zstd", "index"])
def test_layers_are_those_of_the_base(
    host: Host, bookworm: dict[str, str], skopeo: str, form: str, call: Callable[..., Any]
) -> None:
    project = host.project(f"form-{form}", f'base: {{oci: "{bookworm[form]}", packages: [hello]}}')
    host.afenv(project, "build", "--check")
    inspect = [skopeo, "inspect", "--raw", "--tls-verify=false"]
    raw = json.loads(call(*inspect, f"docker://{bookworm[form]}").stdout)
    if form == "index":
        digest = raw["manifests"][1]["digest"]
        raw = json.loads(call(*inspect, f"docker://{bookworm['index'].rpartition(':')[0]}@{digest}").stdout)
    kind = media.LAYER_ZSTD if form == "zstd" else media.LAYER_GZIP
    assert lowest(project) == [(raw["layers"][0]["digest"], kind)]
    engine = "podman" if form == "zstd" else "docker"  # Docker reads zstd from version 23 on
    assert host.run(project, engine, "hello") == "Hello, world!"
    if form == "index":
        reference = f"{host.registry}/ours/image:1"
        host.afenv(project, "build", "--push", reference)
        shown = json.loads(call(*inspect, f"docker://{reference}").stdout)
        assert shown["layers"][0]["digest"] == raw["layers"][0]["digest"]


def test_conda_packages_on_debian(host: Host, bookworm: dict[str, str]) -> None:
    conda = 'conda: {channels: [conda-forge], dependencies: ["python=3.11", numpy]}'
    project = host.project("conda", f'base: {{oci: "{bookworm["oci"]}"}}\n    {conda}')
    host.afenv(project, "build")
    environment = json.loads((project / "afenv.lock").read_text())["environments"]["default"]
    assert environment["virtual-packages"]["__glibc"] == "2.36"
    script = "python -c 'import sys, numpy; print(sys.prefix, numpy.arange(4).sum())'; echo $CONDA_PREFIX"
    assert host.run(project, "docker", script).splitlines() == ["/opt/conda 6", "/opt/conda"]
    assert host.run(project, "podman", script).splitlines() == ["/opt/conda 6", "/opt/conda"]


def test_conda_packages_on_a_c_library_alone(host: Host) -> None:
    project = host.project(
        "minimal",
        'base: {conda: {glibc: "2.36"}}\n'
        '    conda: {channels: [conda-forge], dependencies: ["python=3.11", numpy]}\n'
        "    pypi: {dependencies: [six]}",
    )
    host.afenv(project, "build", "--check")
    environment = json.loads((project / "afenv.lock").read_text())["environments"]["default"]
    assert len(environment["debs"]) < 10
    script = (
        "python -c 'import numpy, six, ssl, sqlite3, pwd, os, socket, subprocess; "
        'print(numpy.arange(4).sum(), pwd.getpwuid(1000).pw_name, socket.gethostbyname("localhost"), '
        'subprocess.check_output("echo yes", shell=True, text=True).strip())\'; '
        "touch /tmp/a /home/analyst/a && /usr/bin/env echo done"
    )
    wanted = ["6 analyst 127.0.0.1 yes", "done"]
    assert host.run(project, "docker", script).splitlines() == wanted
    assert host.run(project, "podman", script).splitlines() == wanted


DOCKERFILE = """\
FROM {base}
USER 0
RUN python3 -m venv --without-pip /opt/venv && ln -s /srv /data && rm -rf /usr/share/doc /usr/games \\
    && sed -i 's/analyst/jovyan/g' /etc/passwd /etc/group \\
    && mkdir -p /home/jovyan && chown 1000:1000 /home/jovyan
ENV PATH=/opt/venv/bin:$PATH SETUP=done
WORKDIR /home/jovyan
EXPOSE 8888
USER jovyan
ENTRYPOINT ["/usr/bin/env", "STARTED=1"]
CMD ["sh", "-c", "echo $SETUP $STARTED"]
"""


@pytest.fixture(scope="module")
def python_image(host: Host) -> tuple[str, Path]:
    """An image with Debian's Python, built and pushed by afenv; the reference and the project."""
    reference = f"{host.registry}/base/python:1"
    project = host.project("python", "base: {debian: bookworm, packages: [python3]}")
    host.afenv(project, "build", "--push", reference)
    return reference, project


def test_an_image_that_docker_built(
    host: Host, python_image: tuple[str, Path], docker: str, tmp_path: Path, call: Callable[..., Any]
) -> None:
    """With whiteouts, a virtual environment on the PATH, an ordinary user, and an entry point."""
    reference = f"{host.registry}/base/from-docker:1"
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=python_image[0]))
    call(docker, "build", "-q", "-t", reference, str(tmp_path))
    call(docker, "push", "-q", reference)
    project = host.project("docker", f'base: {{oci: "{reference}"}}\n    pypi: {{dependencies: [six]}}')
    host.afenv(project, "build", "--check")
    environment = json.loads((project / "afenv.lock").read_text())["environments"]["default"]
    assert environment["python"]["site-packages"] == "/opt/venv/lib/python3.11/site-packages"
    assert environment["base"]["user"] == "jovyan"
    built = json.loads(host.afenv(project, "inspect", str(project / ".afenv" / "default.oci"), "--json"))
    original = json.loads(call(docker, "image", "inspect", reference).stdout)[0]
    below_ours = [layer["diff_id"] for layer in built["layers"]][: len(original["RootFS"]["Layers"])]
    assert below_ours == original["RootFS"]["Layers"]
    assert built["user"] == "jovyan"
    assert built["entrypoint"] == original["Config"]["Entrypoint"]
    assert built["command"] == original["Config"]["Cmd"]
    assert built["workdir"] == "/home/jovyan"
    assert set(original["Config"]["Env"]) <= set(built["environment"])
    script = (
        "python3 -c 'import six; print(six.__file__)'; ls /usr/share/doc; ls -d /data; echo $SETUP $STARTED"
    )
    wanted = ["/opt/venv/lib/python3.11/site-packages/six.py", "libstdc++6", "/data", "done 1"]
    assert host.run(project, "docker", script).splitlines() == wanted
    assert host.run(project, "podman", script).splitlines() == wanted


def test_wheels_for_the_python_of_an_image_of_afenv(host: Host, python_image: tuple[str, Path]) -> None:
    """An image that afenv built is the base; its own Python compiles."""
    reference, below = python_image
    project = host.project(
        "above", f'base: {{oci: "{reference}"}}\n    pypi: {{dependencies: [six, "numpy<3"]}}'
    )
    host.afenv(project, "build", "--check")
    with open_image(below / ".afenv" / "default.oci") as opened:
        count = len(opened.image.layers)
        wanted = [(layer.digest, layer.media_type) for layer in opened.image.layers]
    assert lowest(project, count) == wanted
    script = (
        "import numpy, os; from importlib.util import cache_from_source as c; "
        "pyc = c(numpy.__file__); "
        "print(os.path.exists(pyc), open(pyc, 'rb').read()[4], numpy.arange(4).sum())"
    )
    assert host.run(project, "docker", f'python3 -c "{script}"') == "True 1 6"
    image = json.loads(host.afenv(project, "inspect", str(project / ".afenv" / "default.oci"), "--json"))
    assert image["base"]["name"] == reference
    assert (image["user"], image["command"]) == ("1000:1000", ["/bin/bash"])
