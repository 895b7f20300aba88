"""Rucio's own client against a stand-in for the server, which answers what Rucio's REST interface documents.

``GET /auth/userpass`` gives ``X-Rucio-Auth-Token``; ``POST /replicas/list`` with that token gives one JSON
object a line. A real Rucio server is not reached by tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.data.access import DataAccess
from afenv.data.resolve import resolve
from afenv.documents.data import DataReference
from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store.content import ContentStore

from .conftest import missing

pytestmark = pytest.mark.services

TOKEN = "user-user-unknown-0123456789abcdef"
REPLICA = {
    "scope": "user.someone",
    "name": "1.root",
    "bytes": 3,
    "adler32": "024d0127",
    "md5": None,
    "states": {"A": "AVAILABLE", "B": "AVAILABLE"},
    "rses": {"A": ["root://a:1094//1.root"], "B": ["davs://b:443/1.root"]},
    "pfns": {
        "root://a:1094//1.root": {"rse": "A", "type": "DISK", "priority": 2, "domain": "wan"},
        "davs://b:443/1.root": {"rse": "B", "type": "DISK", "priority": 1, "domain": "wan"},
    },
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path != "/auth/userpass":
            self._answer(404)
        elif (self.headers["X-Rucio-Username"], self.headers["X-Rucio-Password"]) != ("someone", "secret"):
            error = {"ExceptionClass": "CannotAuthenticate", "ExceptionMessage": "wrong password"}
            self._answer(401, json.dumps(error).encode(), **error)
        else:
            expires = "Fri, 01 Jan 2100 00:00:00 UTC"
            self._answer(200, X_Rucio_Auth_Token=TOKEN, X_Rucio_Auth_Token_Expires=expires)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/replicas/list" or self.headers["X-Rucio-Auth-Token"] != TOKEN:
            self._answer(401)
        elif body["dids"] != [{"scope": "user.someone", "name": "signal"}]:
            error = {"ExceptionClass": "DataIdentifierNotFound", "ExceptionMessage": "not found"}
            self._answer(404, json.dumps(error).encode(), **error)
        else:
            lines = json.dumps(REPLICA) + "\n" + json.dumps(REPLICA | {"name": "2.root"}) + "\n"
            self._answer(200, lines.encode(), Content_Type="application/x-json-stream")


@pytest.fixture
def rucio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The configuration file of a client that uses the stand-in."""
    try:
        import rucio.client  # noqa: F401
    except ImportError:
        missing("the Python package rucio-clients")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    path = tmp_path / "rucio.cfg"
    path.write_text(
        f"[client]\nrucio_host = {url}\nauth_host = {url}\nauth_type = userpass\nusername = someone\n"
        f"password = secret\naccount = someone\nauth_token_file_path = {tmp_path}/token\n"
    )
    monkeypatch.setenv("RUCIO_CONFIG", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield path
    server.shutdown()
    server.server_close()
    thread.join()


def _resolve(name: str, tmp_path: Path) -> Any:
    settings = Settings(cache_folder=tmp_path / "cache", jobs=1)
    access = DataAccess(settings, ContentStore(tmp_path / "cache"), tmp_path)
    return resolve(DataReference(name="d", uri=f"rucio:user.someone:{name}"), access)


@pytest.mark.filterwarnings("ignore")
def test_the_real_client(rucio: Path, tmp_path: Path) -> None:
    found = _resolve("signal", tmp_path)
    assert [file.path for file in found.files] == ["1.root", "2.root"]
    assert found.files[0].uris == ("davs://b:443/1.root", "root://a:1094//1.root")
    assert found.files[0].checksums == {"adler32": "024d0127"}
    with pytest.raises(AfenvError) as caught:
        _resolve("none", tmp_path)
    assert caught.value.code == "E642"


def test_a_wrong_password(rucio: Path, tmp_path: Path) -> None:
    rucio.write_text(rucio.read_text().replace("= secret", "= a-wrong-secret"))
    code = (
        "from afenv.data.rucio import rucio_files\n"
        "from afenv.errors import AfenvError\n"
        "try: rucio_files('rucio:user.someone:signal')\n"
        "except AfenvError as error: print(error)\n"
    )
    # in a process of its own, for the client reads its configuration once
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert "E647" in done.stdout
    assert "a-wrong-secret" not in done.stdout + done.stderr
