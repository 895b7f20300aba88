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

INDEX = "application/vnd.oci.image.index.v1+json"


class FakeRegistry:
    """A registry of OCI 1.1 in memory, at ``host``; ``requests`` has method, path, headers of each request.

    ``blobs`` are by repository and digest, ``manifests`` by repository and tag or digest, ``types`` the media
    types of manifests by digest. It knows pulls with ``Range``, uploads in chunks that are resumed (unless
    ``chunks`` is False), mounts, lists of tags (``page`` at a time), removal, and the referrers API with
    ``OCI-Subject`` (unless ``referrers`` is False: then it answers 404, like registries of OCI 1.0).

    ``faults`` maps a method to actions that are used up one by one: a status, or a callable that takes
    the handler and answers in its own way, or None for a request that is served as it should be.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, list[int | Callable[[Any], None] | None]] = {}
        self.allowed: set[str] | None = None  # values of Authorization
        self.challenge = ""
        self.tokens: dict[str, str] = {}  # what the token server gives for a value of Authorization
        self.elsewhere = ""  # another host that takes the uploads
        self.types: dict[str, str] = {}
        self.uploads: dict[str, bytearray] = {}
        self.referrers = True
        self.chunks = True
        self.page = 1000
        self._guard = threading.Lock()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

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

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = dispatch

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.registry = self  # type: ignore[attr-defined]  # for faults
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
        answers = {
            "blobs": self._blob,
            "uploads": self._upload,
            "manifests": self._manifest,
            "tags": self._tags,
            "referrers": self._referrers,
        }
        answers[kind](handler, repository, name, query, body)

    def _token(self, handler: Any, headers: dict[str, str], body: bytes) -> None:
        key = headers.get("authorization") or body.decode()
        found = next((token for known, token in self.tokens.items() if known in key), None)
        if found is None:
            handler.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}')
        else:
            handler.answer(200, json.dumps({"token": found}).encode())

    def _blob(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        data = self.blobs.get(repository, {}).get(name)
        if data is None:
            handler.answer(404)
            return
        first = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if not first:
            handler.answer(200, data)
        elif int(first) >= len(data):
            handler.answer(416)
        else:
            where = f"bytes {first}-{len(data) - 1}/{len(data)}"
            handler.answer(206, data[int(first) :], Content_Range=where)

    def _upload(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        own = self.blobs.setdefault(repository, {})
        if handler.command == "POST":
            digest, source = query.get("mount"), self.blobs.get(query.get("from", ""), {})
            if digest in source:
                own[digest] = source[digest]
                handler.answer(201)
                return
            with self._guard:
                name = str(len(self.uploads) + 1)
                self.uploads[name] = bytearray()
            prefix = f"http://{self.elsewhere}" if self.elsewhere else ""
            handler.answer(202, Location=f"{prefix}/v2/{repository}/blobs/uploads/{name}?state=x")
            return
        so_far = self.uploads.get(name, bytearray() if self.chunks is not True else None)
        if so_far is None and handler.command != "PUT":
            handler.answer(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "gone"}]}')
            return
        so_far = so_far if so_far is not None else bytearray()
        where = {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=x"}
        if handler.command in ("PATCH", "GET"):
            if not self.chunks:
                handler.answer(405)
                return
            if handler.command == "PATCH":
                first, _, last = handler.headers.get("Content-Range", "").partition("-")
                if int(first) != len(so_far) or int(last) != len(so_far) + len(body) - 1:
                    handler.answer(416)
                    return
                so_far += body
            status = 202 if handler.command == "PATCH" else 204
            handler.answer(status, Range=f"0-{max(len(so_far) - 1, 0)}", **where)
            return
        body = bytes(so_far) + body
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if handler.command == "DELETE":
            self.uploads.pop(name, None)
            handler.answer(204)
        elif digest != query["digest"] or query["state"] != "x":
            handler.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}')
        else:
            self.uploads.pop(name, None)
            own[digest] = body
            handler.answer(201)

    def _manifest(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        if handler.command == "DELETE":
            for key in [key for key in self.manifests if key[0] == repository]:
                if name in (key[1], "sha256:" + hashlib.sha256(self.manifests[key]).hexdigest()):
                    del self.manifests[key]
            handler.answer(202)
            return
        if handler.command != "PUT":
            data = self.manifests.get((repository, name))
            digest = "sha256:" + hashlib.sha256(data or b"").hexdigest()
            kind = {"Content_Type": self.types[digest]} if digest in self.types else {}
            handler.answer(404 if data is None else 200, data or b"", **kind)
            return
        document = json.loads(body)
        needed = [part["digest"] for part in document.get("manifests", ())]
        missing = [one for one in needed if (repository, one) not in self.manifests]
        if "manifests" not in document:
            parts = {part["digest"] for part in (document["config"], *document["layers"])}
            missing = sorted(parts - self.blobs.get(repository, {}).keys())
        if missing:
            handler.answer(404, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}')
            return
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        self.types[digest] = handler.headers.get("Content-Type", "")
        self.manifests[repository, name] = self.manifests[repository, digest] = body
        subject = document.get("subject")
        noted = {"OCI_Subject": subject["digest"]} if subject and self.referrers else {}
        handler.answer(201, Docker_Content_Digest=digest, **noted)

    def _tags(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        names = sorted(name for own, name in self.manifests if own == repository and ":" not in name)
        if not any(own == repository for own, _ in self.manifests):
            handler.answer(404)
            return
        after = [name for name in names if name > query.get("last", "")]
        found = after[: self.page]
        more = {}
        if len(after) > len(found):
            more = {"Link": f'</v2/{repository}/tags/list?n={self.page}&last={found[-1]}>; rel="next"'}
        handler.answer(200, json.dumps({"name": repository, "tags": found}).encode(), **more)

    def _referrers(self, handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        if not self.referrers:
            handler.answer(404, b"404 page not found\n")
            return
        found = []
        for (own, key), data in self.manifests.items():
            document = json.loads(data)
            if own != repository or ":" not in key or (document.get("subject") or {}).get("digest") != name:
                continue
            kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
            if query.get("artifactType") in (None, kind):
                found.append(
                    {
                        "mediaType": self.types[key],
                        "digest": key,
                        "size": len(data),
                        "artifactType": kind,
                        "annotations": document.get("annotations") or {},
                    }
                )
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        filtered = {"OCI_Filters_Applied": "artifactType"} if "artifactType" in query else {}
        handler.answer(200, json.dumps(index).encode(), Content_Type=INDEX, **filtered)


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
    for name in ("REGISTRY_AUTH_FILE", "AFENV_PLAIN_HTTP", "AFENV_MIRRORS", "AFENV_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"
