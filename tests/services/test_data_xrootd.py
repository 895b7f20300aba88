"""Data on a real XRootD server, directly and through a real XCache, by the bindings and by xrdcp."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afenv.data.access import DataAccess
from afenv.data.fetch import fetch_data, part_name
from afenv.documents.data import LockedData, LockedDataFile
from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.lockfile import read_lock, write_lock
from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import Patience, SourceError

from .conftest import missing, tool

pytestmark = pytest.mark.services

PATIENCE = Patience(connect=3.0, stall=3.0, attempts=2, first_pause=0.1)
HEAD = "afenv: 1\nname: x\nenvironments:\n  default:\n    base: {debian: bookworm, packages: [python3]}\n"
CONTENT = os.urandom(9_000_000)


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """An xrootd of its own, with its folder."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        self.port = _port()
        self.data = folder / "data"
        self.log = folder / "log"
        for name in ("data", "admin", "run"):
            (folder / name).mkdir(parents=True)
        text = [
            f"xrd.port {self.port}",
            "xrd.allow host *",
            "all.export /",
            f"oss.localroot {self.data}",
            f"all.adminpath {folder / 'admin'}",
            f"all.pidpath {folder / 'run'}",
            *(line.format(port=self.port) for line in lines),
        ]
        (folder / "xrootd.cfg").write_text("\n".join(text) + "\n")
        command = [tool("xrootd"), "-c", str(folder / "xrootd.cfg")]
        if os.geteuid() == 0:  # it refuses to run as root
            subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
            command += ["-R", "nobody"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
            )
        deadline = time.monotonic() + 30
        while (
            "initialization completed" not in self.log.read_text(errors="replace").splitlines()[-1:].__str__()
        ):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(self.log.read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    @property
    def url(self) -> str:
        return f"root://127.0.0.1:{self.port}/"

    def put(self, path: str, content: bytes, mode: int = 0o644) -> str:
        """Put a file there; its URI."""
        target = self.data / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
        return self.url + path

    def send(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the user nobody can enter."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="afenv-xrootd-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(readable: Path) -> Iterator[Server]:
    """A server that keeps Adler-32."""
    found = Server(readable / "origin", "xrootd.chksum max 4 adler32")
    yield found
    found.close()


@pytest.fixture(scope="module")
def xcache(readable: Path) -> Iterator[Server]:
    """A caching proxy that forwards to any server (XCache)."""
    found = Server(
        readable / "xcache",
        "all.export /root:/",
        "ofs.osslib libXrdPss.so",
        "pss.cachelib libXrdPfc.so",
        "pss.origin =root,roots",
        "pfc.ram 1g",
    )
    yield found
    found.close()


@pytest.fixture(params=["bindings", "xrdcp"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How XRootD is read."""
    if request.param == "xrdcp":
        tool("xrdcp")
        monkeypatch.setenv("AFENV_XROOTD", "xrdcp")
    else:
        monkeypatch.delenv("AFENV_XROOTD", raising=False)
        try:
            import XRootD  # noqa: F401
        except ImportError:
            missing("the Python package xrootd")
    return str(request.param)


def new_access(folder: Path, **more: Any) -> DataAccess:
    cache = folder / "cache"
    settings = Settings(cache_folder=cache, jobs=2)
    return DataAccess(settings, ContentStore(cache), folder, patience=PATIENCE, **more)


def file_of(*uris: str, **more: Any) -> LockedDataFile:
    import hashlib

    known = {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    return LockedDataFile(path="e.root", size=len(CONTENT), checksums=known, uris=uris)


def data_of(file: LockedDataFile) -> LockedData:
    return LockedData(name="e", uri=file.uris[0], request="sha256:" + "0" * 64, files=(file,))


def project_of(folder: Path, *entries: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A locked project with this data, and how to call afenv in it."""
    project = folder / "project"
    project.mkdir()
    (project / "afenv.yaml").write_text(HEAD + "data:\n" + "".join(f"  - {entry}\n" for entry in entries))
    environment = LockedEnvironment(
        request="sha256:" + "1" * 64, platform="linux/amd64", as_of="2026-01-01T00:00:00Z"
    )
    write_lock(project / "afenv.lock", Lock(name="x", version="0", environments={"default": environment}))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "afenv", "-C", str(project), *words],
            env=os.environ | {"AFENV_CACHE_DIR": str(folder / "cache")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


def test_pin_check_fetch(server: Server, way: str, tmp_path: Path) -> None:
    import hashlib
    import zlib

    uri = server.put(f"/{way}/e.root", CONTENT)
    server.put(f"/{way}/more/f.root", b"f")
    server.put(f"/{way}/more/deep/g.txt", b"g")
    afenv = project_of(
        tmp_path,
        f'{{name: events, uri: "{uri}"}}',
        f'{{name: more, uri: "{server.url}/{way}/more/", select: ["*.root"]}}',
    )
    done = afenv("data", "pin")
    assert done.returncode == 0, done.stderr
    events, more = read_lock(tmp_path / "project" / "afenv.lock").data
    assert dict(events.files[0].checksums) == {
        "adler32": f"{zlib.adler32(CONTENT):08x}",
        "md5": hashlib.md5(CONTENT).hexdigest(),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert [file.path for file in more.files] == ["f.root"]
    done = afenv("data", "check")
    assert done.returncode == 0, done.stderr
    assert "✓ events: e.root is alive (adler32, size)" in done.stdout
    done = afenv("data", "fetch", "events")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT

    server.put(f"/{way}/e.root", CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))  # of the same size
    done = afenv("data", "check", "events")
    assert done.returncode == 1
    assert f"expected adler32:{zlib.adler32(CONTENT):08x}, found adler32:" in done.stdout
    (server.data / way / "e.root").unlink()
    done = afenv("data", "check", "events", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["state"] == "lost"


def test_a_transfer_goes_on(server: Server, way: str, tmp_path: Path) -> None:
    access = new_access(tmp_path)
    uri = server.put("/e.root", CONTENT)
    with access.source(uri).read(uri, 8_500_000) as content:
        assert (content.start, content.size) == (8_500_000, len(CONTENT))
        assert b"".join(content.chunks) == CONTENT[8_500_000:]
    file = file_of(uri)
    part = access.store.temporary_folder() / f"part-{part_name(file)}"
    part.write_bytes(CONTENT[:8_000_000])
    (path,) = fetch_data(data_of(file), tmp_path / "out", access=access, quiet=True)
    assert path.read_bytes() == CONTENT


def test_what_failures_mean(server: Server, way: str, tmp_path: Path) -> None:
    access = new_access(tmp_path)
    secret = server.put("/secret.root", b"x", 0o600)
    subprocess.run(["chown", "root", str(server.data / "secret.root")], check=False)
    cases = {server.url + "/none": "E103", f"root://127.0.0.1:{_port()}//x": "E201"}
    if os.geteuid() == 0:
        cases[secret + "?authz=Bearer%20a-secret-token"] = "E647"
    for uri, code in cases.items():
        with pytest.raises(SourceError) as caught, access.source(uri).read(uri, 0) as content:
            b"".join(content.chunks)
        assert caught.value.code == code, caught.value.reason
        assert "a-secret-token" not in caught.value.reason
    (server.data / "secret.root").unlink()


def test_a_server_that_stalls_is_left(server: Server, way: str, tmp_path: Path, http_server: Any) -> None:
    access = new_access(tmp_path)
    uri = server.put("/e.root", CONTENT)
    file = file_of(uri, http_server.put("/e.root", CONTENT))
    server.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        (path,) = fetch_data(data_of(file), tmp_path / "out", access=access, quiet=True)
        assert time.monotonic() - began < 60
    finally:
        server.send(signal.SIGCONT)
    assert path.read_bytes() == CONTENT
    assert http_server.count("/e.root") == 1
    alone = file_of(server.url + "/none", server.url + "/nor")
    with pytest.raises(AfenvError) as caught:
        fetch_data(data_of(alone), tmp_path / "b" / "out", access=new_access(tmp_path / "b"), quiet=True)
    assert caught.value.code == "E642"


def test_through_a_cache_of_the_facility(server: Server, xcache: Server, way: str, tmp_path: Path) -> None:
    uri = server.put(f"/cached/{way}/e.root", CONTENT)
    profile = tmp_path / "facility.yaml"
    profile.write_text(
        "afenv-facility: 1\nname: cached\nnetwork: none\n"
        f'data-proxies: [{{prefix: "root://", replacement: "{xcache.url}/root://"}}]\n'
    )
    afenv = project_of(tmp_path, f'{{name: events, uri: "{uri}"}}')
    done = afenv("data", "pin", "--no-keep")
    assert done.returncode == 0, done.stderr
    assert not list((xcache.data).rglob(f"{way}/e.root"))
    done = afenv("data", "fetch", "--facility", str(profile))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT
    deadline = time.monotonic() + 20
    while not list((xcache.data).rglob(f"{way}/e.root")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list((xcache.data).rglob(f"{way}/e.root"))  # it went through there
    assert afenv("data", "check", "--facility", str(profile)).returncode == 0


def test_the_same_server_over_http(readable: Path, tmp_path: Path) -> None:
    """XRootD's HTTP: ranges, and the checksum in the Digest header."""
    import zlib

    server = Server(
        readable / "http", "xrootd.chksum max 4 adler32", "xrd.protocol http:{port} libXrdHttp.so"
    )
    try:
        server.put("/e.root", CONTENT)
        uri = f"http://127.0.0.1:{server.port}/e.root"
        access = new_access(tmp_path)
        found = access.look(uri)
        assert found.size == len(CONTENT)
        assert found.checksums == {"adler32": f"{zlib.adler32(CONTENT):08x}"}
        with access.source(uri).read(uri, 5_000_000) as content:
            assert (content.start, content.size) == (5_000_000, len(CONTENT))
            assert b"".join(content.chunks) == CONTENT[5_000_000:]
        (path,) = fetch_data(data_of(file_of(uri)), tmp_path / "out", access=access, quiet=True)
        assert path.read_bytes() == CONTENT
        gone = f"http://127.0.0.1:{server.port}/none"
        with pytest.raises(SourceError) as caught:
            access.look(gone)
        assert caught.value.code == "E103"
    finally:
        server.close()
