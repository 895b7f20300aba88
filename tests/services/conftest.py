"""Real tools for the service tests: their absence is a failure in CI and a skip elsewhere."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afenv.oci.model import Image
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image, symlink

Call = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void on(int n) { printf("signal %d\n", n); fflush(stdout); exit(40 + n); }
int main(int count, char **word) {
  const char *verb = count > 1 ? word[1] : "hello";
  if (!strcmp(verb, "exit")) return atoi(word[2]);
  if (!strcmp(verb, "where")) { char at[4096]; puts(getcwd(at, sizeof at)); return 0; }
  if (!strcmp(verb, "variable")) { char *value = getenv(word[2]); puts(value ? value : ""); return 0; }
  if (!strcmp(verb, "who")) { printf("%d:%d\n", getuid(), getgid()); return 0; }
  if (!strcmp(verb, "write")) {
    int file = open(word[2], O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (file < 0) { perror(word[2]); return 1; }
    return write(file, "written\n", 8) != 8;
  }
  if (!strcmp(verb, "copy")) { int c; while ((c = getchar()) != EOF) putchar(c); return 0; }
  if (!strcmp(verb, "wait")) {
    if (count == 2) { signal(SIGTERM, on); signal(SIGINT, on); }
    puts("ready"); fflush(stdout);
    for (;;) pause();
  }
  if (!strcmp(verb, "die")) { signal(SIGTERM, SIG_DFL); raise(SIGKILL); }
  puts("hello");
  return 0;
}
"""


# files that take minutes: begun first, so that two that run side by side end together
LONG = (
    "test_vm",
    "test_debian_apt",
    "test_debian_tree",
    "test_conda_environment",
    "test_jupyterhub",
    "test_archive",
    "test_run_everywhere",
    "test_build_commands",
    "test_story",
    "test_base_images",
    "test_main_job",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all others in the order in which they were found."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def missing(what: str) -> None:
    """Fail in CI, skip elsewhere."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is needed")
    pytest.skip(f"{what} is needed")


def tool(name: str, *elsewhere: str) -> str:
    """The path of a program, or what :func:`missing` does."""
    found = next((path for path in elsewhere if Path(path).exists()), None) or shutil.which(name)
    if found is None:
        missing(name)
    return str(found)


@pytest.fixture(scope="session")
def call() -> Call:
    """Run a command, check its exit status (or expect another one) and return its result."""

    def called(*command: str | Path, status: int = 0, **more: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=300, check=False, **more
        )  # type: ignore[call-overload]
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return called


@pytest.fixture(scope="session")
def skopeo() -> str:
    """The command skopeo."""
    return tool("skopeo")


@pytest.fixture(scope="session")
def umoci() -> str:
    """The command umoci."""
    return tool("umoci")


@pytest.fixture(scope="session")
def docker() -> str:
    """The command docker, of an engine that answers."""
    found = os.environ.get("AFENV_DOCKER") or tool("docker", "/usr/bin/docker")
    if subprocess.run([found, "version"], capture_output=True, check=False).returncode != 0:
        missing("a Docker engine that answers")
    return found


@pytest.fixture(scope="session")
def podman() -> str:
    """The command podman; with runc where it is there, as crun fails under hybrid control groups."""
    found = os.environ.get("AFENV_PODMAN")
    if found:
        return found
    runc = shutil.which("runc")
    return tool("podman") + (f" --runtime {runc}" if runc else "")


@pytest.fixture(scope="session")
def apptainer() -> str:
    """The command apptainer."""
    return tool("apptainer")


@pytest.fixture
def engines(docker: str, podman: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let afenv use the engines that the tests use."""
    monkeypatch.setenv("AFENV_DOCKER", docker)
    monkeypatch.setenv("AFENV_PODMAN", podman)
    monkeypatch.delenv("AFENV_RUNTIME", raising=False)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program without libraries that does what the tests need inside a container."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.c").write_text(PROGRAM)
    subprocess.run(
        [tool("cc"), "-static", "-Os", "-o", folder / "program", folder / "program.c"],
        check=True,
        capture_output=True,
    )
    return (folder / "program").read_bytes()


@pytest.fixture
def runnable(store: ContentStore, program: bytes) -> Image:
    """An image that runs the program."""
    passwd = b"root:x:0:0::/root:/bin/sh\nanalyst:x:1000:1000::/home/analyst:/bin/sh\n"
    return make_image(
        store,
        [
            (
                folder("bin"),
                Member(path="bin/program", content=program, mode=0o755),
                symlink("bin/sh", "program"),
                folder("etc"),
                Member(path="etc/passwd", content=passwd),
                folder("tmp", 0o1777),
            ),
            (folder("home"), folder("home/analyst", 0o755, 1000, 1000)),
        ],
        entrypoint=("/bin/program",),
    )


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """The host and port of a docker-registry with its files in a folder, as long as the block lasts."""
    command = tool("docker-registry", "/usr/bin/docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "registry.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([command, "serve", str(configuration)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "registry.log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The host and port of a docker-registry of its own."""
    with running_registry(tmp_path) as host:
        yield host


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may read."""
    path = Path(tempfile.mkdtemp(prefix="afenv-services-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["root", "ordinary"])
def user(request: pytest.FixtureRequest, place: Path) -> dict[str, Any]:
    """Arguments of subprocess for a user who calls a runtime: root, and one who is not."""
    if os.getuid() != 0:
        if request.param == "root":
            pytest.skip("not root")
        return {}
    home = place / "home"
    home.mkdir()
    base = {"env": {"PATH": os.environ["PATH"], "HOME": str(home)}, "cwd": home}
    if request.param == "root":
        return base
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return {**base, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, which notes what pages ask for and say."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing("selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--window-size=1200,1100",
    ):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=Service(tool("chromedriver")))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
