"""The peer: ``docker build`` with BuildKit, and a registry to push to.

Nothing is downloaded while it is measured, and it gets every advantage: its base image is in the
engine (so is, in one variant, Python), the wheels lie in an image that is only mounted, versions are
pinned and not resolved. Its result lies in the engine, not compressed, until it is pushed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Sample, run

DOCKER = os.environ.get("DOCKER", "/usr/bin/docker")
PREFIX = "afenv-bench"
LABEL = f"LABEL {PREFIX}=1"
ENVIRONMENT = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}

PIP = "PYTHONPATH=/w/pip python3 -m pip install -q --no-index --no-deps --no-cache-dir"
UV = "/w/uv/bin/uv pip install -q --system --offline --no-index --no-deps --no-cache --link-mode copy"
INSTALL = {
    "pip": f"{PIP} --no-compile",
    "pip-bytecode": f"{PIP} --compile",
    "uv": UV,
    "uv-bytecode": f"{UV} --compile-bytecode",
}
DOCKERFILE = """\
FROM {base}
{debs}RUN --mount=type=bind,from={wheels},target=/w \\
    {install} --break-system-packages --find-links /w/wheels -r /w/{requirements}
COPY . /analysis
"""
PLAIN_DOCKERFILE = """\
FROM {base}
COPY wheels /wheels
COPY requirements.txt /
RUN pip install -q --break-system-packages --no-cache-dir --no-compile --no-index --find-links /wheels \\
    -r /requirements.txt
COPY code /analysis
"""
DEBS = """\
RUN --mount=type=bind,from={wheels},target=/w DEBIAN_FRONTEND=noninteractive \\
    apt-get -qq install --no-install-recommends -o Dpkg::Options::=--force-unsafe-io /w/debs/*.deb >/dev/null
"""


def docker(*arguments: str | Path, text: str | None = None) -> str:
    """The output of a docker command that is not measured."""
    done = subprocess.run(
        [DOCKER, *map(str, arguments)],
        capture_output=True,
        text=True,
        input=text,
        env={**os.environ, **ENVIRONMENT},
    )
    if done.returncode:
        raise SystemExit(f"docker {' '.join(map(str, arguments))}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def make_base(name: str, packages: Sequence[str], work: Path) -> str:
    """Import a minimal Debian with these packages; its archive is kept in ``work`` from run to run."""
    image = f"{PREFIX}-{name}"
    archive = work / f"{name}.tar"
    if not archive.exists():
        partial = archive.with_suffix(".partial.tar")
        include = ["--include", ",".join(packages)] if packages else []
        subprocess.run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                *include,
                "bookworm",
                partial,
                "http://deb.debian.org/debian",
            ],
            check=True,
        )
        partial.rename(archive)
    docker("import", "--change", LABEL, archive, image)
    return image


def installed(image: str) -> set[str]:
    """The names of the Debian packages in an image."""
    return set(docker("run", "--rm", image, "dpkg-query", "-W", "-f", "${Package}\n").split())


def make_wheels_image(
    folder: Path, wheels: Sequence[tuple[str, Path]], debs: Sequence[tuple[str, Path]]
) -> str:
    """Import a folder with requirement files, the downloads, pip and uv as an image to mount from."""
    for name, files in (("wheels", wheels), ("debs", debs)):
        (folder / name).mkdir(parents=True)
        for file_name, source in files:
            shutil.copyfile(source, folder / name / file_name)
    for tool in ("pip", "uv"):
        subprocess.run(
            [sys.executable, "-m", "uv", "pip", "install", "-q", "--target", folder / tool, tool], check=True
        )
    image = f"{PREFIX}-wheels"
    archive = subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(
        [DOCKER, "import", "--change", LABEL, "-", image],
        stdin=archive.stdout,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if archive.wait():
        raise SystemExit("tar failed")
    shutil.rmtree(folder)
    return image


@dataclass(frozen=True, kw_only=True)
class DockerProject:
    """A folder with a Dockerfile that installs the wheels and copies the code."""

    folder: Path
    tag: str
    base: str
    wheels: str
    method: str
    install_debs: bool = False

    def write(self, code: Path, requirements: str = "requirements.txt") -> None:
        """Write the build context: the code and the Dockerfile."""
        shutil.copytree(code, self.folder, ignore=shutil.ignore_patterns(".git", ".afenv", "afenv.*"))
        debs = DEBS.format(wheels=self.wheels) if self.install_debs else ""
        text = DOCKERFILE.format(
            base=self.base,
            debs=debs,
            wheels=self.wheels,
            install=INSTALL[self.method],
            requirements=requirements,
        )
        (self.folder / "Dockerfile").write_text(text)
        (self.folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")

    @property
    def code(self) -> Path:
        """The folder with the code."""
        return self.folder

    def build(self, *, cache: bool) -> Sample:
        """``docker build``; without ``cache``, every step is run."""
        return build(self.folder, self.tag, cache=cache)

    def push(self) -> Sample:
        """``docker push`` of the tag."""
        return run([DOCKER, "push", "-q", self.tag])


@dataclass(frozen=True, kw_only=True)
class PlainProject:
    """The same job as people write it: the wheels in the build context, copied, and installed."""

    folder: Path
    tag: str
    base: str

    @property
    def code(self) -> Path:
        """The folder with the code."""
        return self.folder / "code"

    def write(self, code: Path, wheels: Sequence[tuple[str, Path]], pins: Sequence[str]) -> None:
        """Write the build context: the wheels (hard links), the code and the Dockerfile."""
        shutil.copytree(code, self.code, ignore=shutil.ignore_patterns(".git", ".afenv", "afenv.*"))
        (self.folder / "wheels").mkdir()
        for name, source in wheels:
            (self.folder / "wheels" / name).hardlink_to(source)
        (self.folder / "requirements.txt").write_text("\n".join(pins) + "\n")
        (self.folder / "Dockerfile").write_text(PLAIN_DOCKERFILE.format(base=self.base))

    def build(self, *, cache: bool) -> Sample:
        """``docker build``; without ``cache``, every step is run."""
        return build(self.folder, self.tag, cache=cache)


def build(folder: Path, tag: str, *, cache: bool) -> Sample:
    """``docker build`` of a folder; without ``cache``, every step is run."""
    options = [] if cache else ["--no-cache"]
    return run([DOCKER, "build", "-q", *options, "-t", tag, folder], environment=ENVIRONMENT)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def registry(folder: Path, port: int) -> Iterator[str]:
    """An empty registry on 127.0.0.1 while the block runs; gives HOST:PORT."""
    folder.mkdir(parents=True)
    configuration = folder / "config.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: bench}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", configuration], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise SystemExit(f"docker-registry does not answer: {(folder / 'log').read_text()[-1000:]}")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def clean() -> None:
    """Remove every image that the bench made, and the build cache that belongs to them."""
    images = docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    for line in images:
        name, identity = line.rsplit(" ", 1)
        if f"{PREFIX}-" in name:
            docker("rmi", "-f", identity if name.endswith("<none>") else name)
    docker("image", "prune", "-f", "--filter", f"label={PREFIX}")
    docker("builder", "prune", "-af")
