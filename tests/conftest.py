"""What every test shares."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import hashlib
import importlib.util
import io
import json
import lzma
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import zstandard

from afenv.documents.lock import LockedConda, LockedDeb, LockedFile
from afenv.settings import Settings
from afenv.store.content import ContentStore

hypothesis.settings.register_profile("quick", deadline=None, max_examples=50)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Take interruptions, also where a shell started the tests in the background and so had them ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    """An empty content store."""
    return ContentStore(tmp_path / "cache")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings without mirrors, for the folder of ``store``."""
    return Settings(cache_folder=tmp_path / "cache", jobs=2)


class HttpServer:
    """A web server on 127.0.0.1 that serves what it is given, and fails as it is told.

    ``requests`` records each request's path and headers. The faults of a path are used up one by one, a
    request each; then it is served correctly, with ranges and entity tags.
    """

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ranges = True  # whether a part may be asked for
        self.lengths = True  # whether the length is announced
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                path = self.path
                server.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
                waiting = server.faults.get(path, [])
                try:
                    if waiting:
                        waiting.pop(0)(server, self)
                    else:
                        server.serve(self)
                except ConnectionError:
                    self.close_connection = True

            def do_HEAD(self) -> None:
                """Whether there is such a path; without faults, and not recorded."""
                content = server.contents.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def put(self, path: str, content: bytes, *faults: Fault) -> str:
        """Serve ``content`` at ``path``, after these faults; the URL."""
        self.contents[path] = content
        self.faults[path] = list(faults)
        return self.url + path

    def file(self, path: str, content: bytes, *faults: Fault) -> LockedFile:
        """Like :meth:`put`; the record that a lock has of it."""
        url = self.put(path, content, *faults)
        return LockedFile(urls=(url,), size=len(content), sha256=hashlib.sha256(content).hexdigest())

    def count(self, path: str) -> int:
        """How often the path was asked for."""
        return sum(1 for asked, _ in self.requests if asked == path)

    def serve(self, handler: BaseHTTPRequestHandler, until: int | None = None, pause: float = 0.0) -> None:
        """Answer correctly; or only ``until`` that many bytes of the body, or slowly."""
        content = self.contents.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if handler.headers.get("If-None-Match") == tag:
            handler.send_response(304)
            handler.end_headers()
            return
        first = 0
        asked = handler.headers.get("Range")
        if asked and self.ranges:
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            if first >= len(content):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("ETag", tag)
        body = content[first:]
        if self.lengths:
            handler.send_header("Content-Length", str(len(body)))
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        body = body if until is None else body[:until]
        step = 1000 if pause else max(len(body), 1)
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            self.closing.wait(pause)

    def close(self) -> None:
        """Stop serving; stalled requests end."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Fault:
    """How one request fails; made by the class methods."""

    def __init__(self, act: Callable[[HttpServer, Any], None]) -> None:
        self._act = act

    def __call__(self, server: HttpServer, handler: BaseHTTPRequestHandler) -> None:
        self._act(server, handler)

    @classmethod
    def status(cls, code: int, body: bytes = b"no", **headers: str) -> Fault:
        """An answer of that status; ``Retry_After="1"`` is the header Retry-After."""

        def act(_: HttpServer, handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return cls(act)

    @classmethod
    def redirect(cls, url: str) -> Fault:
        """A redirect to another URL."""
        return cls.status(302, Location=url)

    @classmethod
    def cut(cls, after: int) -> Fault:
        """The connection is closed in good order after that many bytes of the body."""

        def act(server: HttpServer, handler: BaseHTTPRequestHandler) -> None:
            server.serve(handler, until=after)
            handler.close_connection = True

        return cls(act)

    @classmethod
    def reset(cls, after: int) -> Fault:
        """The connection is reset after that many bytes of the body."""

        def act(server: HttpServer, handler: BaseHTTPRequestHandler) -> None:
            if after:
                server.serve(handler, until=after)
                handler.wfile.flush()
                time.sleep(0.05)  # or the reset overtakes what was sent
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True

        return cls(act)

    @classmethod
    def stall(cls, after: int) -> Fault:
        """Nothing comes any more after that many bytes of the body."""

        def act(server: HttpServer, handler: BaseHTTPRequestHandler) -> None:
            server.serve(handler, until=after)
            handler.wfile.flush()
            server.closing.wait(30)
            handler.close_connection = True

        return cls(act)

    @classmethod
    def slow(cls, pause: float) -> Fault:
        """1000 bytes, a pause in seconds, and so on."""
        return cls(lambda server, handler: server.serve(handler, pause=pause))

    @classmethod
    def wrong(cls) -> Fault:
        """Other bytes, as many as there should be."""

        def act(server: HttpServer, handler: BaseHTTPRequestHandler) -> None:
            right = server.contents[handler.path]
            server.contents[handler.path] = bytes(byte ^ 1 for byte in right)
            try:
                server.serve(handler)
            finally:
                server.contents[handler.path] = right

        return cls(act)


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    """A web server that can be told to fail."""
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def other_http_server() -> Iterator[HttpServer]:
    """A second one, which counts as another host by the name ``localhost``."""
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def fault() -> type[Fault]:
    """The faults that ``http_server`` knows."""
    return Fault


def _compress(data: bytes, compression: str) -> bytes:
    if compression == ".xz":
        return lzma.compress(data, preset=0)
    if compression == ".gz":
        return gzip.compress(data, mtime=0)
    if compression == ".bz2":
        return bz2.compress(data)
    if compression == ".lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE)
    if compression == ".zst":
        return zstandard.ZstdCompressor().compress(data)
    return data


def _tar(members: Iterable[tuple[str, str, Any]]) -> bytes:
    """A tar of members ``(path, kind, content)``; kinds are those of ``TarMember``, or a tar type."""
    kinds = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE}
    kinds |= {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, kind, content in members:
            info = tarfile.TarInfo(path)
            kind, _, mode = kind.partition(" ")
            info.type = kinds.get(kind, kind.encode())
            info.mode = int(mode, 8) if mode else 0o755 if kind == "directory" else 0o644
            if kind == "file":
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content or ""
                tar.addfile(info)
    return buffer.getvalue()


class DebMaker:
    """Makes Debian packages by hand, malformed ones too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def tar(members: Iterable[tuple[str, str, Any]]) -> bytes:
        """A tar archive of members ``(path, kind, content or target)``."""
        return _tar(members)

    @staticmethod
    def ar(parts: Iterable[tuple[str, bytes]]) -> bytes:
        """An ``ar`` archive."""
        data = b"!<arch>\n"
        for name, content in parts:
            data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
            data += content + b"\n" * (len(content) % 2)
        return data

    def archive(
        self,
        members: Iterable[tuple[str, str, Any]] = (),
        *,
        control: Mapping[str, str | bytes] | None = None,
        data: bytes | None = None,
        compression: str = ".xz",
        **fields: str,
    ) -> bytes:
        """The bytes of a package; ``data`` is a tar archive to be used as it is."""
        stanza = {"Package": "sample", "Version": "1.0", "Architecture": "amd64", "Description": "a sample"}
        stanza |= {name.replace("_", "-"): value for name, value in fields.items()}
        text = "".join(f"{name}: {value}\n" for name, value in stanza.items())
        files = {"control": text, **(control or {})}
        control_tar = _tar(
            ("./" + name, "file", content.encode() if isinstance(content, str) else content)
            for name, content in files.items()
        )
        return self.ar(
            [
                ("debian-binary", b"2.0\n"),
                (f"control.tar{compression}", _compress(control_tar, compression)),
                (f"data.tar{compression}", _compress(_tar(members) if data is None else data, compression)),
            ]
        )

    def write(self, content: bytes, *, name: str = "sample") -> tuple[LockedDeb, Path]:
        """Put a package into a file; the locked package that it is, and the file."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.folder / f"{digest}.deb"
        path.write_bytes(content)
        file = LockedFile(urls=(f"https://deb.debian.org/{name}.deb",), size=len(content), sha256=digest)
        deb = LockedDeb(name=name, version="1.0", architecture="amd64", source=name, file=file)
        return deb, path

    def __call__(
        self, name: str, members: Iterable[tuple[str, str, Any]] = (), **options: Any
    ) -> tuple[LockedDeb, Path]:
        """A package of that name, in a file."""
        return self.write(self.archive(members, Package=name, **options), name=name)


@pytest.fixture
def make_deb(tmp_path: Path) -> DebMaker:
    """Makes Debian packages."""
    return DebMaker(tmp_path)


CHANNEL_PROGRAMS = Path(__file__).parent / "channel"


def _build_channel(folder: Path, part: str | None, environment: Mapping[str, str] | None = None) -> Path:
    """Call the program that builds the test channel."""
    command = [sys.executable, str(CHANNEL_PROGRAMS / "build.py"), str(folder)]
    command += ["--only", part] if part else []
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})})
    return folder


@pytest.fixture(scope="session")
def hard_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a conda channel with packages that are hard to install; made of nothing."""
    return _build_channel(tmp_path_factory.mktemp("hard"), "hard")


@pytest.fixture(scope="session")
def toy_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a conda channel with small packages to solve, no Python among them; made of nothing."""
    return _build_channel(tmp_path_factory.mktemp("toy"), "toy")


@pytest.fixture(scope="session")
def core_channel() -> Path:
    """The folder of a conda channel with a Python that runs, physics packages and the toys.

    It is built from Debian and PyPI, so it needs them once; then it is kept in the user's cache for as
    long as the programs that build it stay as they are.
    """
    programs = sorted(path for path in CHANNEL_PROGRAMS.rglob("*") if path.suffix in (".py", ".txt", ".yaml"))
    key = hashlib.sha256(b"".join(path.read_bytes() for path in programs)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "afenv-test-channel"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process builds, the others wait
        if not (cache / key).exists():
            shutil.rmtree(cache / "unfinished", ignore_errors=True)
            downloads = {"AFENV_CACHE_DIR": str(cache / "downloads")}
            _build_channel(cache / "unfinished", None, downloads).rename(cache / key)
    return cache / key


@pytest.fixture
def serve_channel(http_server: HttpServer) -> Callable[[Path, str], str]:
    """Serve a channel's folder below a path of ``http_server``, such as ``/conda-forge``; its URL."""

    def serve(channel: Path, at: str) -> str:
        for path in sorted(channel.rglob("*")):
            if path.is_file():
                http_server.put(f"{at}/{quote(path.relative_to(channel).as_posix())}", path.read_bytes())
        return http_server.url + at

    return serve


class Oracle:
    """What py-rattler makes of a channel, in a process of its own."""

    def __call__(
        self, channel: Path | str, prefix: Path, *specs: str, status: int = 0
    ) -> list[dict[str, str]]:
        """Solve and install; the packages. Options of the program may stand among the specs."""
        command = [sys.executable, CHANNEL_PROGRAMS / "oracle.py", channel, prefix, *specs]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == status, done.stderr
        found: list[dict[str, str]] = json.loads(done.stdout or "[]")
        return found


@pytest.fixture(scope="session")
def rattler() -> Oracle:
    """Solves and installs conda packages with py-rattler: ``rattler(channel, prefix, spec, …)``."""
    return Oracle()


class CondaMaker:
    """Makes small conda packages in a folder, from a table of what they hold.

    A value of ``files`` is the content of a file, or ``("symlink", target)``, ``("hardlink", path)`` or
    ``("directory",)``. ``prefixes`` names the files with a prefix to replace: placeholder and mode.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        name: str,
        files: Mapping[str, Any],
        *,
        version: str = "1.0",
        build: str = "0",
        prefixes: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        executables: tuple[str, ...] = (),
        depends: tuple[str, ...] = (),
        noarch: str | None = None,
        entry_points: tuple[str, ...] = (),
        form: str = ".conda",
        old: bool = False,
        info: Mapping[str, bytes] = MappingProxyType({}),
        info_first: bool = True,
        edit: Callable[[dict[str, Any]], object] | None = None,
        record: Mapping[str, Any] = MappingProxyType({}),
        requested: bool = False,
    ) -> tuple[LockedConda, Path]:
        """The package. ``edit`` may change its ``paths.json``; ``old`` leaves that out."""
        subdir = "noarch" if noarch else "linux-64"
        index: dict[str, Any] = {"name": name, "version": version, "build": build, "build_number": 0}
        index |= {"depends": list(depends), "subdir": subdir, "arch": None, "platform": None}
        if noarch:
            index["noarch"] = noarch
        parts: dict[str, bytes] = {"index.json": json.dumps(index).encode()}
        if old:
            parts["files"] = "".join(f"{path}\n" for path in files).encode()
            if prefixes:
                lines = [f'"{old_}" {mode} "{path}"\n' for path, (old_, mode) in prefixes.items()]
                parts["has_prefix"] = "".join(lines).encode()
        else:
            value = {"paths_version": 1, "paths": [_conda_entry(p, files, prefixes) for p in sorted(files)]}
            if edit is not None:
                edit(value)
            parts["paths.json"] = json.dumps(value).encode()
        if noarch == "python":
            link = {"type": "python", "entry_points": list(entry_points)}
            parts["link.json"] = json.dumps({"noarch": link, "package_metadata_version": 1}).encode()
        parts |= info
        members = [
            (f"info/{key}", content, 0o644) for key, content in sorted(parts.items()) if content is not None
        ]
        content = [(path, files[path], 0o775 if path in executables else 0o664) for path in files]
        stem = f"{name}-{version}-{build}"
        path = self.folder / f"{stem}{form}"
        if form == ".conda":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
                for part, listed in (("pkg", content), ("info", members)):
                    tar = zstandard.ZstdCompressor().compress(_conda_tar(listed))
                    archive.writestr(f"{part}-{stem}.tar.zst", tar)
        else:
            both = [*members, *content] if info_first else [*content, *members]
            path.write_bytes(bz2.compress(_conda_tar(both)))
        data = path.read_bytes()
        file = LockedFile(
            urls=(f"https://conda.example.org/test/{subdir}/{path.name}",),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        locked = LockedConda(
            name=name,
            version=version,
            build=build,
            build_number=0,
            channel="https://conda.example.org/test",
            subdir=subdir,
            file=file,
            noarch=noarch,
            depends=depends,
            record=dict(record),
            requested=requested,
        )
        return locked, path


def _conda_tar(members: list[tuple[str, Any, int]]) -> bytes:
    """A tar archive of ``(path, content, mode)``, the content as for :class:`CondaMaker`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content, mode in members:
            member = tarfile.TarInfo(path)
            member.mode = mode
            member.mtime = 1_600_000_000
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            kinds = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "directory": tarfile.DIRTYPE}
            member.type = kinds.get(content[0], content[0])
            member.linkname = content[1] if len(content) > 1 else ""
            archive.addfile(member)
    return stream.getvalue()


def _conda_entry(
    path: str, files: Mapping[str, Any], prefixes: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    content = files[path]
    kind = content[0] if isinstance(content, tuple) else "hardlink"
    kind = {"symlink": "softlink"}.get(kind, kind)
    if isinstance(content, tuple) and content[0] == "hardlink":
        content = files[content[1]]
    data = content if isinstance(content, bytes) else b""
    entry: dict[str, Any] = {"_path": path, "path_type": kind}
    if kind != "directory":
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
    if path in prefixes:
        entry["prefix_placeholder"], entry["file_mode"] = prefixes[path]
    return entry


@pytest.fixture
def make_conda(tmp_path: Path) -> CondaMaker:
    """Makes conda packages."""
    folder = tmp_path / "conda"
    folder.mkdir()
    return CondaMaker(folder)


@pytest.fixture(scope="session")
def cvmfs() -> ModuleType:
    """What makes CVMFS repositories, and unpacks real ones: ``tests/cvmfs/making.py``."""
    path = Path(__file__).parent / "cvmfs" / "making.py"
    spec = importlib.util.spec_from_file_location("cvmfs_making", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def real_cvmfs(cvmfs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stratum with the repositories that the server's tools made."""
    folder = tmp_path_factory.mktemp("stratum")
    for name in ("sft.afenv.test", "data.afenv.test"):
        cvmfs.unpack_real(name, folder)
    return folder
