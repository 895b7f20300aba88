"""Git over HTTP, as git's own server program speaks it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pygit2
import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.resolve.code import resolve_code
from afenv.settings import Settings
from afenv.store.content import ContentStore

BACKEND = shutil.which("git") and shutil.which(
    "git-http-backend", path="/usr/lib/git-core:/usr/libexec/git-core"
)
pytestmark = pytest.mark.skipif(not BACKEND, reason="no git http-backend")


@dataclass
class Server:
    """A git server; ``secret`` asks for user ``me`` with that password, ``status`` refuses everything."""

    url: str = ""
    secret: str = ""
    status: int = 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = "Basic " + base64.b64encode(f"me:{made.secret}".encode()).decode()
            if made.status or (made.secret and self.headers.get("Authorization") != expected):
                self.send_response(made.status or 401)
                self.send_header("WWW-Authenticate", "Basic realm=x")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            environment = {
                "GIT_PROJECT_ROOT": str(tmp_path / "served"),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "127.0.0.1",
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            answer = subprocess.run(
                [str(BACKEND)], input=body, env=environment, capture_output=True, check=False
            )
            head, _, content = answer.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in {**fields, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    repository = pygit2.init_repository(str(tmp_path / "served" / "a.git"), bare=True, initial_head="main")
    repository.config["uploadpack.allowAnySHA1InWant"] = True  # as the large forges do
    who = pygit2.Signature("A", "a@example.org", 1_700_000_000, 0)
    tree = repository.TreeBuilder()
    tree.insert("select.py", repository.create_blob(b"1"), pygit2.enums.FileMode.BLOB)
    first = repository.create_commit("refs/heads/main", who, who, "1", tree.write(), [])
    repository.create_commit("refs/changes/1", who, who, "on no branch", tree.write(), [first])
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{web.server_port}/a.git"
    yield made
    web.shutdown()
    web.server_close()
    thread.join()


def lock(server: Server, tmp_path: Path, rev: str | None = "main", url: str = "") -> str | None:
    settings = Settings(cache_folder=tmp_path / "cache")
    source = CodeSource(git=url or server.url, rev=rev)
    return resolve_code(source, tmp_path, ContentStore(settings.cache_folder), settings).commit


def commit_of(tmp_path: Path, name: str) -> str:
    repository = pygit2.Repository(str(tmp_path / "served" / "a.git"))
    return str(repository.references[name].target)


def test_branches_and_the_default_one(server: Server, tmp_path: Path) -> None:
    expected = commit_of(tmp_path, "refs/heads/main")
    assert lock(server, tmp_path) == expected
    assert lock(server, tmp_path, None) == expected


def test_a_commit_on_no_branch(server: Server, tmp_path: Path) -> None:
    expected = commit_of(tmp_path, "refs/changes/1")
    assert lock(server, tmp_path, expected) == expected


@pytest.mark.parametrize(("status", "code"), [(404, "E110"), (403, "E131"), (500, "E201"), (503, "E201")])
def test_refusals(status: int, code: str, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(AfenvError) as caught:
        lock(server, tmp_path)
    assert caught.value.code == code, str(caught.value)


def test_passwords(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.secret = "open sesame"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(AfenvError) as caught:
        lock(server, tmp_path)
    assert caught.value.code == "E131"
    assert "netrc" in str(caught.value)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password wrong\n")
    netrc.chmod(0o600)
    with pytest.raises(AfenvError) as caught:
        lock(server, tmp_path)
    assert "refused" in str(caught.value)
    netrc.write_text('machine 127.0.0.1 login me password "open sesame"\n')
    assert lock(server, tmp_path) == commit_of(tmp_path, "refs/heads/main")
