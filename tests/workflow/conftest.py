"""A small world: a signed Debian archive and a Python package index on this machine, and the command line."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from afenv.cli import main
from afenv.resolve.debian import release

GOLDEN = Path(__file__).parent.parent / "golden" / "regenerate.py"
DATE = "Sun, 01 Mar 2026 12:00:00 UTC"
PUBLISHED = "2025-01-01T00:00:00Z"
JSON_INDEX = "application/vnd.pypi.simple.v1+json"
MANIFEST = """\
afenv: 1
name: small
version: "1.0"
code:
  - {path: src}
environments:
  default:
    base: {debian: bookworm, packages: [python3]}
    bytecode: false
    pypi: {dependencies: [alpha, beta]}
"""


def _golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_packages", GOLDEN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _golden()

EXTRA_DEBS: dict[str, Any] = {
    "libc6": ({"Version": "2.36-9"}, {}, [("usr/lib/libc.so.6", b"libc\n", 0o644)]),
    "libstdc++6": ({"Depends": "libc6"}, {}, [("usr/lib/libstdc++.so.6", b"libstdc++\n", 0o644)]),
    "python3": ({"Version": "3.11.2-1", "Depends": "python3.11-minimal, libpython3.11-stdlib"}, {}, []),
    "python3.11-minimal": (
        {"Version": "3.11.2-6", "Depends": "libc6"},
        {},
        [("usr/bin/python3.11", b"#!python\n", 0o755), ("usr/bin/python3", "symbolic link", "python3.11")],
    ),
    "libpython3.11-stdlib": (
        {"Version": "3.11.2-6", "Depends": "libc6"},
        {},
        [("usr/lib/python3.11/os.py", b"name = 'posix'\n", 0o644)],
    ),
    "busybox-static": ({}, {}, [("bin/busybox", b"#!busybox\n", 0o755)]),
    "rival-one": ({"Breaks": "rival-two"}, {}, []),
    "rival-two": ({}, {}, []),
}


@dataclass
class World:
    """Servers and a project. ``contents`` is what the servers have; what is changed there is served."""

    AS_OF = "2026-03-02T00:00:00Z"  # after everything was published

    folder: Path
    url: str
    contents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stalled: set[str] = field(default_factory=set)
    closing: threading.Event = field(default_factory=threading.Event)
    wheels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    capsys: pytest.CaptureFixture[str] | None = None

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def cache(self) -> Path:
        return Path(os.environ["AFENV_CACHE_DIR"])

    def write(self, path: str, text: str) -> None:
        place = self.project / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def afenv(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command in the project; exit status, standard output, standard error."""
        assert self.capsys is not None
        self.capsys.readouterr()
        status = main(["-C", str(self.project), *arguments])
        shown = self.capsys.readouterr()
        return status, shown.out, shown.err

    def afenv_json(self, *arguments: str) -> Any:
        status, out, err = self.afenv(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        command = [sys.executable, "-m", "afenv", "-C", str(self.project), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lock(self) -> Any:
        return json.loads((self.project / "afenv.lock").read_bytes())

    def publish_debs(self, version: str = "1.0", suite: str = "bookworm") -> None:
        """Publish the Debian packages as a suite, in that version where they have no other."""
        debs = golden.DEBS | EXTRA_DEBS
        stanzas = []
        for name, (fields, _, _) in debs.items():
            data = _make_deb(name)
            path = f"pool/main/{name[0]}/{name}/{name}_1.0_amd64.deb"
            self.contents[f"/debian/{path}"] = ("application/octet-stream", data)
            lines = {"Package": name, "Version": version, "Architecture": "amd64", **fields, "Filename": path}
            lines |= {
                "Size": str(len(data)),
                "SHA256": hashlib.sha256(data).hexdigest(),
                "Maintainer": "A <a@example.org>",
            }
            stanzas.append("".join(f"{key}: {value}\n" for key, value in lines.items()))
        for name, archive, text in (
            (suite, "debian", "\n".join(stanzas)),
            (f"{suite}-updates", "debian", ""),
            (f"{suite}-security", "debian-security", ""),
        ):
            self._publish_index(name, archive, text)

    def _publish_index(self, suite: str, archive: str, text: str) -> None:
        from pysequoia import SignatureMode, sign

        packages = lzma.compress(text.encode())
        path = "main/binary-amd64/Packages.xz"
        index = f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {DATE}\nSHA256:\n"
        index += f" {hashlib.sha256(packages).hexdigest()} {len(packages)} {path}\n"
        signed = bytes(sign(_key().signer(), index.encode(), mode=SignatureMode.CLEAR))
        self.contents[f"/{archive}/dists/{suite}/InRelease"] = ("text/plain", signed)
        self.contents[f"/{archive}/dists/{suite}/{path}"] = ("application/octet-stream", packages)

    def publish_wheel(self, name: str, version: str = "1.0") -> None:
        """Publish a wheel of :data:`golden.WHEELS` under a version."""
        data = golden.make_wheel(name) if version == "1.0" else _renamed_wheel(name, version)
        file = f"{name}-{version}-py3-none-any.whl"
        self.contents[f"/files/{file}"] = ("application/zip", data)
        self.wheels.setdefault(name, []).append(
            {
                "filename": file,
                "url": f"{self.url}/files/{file}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                "size": len(data),
                "upload-time": PUBLISHED,
                "yanked": False,
            }
        )
        self.publish_index(name)

    def publish_index(self, name: str) -> None:
        page = {"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": self.wheels[name]}
        self.contents[f"/simple/{name}/"] = (JSON_INDEX, json.dumps(page).encode())


def _make_deb(name: str) -> bytes:
    if name in EXTRA_DEBS:
        golden.DEBS = {**golden.DEBS, name: EXTRA_DEBS[name]}
    data: bytes = golden.make_deb(name)
    return data


def _renamed_wheel(name: str, version: str) -> bytes:
    files = golden.WHEELS[name]
    changed = {path.replace("-1.0.", f"-{version}."): data for path, data in files.items()}
    golden.WHEELS = {**golden.WHEELS, name: changed}
    try:
        original = golden.make_zip

        def make_zip(files: dict[str, bytes]) -> bytes:
            moved = {path.replace("-1.0.", f"-{version}."): data for path, data in files.items()}
            info = f"{name}-{version}.dist-info"
            moved[f"{info}/METADATA"] = moved[f"{info}/METADATA"].replace(
                b"Version: 1.0", f"Version: {version}".encode()
            )
            del moved[f"{info}/RECORD"]
            record = "".join(
                f"{path},{golden._record_hash(data)},{len(data)}\n" for path, data in moved.items()
            )
            moved[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
            result: bytes = original(moved)
            return result

        golden.make_zip = make_zip
        data: bytes = golden.make_wheel(name)
        return data
    finally:
        golden.make_zip = original
        golden.WHEELS = {**golden.WHEELS, name: files}


_KEYS: list[Any] = []


def _key() -> Any:
    if not _KEYS:
        from pysequoia import Tsk

        _KEYS.append(Tsk.generate("Test archive <test@example.org>"))
    return _KEYS[0]


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    """The servers with version 1.0 of everything, and a project that asks for the two wheels."""
    made: list[World] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            world = made[0]
            world.asked.append(self.path)
            if self.path in world.stalled:
                world.closing.wait(30)
            kind, body = world.contents.get(self.path, ("", None))
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    world = World(folder=tmp_path, url=url, capsys=capsys)
    made.append(world)
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "test.asc").write_text(str(_key().extract_certificate()))
    monkeypatch.setattr(release, "KEYS", keys)
    release.trusted_keys.cache_clear()
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(
        "AFENV_MIRRORS",
        f"https://deb.debian.org/={url}/ https://snapshot.debian.org/={url}/snapshot/",
    )
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple/")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    world.publish_debs()
    world.publish_wheel("alpha")
    world.publish_wheel("beta")
    world.write("afenv.yaml", MANIFEST)
    world.write("src/fit.py", "import beta\n")
    yield world
    world.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()
    release.trusted_keys.cache_clear()
