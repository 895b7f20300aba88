"""A registry in memory that fails as it is told."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


class FakeRegistry:
    """Blobs and manifests by repository; ``requests`` has method, path and headers of each request.

    ``faults`` maps a method to actions that are used up one by one: a status, or a callable that takes
    the handler and answers in its own way.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, list[int | Callable[[Any], None]]] = {}
        self.allowed: set[str] | None = None  # values of Authorization
        self.challenge = ""
        self.tokens: dict[str, str] = {}  # what the token server gives for a value of Authorization
        self.elsewhere = ""  # another host that takes the uploads
        self._guard = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def dispatch(self) -> None:
                registry.handle(self)

            do_GET = do_HEAD = do_POST = do_PUT = dispatch

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def methods(self) -> list[str]:
        """The methods of the requests, sorted."""
        return sorted(method for method, _, _ in self.requests)

    def handle(self, handler: Any) -> None:
        """Answer a request, after the faults that wait for its method."""
        length = int(handler.headers.get("Content-Length") or 0)
        with self._guard:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self.requests.append((handler.command, handler.path, headers))
            waiting = self.faults.get(handler.command) or []
            fault = waiting.pop(0) if waiting else None
        if callable(fault):
            fault(handler)
            return
        body = handler.rfile.read(length)
        if fault is not None:
            handler.answer(fault, b'{"errors": [{"code": "FAULT", "message": "as told"}]}')
            return
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            self._token(handler, headers, body)
            return
        if self.allowed is not None and headers.get("authorization") not in self.allowed:
            handler.answer(401, WWW_Authenticate=self.challenge)
            return
        repository, kind, name = parts.path.removeprefix("/v2/").rsplit("/", 2)
        if repository.endswith("/blobs"):
            repository, kind, name = repository.removesuffix("/blobs"), "uploads", name
        {"blobs": self._blob, "uploads": self._upload, "manifests": self._manifest}[kind](
            handler, repository, name, query, body
        )

    def _token(self, handler: Any, headers: dict[str, str], body: bytes) -> None:
        key = headers.get("authorization") or body.decode()
        found = next((token for known, token in self.tokens.items() if known in key), None)
        if found is None:
            handler.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}')
        else:
            handler.answer(200, json.dumps({"token": found}).encode())

    def _blob(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        handler.answer(200 if name in self.blobs.get(repository, {}) else 404)

    def _upload(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        own = self.blobs.setdefault(repository, {})
        if handler.command == "POST":
            digest, source = query.get("mount"), self.blobs.get(query.get("from", ""), {})
            if digest in source:
                own[digest] = source[digest]
                handler.answer(201)
            else:
                prefix = f"http://{self.elsewhere}" if self.elsewhere else ""
                handler.answer(202, Location=f"{prefix}/v2/{repository}/blobs/uploads/1?state=x")
            return
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if digest != query["digest"] or query["state"] != "x":
            handler.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}')
            return
        own[digest] = body
        handler.answer(201)

    def _manifest(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        if handler.command != "PUT":
            data = self.manifests.get((repository, name))
            handler.answer(404 if data is None else 200, data or b"")
            return
        document = json.loads(body)
        needed = {part["digest"] for part in (document["config"], *document["layers"])}
        if not needed <= self.blobs.get(repository, {}).keys():
            handler.answer(404, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}')
            return
        self.manifests[repository, name] = body
        handler.answer(201, Docker_Content_Digest="sha256:" + hashlib.sha256(body).hexdigest())


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that can be told to fail."""
    found = FakeRegistry()
    yield found
    found.close()


@pytest.fixture
def other_registry() -> Iterator[FakeRegistry]:
    """A second one."""
    found = FakeRegistry()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home without credentials; the folder for Docker's configuration comes back."""
    for name in ("REGISTRY_AUTH_FILE", "AFENV_PLAIN_HTTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"
