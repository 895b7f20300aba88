"""The real sandbox: what is seen inside, what is kept of it, and what stops a command."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from afenv.errors import AfenvError
from afenv.layers.build_diff import changes
from afenv.run.sandbox import Inside, run_inside, sandbox_root
from afenv.run.sandbox_limits import Limits
from afenv.run.sandbox_tools import find_bubblewrap
from afenv.run.sandbox_watch import Outcome, Output
from afenv.store.content import ContentStore

pytestmark = pytest.mark.services

LIMITS = Limits(time=60, memory=400 << 20, disk=100 << 20, processes=200)
VARIABLES = {"PATH": "/bin", "HOME": "/home/analyst", "GREETING": "good morning"}
APPLETS = (
    "sh",
    "cat",
    "dd",
    "env",
    "hostname",
    "id",
    "ls",
    "mkdir",
    "nslookup",
    "ping",
    "rm",
    "sleep",
    "wget",
    "yes",
)


def missing(what: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is needed")
    pytest.skip(f"{what} is needed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user can enter, with the files of a system: a static busybox."""
    busybox = shutil.which("busybox") or missing("a static busybox")
    if shutil.which("bwrap") is None:
        missing("bubblewrap")
    path = Path(tempfile.mkdtemp(prefix="afenv-test-"))
    path.chmod(0o755)
    (path / "root/bin").mkdir(parents=True)
    (path / "root/etc").mkdir()
    shutil.copy(busybox, path / "root/bin/busybox")
    for name in APPLETS:
        (path / "root/bin" / name).symlink_to("busybox")
    (path / "root/etc/passwd").write_text("analyst:x:1000:1000::/home/analyst:/bin/sh\n")
    (path / "root/etc/data").write_text("data\n")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["overlay", "copy"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AFENV_BUILD_OVERLAY", "0" if request.param == "copy" else "1")
    return str(request.param)


class Sandbox:
    """A store, and commands on the files of the system."""

    def __init__(self, folder: Path, cache: Path, limits: Limits = LIMITS) -> None:
        self.folder, self.store, self.limits = folder, ContentStore(cache), limits
        self.said = b""
        self.changed: list[tuple[str, str]] = []

    def run(self, *commands: str) -> Outcome:
        with sandbox_root([self.folder / "root"], self.store, folders=["/analysis", "/home/analyst"]) as root:
            self.form = "overlay" if root.overlay else "copy"
            for command in commands:
                output = Output(io.BytesIO())
                inside = Inside(variables=VARIABLES, folder="/analysis")
                outcome = run_inside(root, ["/bin/sh", "-c", command], inside, self.limits, output)
                self.said += bytes(output.tail)
                if outcome.status:
                    break
            found = changes(root.changed, root.lowers, overlay=root.overlay)
            self.changed = [(change.path, change.kind) for change in found]
        assert list((self.store.folder / "trees").iterdir()) == []
        return outcome


@pytest.fixture
def sandbox(folder: Path, tmp_path: Path) -> Sandbox:
    return Sandbox(folder, tmp_path / "cache")


def test_what_is_changed_is_the_same_from_an_overlay_and_a_copy(sandbox, form):
    outcome = sandbox.run(
        "echo new > result; rm /etc/data; cat /etc/passwd > /tmp/copy; cat /tmp/copy > /etc/passwd",
        "cat /tmp/copy; mkdir -p /opt/a; echo x > /opt/a/x",
    )
    assert outcome.status == 0
    assert sandbox.form == form
    assert b"analyst" in sandbox.said
    assert sandbox.changed == [
        ("analysis/result", "f"),
        ("etc", "d"),
        ("etc/data", "removed"),
        ("opt", "d"),
        ("opt/a", "d"),
        ("opt/a/x", "f"),
    ] or sandbox.changed == [("analysis", "d"), *sandbox.changed[1:]]


def test_nothing_of_the_host_is_seen(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET", "of the host")
    assert sandbox.run("env; hostname; id -u; ls / /home; cat /proc/mounts").status == 0
    said = sandbox.said.decode()
    assert "GREETING=good morning" in said
    assert "SECRET" not in said
    assert "\nafenv\n1000\n" in said
    assert str(sandbox.store.folder) not in said
    assert "\nroot\n" not in said
    sandbox.said = b""
    assert sandbox.run("ls /proc").status == 0
    assert len([word for word in sandbox.said.split() if word.isdigit()]) < 10


def test_no_network(sandbox):
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        assert sandbox.run(f"wget -T 3 -q -O - http://127.0.0.1:{port}/").status != 0
        assert sandbox.run("wget -T 3 -q -O - http://deb.debian.org/").status != 0
        assert sandbox.run("ping -c 1 -W 1 127.0.0.1; cat /proc/net/route | (read a; read b)").status != 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def stops(sandbox: Sandbox, command: str, **limits: float) -> tuple[str, str]:
    values = {name: getattr(LIMITS, name) for name in ("time", "memory", "disk", "processes")}
    sandbox.limits = Limits(**(values | limits))
    started = time.monotonic()
    outcome = sandbox.run(command)
    assert time.monotonic() - started < 30
    return outcome.limit, outcome.broken


def test_a_command_that_hangs(sandbox):
    assert stops(sandbox, "sleep 1000", time=1) == ("AFENV_BUILD_TIME", "it ran for more than 1 s")


def test_a_command_that_hangs_with_its_output_closed(sandbox):
    command = "exec >/dev/null 2>&1; sleep 1000"
    assert stops(sandbox, command, time=1)[0] == "AFENV_BUILD_TIME"


def test_a_command_that_forks_without_end(sandbox):
    limit, words = stops(sandbox, "f() { f | f & }; f; sleep 60")
    assert (limit, words) == ("AFENV_BUILD_PROCESSES", "it had more than 200 processes")


def test_a_command_that_fills_the_disk(sandbox):
    one_file = "dd if=/dev/zero of=big bs=1M count=10000"
    assert stops(sandbox, one_file)[0] == "AFENV_BUILD_DISK"
    many = "i=0; while true; do dd if=/dev/zero of=/tmp/$i bs=1M count=10 2>/dev/null; i=$((i+1)); done"
    assert stops(sandbox, many)[0] == "AFENV_BUILD_DISK"


def test_a_command_that_takes_all_memory(sandbox):
    command = "dd if=/dev/zero of=/dev/null bs=900M count=1000"
    assert stops(sandbox, command)[0] == "AFENV_BUILD_MEMORY"


def test_output_without_end_is_cut(sandbox):
    assert stops(sandbox, "yes", time=2)[0] == "AFENV_BUILD_TIME"
    assert len(sandbox.said) <= 1 << 16


def test_what_was_started_in_the_background_ends(sandbox):
    assert sandbox.run("sleep 4321 & sleep 0.1; echo done").status == 0
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 4321" not in listed


def test_an_interruption_ends_everything(sandbox):
    def interrupt(data: bytes) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        sandbox_root([sandbox.folder / "root"], sandbox.store) as root,
    ):
        inside = Inside(variables=VARIABLES)
        command = ["/bin/sh", "-c", "sleep 4322 & echo started; sleep 4322"]
        run_inside(root, command, inside, LIMITS, Output(io.BytesIO(), interrupt))
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 4322" not in listed


def as_ordinary_user(action: Callable[[], None], folder: Path) -> int:
    """Run ``action`` in a child process of a user without privileges; its exit status."""
    user = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        status = 99
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            find_bubblewrap.cache_clear()
            action()
            status = 0
        os._exit(status)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 98


@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_an_ordinary_user(folder, form):
    place = Path(tempfile.mkdtemp(prefix="afenv-test-"))
    shutil.copytree(folder / "root", place / "root", symlinks=True)

    def action() -> None:
        sandbox = Sandbox(place, place / "cache")
        outcome = sandbox.run("id -u; echo new > /etc/new; rm /etc/data")
        assert (outcome.status, sandbox.form) == (0, form)
        assert b"1000\n" in sandbox.said
        assert sandbox.changed == [("etc", "d"), ("etc/data", "removed"), ("etc/new", "f")]
        limit, _ = stops(sandbox, "f() { f | f & }; f; sleep 5")  # or it ends by itself at the kernel's limit
        assert limit == "AFENV_BUILD_PROCESSES" or b"can't fork" in sandbox.said

    try:
        assert as_ordinary_user(action, place) == 0
    finally:
        shutil.rmtree(place)


def test_user_namespaces_that_are_forbidden(folder):
    """In a user namespace whose own limit is none, so that no other can be made in it."""
    program = (
        "import sys; from afenv.run.sandbox_tools import find_bubblewrap\n"
        "from afenv.errors import AfenvError\n"
        "try: find_bubblewrap()\n"
        "except AfenvError as error: print(error)\n"
    )
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        forbid,
        "sh",
        sys.executable,
        "-c",
        program,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error E521" in done.stdout
    assert "user.max_user_namespaces=15000" in done.stdout


def test_no_shell(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with sandbox_root([tmp_path / "empty"], ContentStore(tmp_path / "cache")) as root:
        output = Output(io.BytesIO())
        outcome = run_inside(root, ["/bin/sh", "-c", "true"], Inside(variables={}), LIMITS, output)
    assert outcome.status == 1
    assert b"bwrap: execvp" in output.tail


def test_a_full_cache_is_one_error(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AfenvError), sandbox_root([folder / "root"], ContentStore(tmp_path / "cache")):
        pass
