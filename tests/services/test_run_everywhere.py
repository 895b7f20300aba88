"""One table of behaviours, and every runtime that runs images, as root and as an ordinary user.

The probe below runs once in each case and says what it finds; each line of the table looks at one thing of
that. What needs a run of its own (exit statuses, signals, streams) follows in the second part.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import pty
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from afenv.oci.layout import write_layout
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image, symlink

pytestmark = pytest.mark.services

CHILD = Path(__file__).with_name("run_child.py")
APPLETS = (
    *("cat", "chmod", "date", "dd", "env", "head", "hostname", "id", "kill", "ls", "mkdir", "ps", "sh"),
    *("sleep", "stat", "test", "touch", "wc", "wget", "whoami"),
)
NASTY = "a \"q\" 'x' $HOME `id` \\ \\n %s ! → é"
LINES = "one\n two\n"
ARGUMENTS = (
    "plain",
    "two words",
    "it's",
    'quo"te',
    "new\nline",
    "",
    "$HOME `id` \\",
    "-x",
    "Zµ→",
)

ACTIVATE = """
if [ -z "${AFENV_CONDA_ACTIVATED-}" ]; then
    export AFENV_CONDA_ACTIVATED=1 ENTERED="$HOME" PATH="/opt/more:$PATH"
fi
"""
PROBE = r"""
say() { printf '%s\0%s\0' "$1" "$2"; }
say folder "$(pwd)"
say user "$(id -u):$(id -g)"
say name "$(whoami 2>&1) $?"; say group "$(id -gn 2>&1)"
say umask "$(umask)"
say HOME "$HOME"; say USER "$USER"; say LOGNAME "$LOGNAME"; say PATH "$PATH"; say LANG "$LANG"
say NASTY "$NASTY"; say LINES "$LINES|"; say GIVEN "$GIVEN"; say OVERRIDDEN "$OVERRIDDEN"
say SECRET "${AFENV_TEST_SECRET-unset}${http_proxy-}"
say hostname "$(hostname)"
say terminal "$(test -t 0 && printf 0; test -t 1 && printf 1; test -t 2 && printf 2)"
say home-is-empty "$(ls -A "$HOME")"
for place in "$HOME" /tmp /var/tmp /dev/shm; do
    echo text > "$place/file" && printf '#!/bin/sh\necho ran\n' > "$place/script"
    chmod 755 "$place/script"
    case $place in
    /dev/shm) say "$place" "$(cat "$place/file")" ;;
    *) say "$place" "$("$place/script")" ;;
    esac
done 2>&1
say processes "$(ps | wc -l)"
say devices "$(head -c 3 /dev/zero | wc -c)$(head -c 3 /dev/urandom | wc -c)$(echo lost > /dev/null)"
say read-only "$(cat /data/input; { echo more > /data/input; } 2>/dev/null || echo refused)"
echo written > /results/output; say writable "$(cat /results/output)"
say nested "$(cat /opt/deep/er/input)"
mkdir made; touch made/plain; printf '#!/bin/sh\n' > made/program; chmod 755 made/program
touch made/"$(printf '\377')"; say non-utf8 "$(ls made | wc -l)"
say inside "$(cat /etc/sample)"
say zone "$(date +%Z)"
say network "$(wget -q -O - "$URL" 2>&1)"
for word; do say argument "$word"; done
"""


@dataclass(frozen=True)
class Case:
    """A runtime, what it runs, and who runs it."""

    runtime: str
    user: str
    form: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.runtime, self.form, self.user)))


CASES = [
    Case(runtime, user, form)
    for user in ("root", "user")
    for runtime, form in (
        ("docker", ""),
        ("podman", ""),
        ("apptainer", "sif"),
        ("apptainer", "sandbox"),
        ("userns", ""),
    )
]


def _missing(what: str) -> None:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is needed")
    pytest.skip(f"{what} is needed")


def _ordinary_user() -> pwd.struct_passwd:
    """An ordinary user with subordinate IDs, made in CI if there is none."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    for attempt in range(2):
        for line in Path("/etc/subuid").read_text().splitlines():
            with contextlib.suppress(KeyError, ValueError):
                found = pwd.getpwnam(line.split(":")[0])
                if found.pw_uid >= 1000:
                    return found
        if attempt == 0 and os.environ.get("CI"):
            subprocess.run(["useradd", "--create-home", "afenv-test"], check=True)
    _missing("an ordinary user with a line in /etc/subuid")
    raise AssertionError


@dataclass
class Place:
    """Where a case runs: its user's own folders, store, and images."""

    case: Case
    base: Path
    user: pwd.struct_passwd
    variables: dict[str, str]
    layouts: dict[str, Path] = field(default_factory=dict)
    mounts: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The working directory, with a name that options are split at."""
        return self.base / 'a folder, "quoted": 50%'

    def command(self, *words: str | bytes, **more: Any) -> list[str]:
        """The command line of the child."""
        groups = [Path("/var/run/docker.sock").stat().st_gid] if self.case.runtime == "docker" else []
        asked = {
            "uid": self.user.pw_uid,
            "gid": self.user.pw_gid,
            "groups": groups,
            "store": str(self.base / "store"),
            "layout": str(self.layouts[more.pop("image", "plain")]),
            "runtime": self.case.runtime,
            "command": [os.fsencode(word).hex() for word in words],
            "env": {},
            "mounts": [],
            "network": True,
            "entrypoint": True,
            "prepare": False,
            "host": "",
            "grace": 0,
        }
        return [sys.executable, str(CHILD), json.dumps(asked | more)]

    def start(self, *words: str | bytes, **more: Any) -> subprocess.Popen[bytes]:
        """Start a command with pipes for its streams."""
        pipes = {name: more.pop(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
        return subprocess.Popen(self.command(*words, **more), cwd=self.work, env=self.variables, **pipes)

    def run(self, *words: str | bytes, data: bytes = b"", **more: Any) -> tuple[int, bytes, bytes]:
        """Run a command to its end: exit status, output, errors."""
        process = self.start(*words, **more)
        out, err = process.communicate(data, timeout=120)
        return process.returncode, out, err


def _images(store: ContentStore, place: Path) -> dict[str, Path]:
    busybox = shutil.which("busybox")
    sourced = "/opt/conda/etc/conda/afenv-activate.sh"
    scripts = {  # what afenv/layers/conda_activation.py writes where a script is left to the start
        "opt/conda/bin/afenv-activate": f'. {sourced}\nexec "$@"\n',
        sourced[1:]: ACTIVATE,
        ".singularity.d/env/91-afenv-conda.sh": f". {sourced}\n",
    }
    layers = [
        (
            folder("bin"),
            Member(path="bin/busybox", content=Path(str(busybox)).read_bytes(), mode=0o755),
            *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
            *(folder(name) for name in ("dev", "etc", "home", "opt", "proc", "root", "run", "sys", "var")),
            Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n"),
            Member(path="etc/group", content=b"root:x:0:\n"),
            Member(path="etc/sample", content=b"from the image"),
            Member(path="etc/readable", content=b"no program"),
            folder("tmp", 0o1777),
            folder("var/tmp", 0o1777),
        ),
        tuple(
            Member(path=path, content=f"#!/bin/sh\n{text}".encode(), mode=0o755)
            for path, text in scripts.items()
        ),
    ]
    variables = {"NASTY": NASTY, "LINES": LINES, "OVERRIDDEN": "no"}
    found = {}
    for name, entrypoint in (("plain", ()), ("entered", ("/opt/conda/bin/afenv-activate",))):
        image = make_image(store, layers, variables=variables, entrypoint=entrypoint)
        write_layout(image, store, place / name)
        found[name] = place / name
    return found


@pytest.fixture(scope="module", params=CASES, ids=str)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place for each case, with the images brought into the runtime."""
    case: Case = request.param
    if case.user == "root" and os.getuid() != 0:
        pytest.skip("only root can be root")
    command = {"docker": "/usr/bin/docker", "userns": "bwrap"}.get(case.runtime, case.runtime)
    if shutil.which(command) is None:
        _missing(command)
    if shutil.which("busybox") is None:
        _missing("busybox, without shared libraries,")
    user = pwd.getpwuid(0) if case.user == "root" else _ordinary_user()
    base = Path(tempfile.mkdtemp(prefix="afenv-run-test-"))
    runc = shutil.which("runc")
    made = Place(
        case=case,
        base=base,
        user=user,
        variables={
            "PATH": os.environ["PATH"],
            "HOME": user.pw_dir,
            "AFENV_TEST_SECRET": "of the host",
            "AFENV_DOCKER": "/usr/bin/docker",
            "AFENV_PODMAN": os.environ.get("AFENV_PODMAN")
            or "podman" + (f" --runtime {runc}" if runc else ""),
            "AFENV_APPTAINER_IMAGE": case.form,
            "NASTY": "of the host",
            "http_proxy": "http://127.0.0.1:9/",
            "TERM": "dumb",
            "TZ": "Pacific/Auckland",
        },
    )
    made.layouts = _images(ContentStore(base / "store"), base)
    for name in ("data", "results"):
        (base / name).mkdir()
        (base / name / "input").write_text("input\n")
    made.work.mkdir()
    for path in (base, *base.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    base.chmod(0o755)
    made.mounts = [
        (str(base / "data"), "/data", True),
        (str(base / "results"), "/results", False),
        (str(base / "data"), "/opt/deep/er", True),
    ]
    try:
        for name in made.layouts:
            status, _, err = made.run(image=name, prepare=True)
            assert status == 0, err.decode()
        yield made
    finally:
        if case.runtime in ("docker", "podman"):
            _forget(made)
        shutil.rmtree(base, ignore_errors=True)


def _forget(place: Place) -> None:
    from afenv.oci.read import open_image

    command = place.variables[f"AFENV_{place.case.runtime.upper()}"].split()
    more = {} if place.user.pw_uid == os.getuid() else {"user": place.user.pw_uid, "group": place.user.pw_gid}
    if place.case.runtime == "docker":
        more = {}
    for layout in place.layouts.values():
        with open_image(layout) as opened:
            name = opened.image.image_id.removeprefix("sha256:")
        subprocess.run(
            [*command, "image", "rm", "--force", name],
            capture_output=True,
            check=False,
            env=place.variables,
            cwd="/",
            **more,  # type: ignore[call-overload]
        )


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"reached")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A web server on the host's own loopback interface."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


Facts = dict[str, list[bytes]]


@pytest.fixture(scope="module")
def facts(place: Place, url: str) -> Facts:
    """What the probe finds, by name."""
    status, out, err = place.run(
        *("sh", "-c", PROBE, "sh", *ARGUMENTS),
        env={"GIVEN": NASTY, "OVERRIDDEN": "yes", "URL": url},
        mounts=place.mounts,
    )
    assert status == 0, err.decode()
    parts = out.split(b"\0")
    found: Facts = {}
    for key, value in zip(parts[::2], parts[1::2], strict=False):
        found.setdefault(key.decode(), []).append(value)
    found["errors"] = [err]
    return found


def _is(name: str, *values: str | bytes) -> Callable[[Facts, Place], None]:
    def check(facts: Facts, _: Place) -> None:
        assert facts[name] == [os.fsencode(value) for value in values]

    return check


def _folder(facts: Facts, place: Place) -> None:
    assert facts["folder"] == [os.fsencode(place.work)]


def _user(facts: Facts, place: Place) -> None:
    assert facts["user"] == [f"{place.user.pw_uid}:{place.user.pw_gid}".encode()]


def _named(facts: Facts, place: Place) -> None:
    name, status = facts["name"][0].split()
    assert status == b"0"
    assert name in (b"root", b"analyst", place.user.pw_name.encode())
    assert len(facts["group"][0].split()) == 1, facts["group"]


def _owner(_: Facts, place: Place) -> None:
    for name in ("made", "made/plain", "made/program"):
        assert (place.work / name).stat().st_uid == place.user.pw_uid
        assert (place.work / name).stat().st_gid == place.user.pw_gid


def _modes(facts: Facts, place: Place) -> None:
    assert int(facts["umask"][0], 8) == 0o022
    modes = [stat.S_IMODE((place.work / name).stat().st_mode) for name in ("made", "made/plain")]
    assert modes == [0o755, 0o644]


def _scratch(facts: Facts, _: Place) -> None:
    assert facts["home-is-empty"] == [b""]
    for name in ("/run/home", "/tmp", "/var/tmp"):
        assert facts[name] == [b"ran"]
    assert facts["/dev/shm"] == [b"text"]


def _name_of_host(facts: Facts, _: Place) -> None:
    assert facts["hostname"] == [socket.gethostname().encode()]


def _names(facts: Facts, place: Place) -> None:
    assert facts["non-utf8"] == [b"3"]
    assert "\udcff" in {path.name for path in (place.work / "made").iterdir()}


def _alone(facts: Facts, _: Place) -> None:
    assert int(facts["processes"][0]) < 8


TABLE: dict[str, Callable[[Facts, Place], None]] = {
    "the working directory is the host's, whatever its name": _folder,
    "the user and the group are the caller's": _user,
    "the user and the group have names": _named,
    "what is written belongs to the caller": _owner,
    "the umask is 022": _modes,
    "HOME is the same everywhere": _is("HOME", "/run/home"),
    "USER is the same everywhere": _is("USER", "analyst"),
    "LOGNAME is the same everywhere": _is("LOGNAME", "analyst"),
    "PATH is the image's": _is("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    "LANG is the image's": _is("LANG", "C.UTF-8"),
    "variables of the image hold, with any characters": _is("NASTY", NASTY),
    "variables of the image may have several lines": _is("LINES", LINES + "|"),
    "variables that are given arrive, with any characters": _is("GIVEN", NASTY),
    "variables that are given override the image's": _is("OVERRIDDEN", "yes"),
    "the host's environment stays outside": _is("SECRET", "unset"),
    "the host's time zone stays outside": _is("zone", "UTC"),
    "there is no terminal unless one is asked for": _is("terminal", ""),
    "HOME, /tmp, /var/tmp and /dev/shm can be used": _scratch,
    "the name of the host is the host's": _name_of_host,
    "the host's network can be used": _is("network", "reached"),
    "devices are there": _is("devices", "33"),
    "a read-only mount can be read and not written": _is("read-only", "input\nrefused"),
    "a mount can be written": _is("writable", "written"),
    "a mount may lie deeper than the image's folders": _is("nested", "input"),
    "names need not be UTF-8": _names,
    "arguments arrive as they are": _is("argument", *ARGUMENTS),
    "the image's files are there": _is("inside", "from the image"),
    "no other process is seen": _alone,
    "the runtime says nothing of its own": _is("errors", ""),
}


@pytest.mark.parametrize("behaviour", TABLE)
def test_behaviour(behaviour: str, facts: Facts, place: Place) -> None:
    TABLE[behaviour](facts, place)


@pytest.mark.parametrize("status", [3, 125, 255])
def test_the_exit_status_is_passed_on(place: Place, status: int) -> None:
    assert place.run("sh", "-c", f"exit {status}") == (status, b"", b"")


def test_a_command_that_a_signal_ends_has_128_and_its_number(place: Place) -> None:
    status, _, _ = place.run("sh", "-c", "kill -KILL $$")
    assert status == 128 + signal.SIGKILL


WAIT = "trap 'echo caught; exit 41' {}; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_reach_the_command(place: Place, name: str) -> None:
    process = place.start("sh", "-c", WAIT.format(name[3:]))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)  # Podman passes signals on from a moment after the command has begun
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (41, b"caught\n"), err


def test_a_command_without_handlers_ends_on_sigterm(place: Place) -> None:
    process = place.start("sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - before < 5


def test_a_command_that_does_not_want_to_end_is_ended(place: Place) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    process = place.start("sh", "-c", script, grace=1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL


def test_streams_are_apart_and_carry_any_bytes(place: Place) -> None:
    data = bytes(range(256)) * 4096
    status, out, err = place.run("sh", "-c", "cat; echo beside >&2", data=data)
    assert (status, out, err) == (0, data, b"beside\n")


def test_large_output(place: Place) -> None:
    size = 32 << 20
    status, out, _ = place.run("dd", "if=/dev/zero", "bs=1048576", "count=32")
    assert (status, len(out)) == (0, size)


def test_a_command_that_is_not_there(place: Place) -> None:
    status, out, err = place.run("no-such-command")
    assert (status, out) == (127, b"")
    assert b"error E503: there is no command 'no-such-command'" in err
    assert place.run("sh", "-c", "exit 127") == (127, b"", b""), "the command's own status"


def test_a_file_that_is_not_executable(place: Place) -> None:
    status, out, err = place.run("/etc/readable")
    assert (status, out) == (126, b"")
    assert b"error E504: '/etc/readable'" in err


def test_arguments_that_are_not_utf8_arrive_or_are_refused(place: Place) -> None:
    status, out, err = place.run("sh", "-c", 'printf %s "$1"', "sh", b"\xff\xfe")
    if place.case.runtime == "userns":
        assert (status, out) == (0, b"\xff\xfe")
    else:
        assert (status, out) == (2, b"")
        assert b"error E030" in err


def test_no_network(place: Place, url: str) -> None:
    script = f"wget -q -O - {url} || echo refused; hostname; cat /proc/net/dev"
    status, out, _ = place.run("sh", "-c", script, network=False)
    lines = out.decode().splitlines()
    assert (status, lines[:2]) == (0, ["refused", socket.gethostname()])
    assert [line.split(":")[0].strip() for line in lines if ":" in line] == ["lo"]


@pytest.mark.parametrize("entrypoint", [True, False], ids=["run", "shell"])
def test_the_environment_is_activated(place: Place, entrypoint: bool) -> None:
    """By the image's entry point, which a shell keeps, and once."""
    script = "echo $ENTERED $PATH"
    status, out, err = place.run("sh", "-c", script, image="entered", entrypoint=entrypoint)
    path = "/opt/more:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (status, out) == (0, f"/run/home {path}\n".encode()), err


def test_a_terminal(place: Place) -> None:
    ours, theirs = pty.openpty()
    try:
        process = place.start(
            *("sh", "-c", "test -t 0 && test -t 1 && echo terminal $TERM; read word; echo got $word"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.write(ours, b"typed\n")
        said = b""
        deadline = time.monotonic() + 60
        while b"got typed" not in said and time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                with contextlib.suppress(OSError):
                    said += os.read(ours, 4096)
        assert process.wait(timeout=30) == 0, said
    finally:
        os.close(ours)
    assert b"terminal dumb" in said
    assert b"got typed" in said


def test_nothing_is_left_behind(place: Place) -> None:
    """Processes that the command started end with it, and the folders for what it wrote are removed."""
    mark = f"60.{os.getpid()}"
    before = set(Path(tempfile.gettempdir()).glob("afenv-run-[!t]*"))
    script = (
        f"ls -A $HOME /var/tmp; ls /tmp/file; sleep {mark} >/dev/null 2>&1 & mkdir -m 0 /tmp/closed; exit 5"
    )
    status, out, _ = place.run("sh", "-c", script)
    assert status == 5
    assert b"file" not in out  # of the probe
    listed = functools.partial(subprocess.run, ["ps", "ax", "-o", "args"], capture_output=True, text=True)
    assert f"sleep {mark}\n" not in listed(check=True).stdout
    own = {path for path in Path(tempfile.gettempdir()).glob("afenv-run-[!t]*") if _mine(path, place)}
    assert not own - before


def _mine(path: Path, place: Place) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_uid == place.user.pw_uid
    return False


def only(*cases: Case) -> pytest.MarkDecorator:
    """These cases of the table alone."""
    return pytest.mark.parametrize("place", cases, ids=str, indirect=True)


def needs_root() -> None:
    """Taking something away from a host is up to root."""
    if os.getuid() != 0:
        _missing("root")


@only(*(case for case in CASES if case.user == "user" and case.runtime in ("userns", "apptainer")))
def test_a_host_without_user_namespaces(place: Place) -> None:
    """What the kernel forbids is said, with what to ask the administrator for."""
    needs_root()
    status, out, err = place.run("sh", "-c", "echo ran", host="no namespaces")
    assert (status, out) == (3, b""), err
    assert b"error E502" in err
    assert b"user.max_user_namespaces=15000" in err


@only(Case("apptainer", "user", "sif"))
def test_a_host_without_fuse(place: Place) -> None:
    """An ordinary user's Apptainer runs a folder then, and says what is missing if it must not."""
    needs_root()
    status, out, err = place.run("sh", "-c", "echo ran", host="no fuse")
    assert (status, out) == (3, b"")
    assert b"error E502" in err
    assert b"/dev/fuse" in err
    place.variables["AFENV_APPTAINER_IMAGE"] = ""
    try:
        assert place.run("sh", "-c", "echo ran", host="no fuse") == (0, b"ran\n", b"")
    finally:
        place.variables["AFENV_APPTAINER_IMAGE"] = place.case.form


@only(*(case for case in CASES if case.runtime == "docker"))
def test_an_engine_that_does_not_answer(place: Place) -> None:
    command = place.variables["AFENV_DOCKER"]
    place.variables["AFENV_DOCKER"] = f"{command} --host unix:///nowhere/docker.sock"
    try:
        status, _, err = place.run("sh", "-c", "echo ran")
    finally:
        place.variables["AFENV_DOCKER"] = command
    assert status == 3
    assert b"error E502: docker does not work: " in err
    assert b"docker.sock" in err
