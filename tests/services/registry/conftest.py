"""The real registry in several forms, and a proxy before it that fails as it is told."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

HTPASSWD = "me:$2a$05$L1bBXAuXMenD2cBUjLuIBu5Phd2Bj3uK8dVmFbVIW4txRb6B/T0XC\n"  # the password is "secret"
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


def program(name: str, *elsewhere: str) -> str:
    """The path of a program; without it the test fails in CI and is skipped elsewhere."""
    found = next((path for path in elsewhere if Path(path).exists()), None) or shutil.which(name)
    if found is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{name} is needed")
        pytest.skip(f"{name} is needed")
    return str(found)


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without credentials; the folder for Docker's configuration comes back."""
    for name in ("REGISTRY_AUTH_FILE", "AFENV_PLAIN_HTTP", "AFENV_MIRRORS", "AFENV_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path / "docker"


@pytest.fixture
def log_in(no_credentials: Path) -> Callable[..., None]:
    """Save a user name and password for a registry, as ``docker login`` does."""

    def saved(host: str, user: str = "me", password: str = "secret") -> None:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        (no_credentials / "config.json").write_text(json.dumps({"auths": {host: {"auth": pair}}}))

    return saved


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a docker-registry with more lines of configuration; its host and port."""
    command = program("docker-registry", "/usr/bin/docker-registry")
    processes = []

    def started(auth: str = "", http: str = "") -> str:
        port = free_port()
        folder = tmp_path / f"registry-{port}"
        folder.mkdir()
        (folder / "registry.yml").write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'{http}}}\n{auth}"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [command, "serve", str(folder / "registry.yml")], stdout=log, stderr=log
            )
        processes.append(process)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        return f"127.0.0.1:{port}"

    yield started
    for process in processes:
        process.kill()
        process.wait()
    for folder in tmp_path.glob("registry-*"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def guarded(start: Callable[..., str], tmp_path: Path) -> str:
    """A registry with basic authentication."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    return start(auth=f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n")


def openssl(*arguments: str | Path, given: bytes = b"") -> bytes:
    """Run openssl."""
    words = [program("openssl"), *(str(word) for word in arguments)]
    return subprocess.run(words, input=given, capture_output=True, check=True).stdout


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with an authority of our own (``ca.crt``) and a certificate of 127.0.0.1."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    key = ("-newkey", "rsa:2048", "-nodes")
    openssl(
        *("req", "-x509", *key, "-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-days", "2"),
        *("-subj", "/CN=authority of a test"),
    )
    openssl(
        *("req", *key, "-keyout", folder / "own.key", "-out", folder / "own.csr", "-subj", "/CN=127.0.0.1")
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", folder / "own.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"),
        *("-CAcreateserial", "-days", "2", "-extfile", folder / "ext", "-out", folder / "own.crt"),
    )
    return folder


class TokenServer:
    """Gives signed tokens to who knows the password; ``scopes`` are those that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scopes: list[list[str]] = []
        self.lifetime = 300
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != BASIC:
                    self.send_error(401)
                    return
                query = parse_qs(urlsplit(self.path).query)
                own.scopes.append(query["scope"])
                body = json.dumps(own.token(query["service"][0], query["scope"])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def token(self, service: str, scopes: list[str]) -> dict[str, Any]:
        """A JSON web token as docker-registry expects it, signed by openssl."""
        lines = (self.folder / "own.crt").read_text().split("-----")[2].split()
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": "test",
            "sub": "me",
            "aud": service,
            "exp": now + self.lifetime,
            "nbf": now - 1,
            "iat": now,
            "jti": str(len(self.scopes)),
            "access": access,
        }
        head = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines)]}
        signed = ".".join(
            base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (head, claims)
        )
        signature = openssl("dgst", "-sha256", "-sign", self.folder / "own.key", given=signed.encode())
        encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        return {"token": f"{signed}.{encoded}", "expires_in": self.lifetime}


@pytest.fixture
def token_server(certificates: Path) -> Iterator[TokenServer]:
    """A token server."""
    found = TokenServer(certificates)
    yield found
    found.close()


@pytest.fixture
def with_tokens(start: Callable[..., str], token_server: TokenServer, certificates: Path) -> str:
    """A registry that sends its users to the token server."""
    return start(
        auth=f"auth: {{token: {{realm: 'http://127.0.0.1:{token_server.port}/token', service: test, "
        f"issuer: test, rootcertbundle: {certificates}/ca.crt}}}}\n"
    )


@pytest.fixture
def encrypted(start: Callable[..., str], certificates: Path) -> str:
    """A registry with TLS, whose certificate is of an authority of our own."""
    return start(http=f", tls: {{certificate: {certificates}/own.crt, key: {certificates}/own.key}}")


Fault = Callable[["Exchange"], bool]


class Exchange(BaseHTTPRequestHandler):
    """One request at the proxy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def log_message(self, *arguments: object) -> None:
        pass

    def body(self) -> bytes:
        """What the client sends."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the registry answers to this request."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, dict(self.headers.items()))
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def tell(self, status: int, headers: list[tuple[str, str]] = [], body: bytes = b"") -> None:  # noqa: B006
        """Answer the client."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value.replace(self.server.upstream, self.server.host))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True

    def serve(self) -> None:
        """Fail as told, or pass the request on."""
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        for rule in self.server.rules:
            method, pattern, fault, times = rule
            if times > 0 and method in ("", self.command) and re.search(pattern, self.path):
                rule[3] -= 1
                fault(self)
                return
        body = self.body()
        self.tell(*self.ask(body))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve


class Proxy(ThreadingHTTPServer):
    """Stands before a registry. ``seen`` has method, path and headers of each request."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.upstream = upstream
        self.host = f"127.0.0.1:{self.server_port}"
        self.rules: list[list[Any]] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *arguments: object) -> None:
        """A client that goes away is no error here."""

    def fail(self, method: str, pattern: str, fault: Callable[[Exchange], None], times: int = 1) -> None:
        """Let so many requests of that method (empty: any) and path go wrong."""
        self.rules.append([method, pattern, fault, times])

    def count(self, method: str, pattern: str = "") -> int:
        """How many such requests there were."""
        return sum(1 for verb, path, _ in self.seen if verb == method and re.search(pattern, path))


@pytest.fixture
def before() -> Iterator[Callable[[str], Proxy]]:
    """Put a proxy before the registry at a host and port."""
    found: list[Proxy] = []

    def made(upstream: str) -> Proxy:
        found.append(Proxy(upstream))
        return found[-1]

    yield made
    for one in found:
        with contextlib.suppress(OSError):
            one.shutdown()
            one.server_close()


@pytest.fixture
def proxy(start: Callable[..., str], before: Callable[[str], Proxy]) -> Proxy:
    """A proxy before a registry of its own."""
    return before(start())
