"""Virtual machines, booted: what a command finds there, old programs, another processor, and no KVM.

Most machines here are emulated: what is seen must not depend on whether the host has a KVM that works.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from afenv.documents.vm import read_vm
from afenv.oci.builders import find_builder
from afenv.oci.layout import write_layout
from afenv.oci.model import Image
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image, symlink
from afenv_builders.vm.kernel import kernel_for

from .conftest import tool

pytestmark = [pytest.mark.services, pytest.mark.network]
NOBODY = 65534
TIMEOUT = 400
APPLETS = ("cat", "echo", "env", "id", "ls", "pwd", "sh", "sleep", "stat", "uname", "wget")

# The modules may lie where only root looks: become the user after they have been found.
AS_USER = """
import sys
sys.path.insert(0, sys.argv[1])
from run_child import become
from afenv.cli import main
become(int(sys.argv[2]), int(sys.argv[2]), [])
sys.exit(main(sys.argv[3:]))
"""

PROBE = """
echo "id $(id -u) $(id -g) $(id -G)"
echo "pwd $PWD"
echo "kernel $(uname -m)"
echo "variable <$STRANGE> $HOME"
echo "read $(cat '/given here/events.txt')"
echo "one $(cat /etc/one,file)"
(echo x >'/given here/new') 2>/dev/null && echo "read-only broken"
echo result >result.txt && echo "written $(cat result.txt)"
echo "input <$(cat)>"
echo "http $(wget -q -O - http://10.0.2.2:$PORT/ | cat)"
(echo x >/usr-is-writable && echo x >/tmp/x && echo x >$HOME/x) && echo scratch
echo to errors >&2
exit 43
"""

VSYSCALL = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
  long seconds = ((long (*)(long *))0xffffffffff600400)(0);
  printf("%d\n", seconds > 1000000000);
  return 0;
}
"""


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """A cache that an ordinary user may use, with what the machines need."""
    path = Path(tempfile.mkdtemp(prefix="afenv-vm-"))
    path.chmod(0o777)
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)
    shutil.rmtree(path, ignore_errors=True)


def machine_image(store: ContentStore, architecture: str, more: tuple[Member, ...] = ()) -> Image:
    """An image with Debian's busybox for an architecture."""
    kernel = kernel_for(architecture, store, load_settings())
    return make_image(
        store,
        [
            (
                folder("bin"),
                Member(path="bin/busybox", content=store.read(kernel.busybox), mode=0o755),
                *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
                folder("etc"),
                Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n"),
                Member(path="etc/group", content=b"root:x:0:\n"),
                folder("tmp", 0o1777),
                *more,
            )
        ],
        platform=f"linux/{architecture}",
    )


def boot(
    cache: Path, layout: Path, *arguments: str, user: int | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """``afenv run --vm --image``, in the layout's folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(layout.parent),
        "AFENV_CACHE_DIR": str(cache),
        "AFENV_VM_ACCELERATOR": "tcg",
        "AFENV_VM_MEMORY": "768",
        **variables,
    }
    words = ["-m", "afenv"] if user is None else ["-c", AS_USER, str(Path(__file__).parent), str(user)]
    return subprocess.run(
        [sys.executable, *words, "run", "--vm", "--image", str(layout), *arguments],
        cwd=layout.parent,
        env={name: value for name, value in environment.items() if value},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for layouts and results that everybody may write."""
    path = Path(tempfile.mkdtemp(prefix="afenv-vm-work-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a web server on this machine's loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from the host")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served.server_port
        served.shutdown()


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_what_a_command_finds(cache: Path, place: Path, server: int, who: str) -> None:
    tool("qemu-system-x86_64")
    if os.getuid() != 0 and who == "root":
        pytest.skip("not root")
    user = NOBODY if who == "ordinary" and os.getuid() == 0 else None
    uid = user if user is not None else os.getuid()
    own = cache / who
    own.mkdir()
    store = ContentStore(own)
    layout = place / "image.oci"
    write_layout(machine_image(store, "amd64"), store, layout)
    given = place / "given, with spaces é"
    given.mkdir()
    (given / "events.txt").write_text("17 events")
    if user is not None:
        for path in (own, *own.rglob("*")):
            os.chown(path, user, user)
    done = boot(
        own,
        layout,
        *("--bind", f"{given}:/given here:ro", "--bind", f"{given}/events.txt:/etc/one,file:ro"),
        *("--env", f"PORT={server}", "--env", "STRANGE=a $b 'c' \"d\" \\ é"),
        *("--", "sh", "-c", PROBE),
        user=user,
        stdin="some\ninput",
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 43, done.stderr
    assert lines == [
        f"id {uid} {uid} {uid}" if user is not None or os.getuid() == 0 else lines[0],
        f"pwd {place}",
        "kernel x86_64",
        "variable <a $b 'c' \"d\" \\ é> /run/home",
        "read 17 events",
        "one 17 events",
        "written result",
        "input <some",
        "input>",
        "http hello from the host",
        *(("scratch",) if uid == 0 else ()),
    ]
    assert "to errors" in done.stderr and "to errors" not in done.stdout
    assert (place / "result.txt").read_text() == "result\n"
    assert (place / "result.txt").stat().st_uid == uid
    assert not (given / "new").exists()
    assert not list(Path(tempfile.gettempdir()).glob("afenv-run-*/qemu.pid"))


def test_signals_and_commands_that_are_not_there(cache: Path, place: Path) -> None:
    tool("qemu-system-x86_64")
    store = ContentStore(cache)
    layout = place / "image.oci"
    write_layout(machine_image(store, "amd64"), store, layout)
    command = (sys.executable, "-m", "afenv", "run", "--vm", "--image", str(layout), "--no-network")
    script = 'trap "echo asked to end; exit 9" TERM; echo ready; while :; do sleep 1; done'
    with subprocess.Popen(
        [*command, "--", "sh", "-c", script],
        cwd=place,
        env={**os.environ, "AFENV_CACHE_DIR": str(cache), "AFENV_VM_ACCELERATOR": "tcg"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "asked to end\n"
        assert process.wait(TIMEOUT) == 9
    done = boot(cache, layout, "--no-network", "--", "no-such-command")
    assert (done.returncode, "E503" in done.stderr) == (127, True)


def test_a_program_that_the_host_kernel_refuses(cache: Path, place: Path) -> None:
    """A static program of the time before 2012, in what it does: it calls the page ``vsyscall``."""
    tool("qemu-system-x86_64")
    (place / "old.c").write_text(VSYSCALL)
    subprocess.run([tool("cc"), "-static", "-Os", "-o", place / "old", place / "old.c"], check=True)
    store = ContentStore(cache)
    old = Member(path="bin/old", content=(place / "old").read_bytes(), mode=0o755)
    layout = place / "image.oci"
    write_layout(machine_image(store, "amd64", (old,)), store, layout)
    if "[vsyscall]" not in Path("/proc/self/maps").read_text():
        refused = subprocess.run([place / "old"], capture_output=True, check=False)
        assert refused.returncode == -11
    done = boot(cache, layout, "--no-network", "--", "/bin/old")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_an_image_for_another_processor(cache: Path, place: Path) -> None:
    tool("qemu-system-aarch64")
    store = ContentStore(cache)
    layout = place / "image.oci"
    write_layout(machine_image(store, "arm64"), store, layout)
    done = boot(cache, layout, "--no-network", "--", "sh", "-c", "uname -m; echo here >from-arm")
    assert (done.returncode, done.stdout) == (0, "aarch64\n"), done.stderr
    assert (place / "from-arm").read_text() == "here\n"


def test_a_folder_of_a_machine_is_all_that_qemu_needs(cache: Path, place: Path) -> None:
    """Built, then run without image, store and downloads, with whatever KVM there is."""
    tool("qemu-system-x86_64")
    store = ContentStore(cache)
    image = machine_image(store, "amd64")
    path = place / "machine"
    builder = find_builder("vm")
    built = builder.build(image, store, {"target": "vm", "path": path, "quiet": True})
    assert builder.build(image, store, {"target": "vm", "path": path, "quiet": True}) == built
    assert builder.build(image, store, {"target": "vm", "path": place / "two", "quiet": True}) == built
    machine = read_vm(path, verify=True)
    assert machine.image_id == image.image_id
    assert {one.name for one in machine.packages} >= {"busybox-static"}
    done = boot(place / "empty", path, "--no-network", "--", "echo", "alone", AFENV_VM_ACCELERATOR="")
    assert (done.returncode, done.stdout) == (0, "alone\n"), done.stderr
    shown = boot(place / "empty", path, "--dry-run", "--", "echo", "alone")
    assert "-accel tcg" in shown.stdout
    (path / "vm.json").write_bytes(
        (path / "vm.json").read_bytes().replace(b'"afenv-vm": 1', b'"afenv-vm": 2')
    )
    refused = boot(place / "empty", path, "--", "echo", "alone")
    assert (refused.returncode, "E015" in refused.stderr) == (2, True)


def test_the_example_gives_the_same_numbers(cache: Path, place: Path) -> None:
    """Up to rounding: an emulated processor has other vector instructions, and errors are differences."""
    tool("qemu-system-x86_64")
    tool("bwrap")
    from afenv.workflow.demo import COMMAND, copy_example

    project = place / "dimuon"
    copy_example(project)
    environment = {**os.environ, "AFENV_CACHE_DIR": str(cache), "AFENV_VM_ACCELERATOR": "tcg"}

    def afenv(*words: str | Path, status: int = 0) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "afenv", *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr

    for runtime in ("userns", "qemu"):
        afenv("run", "--runtime", runtime, "-q", "--", *COMMAND)
        (place / runtime).mkdir()
        (project / "results" / "fit.json").rename(place / runtime / "fit.json")
    afenv("compare", "--relative", "1e-5", place / "userns", place / "qemu")
    fit = place / "qemu" / "fit.json"
    numbers = json.loads(fit.read_text())
    numbers["chi2"] *= 1.001
    fit.write_text(json.dumps(numbers))
    afenv("compare", "--relative", "1e-5", place / "userns", place / "qemu", status=1)
