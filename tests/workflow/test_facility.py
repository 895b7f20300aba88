"""What is asked of registries and runtimes for a profile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from afenv.settings import load_settings
from afenv.workflow.facility import configured_registries, probe, probe_runtime, reachable


@pytest.fixture
def registry() -> Iterator[str]:
    """A registry that asks for credentials, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401 if self.path == "/v2/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_registry_that_asks_for_credentials_is_reached(registry: str) -> None:
    assert reachable(registry)
    assert not reachable("127.0.0.1:1")
    assert not reachable("no host at all")


def test_registries_that_are_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("AFENV_PLAIN_HTTP", "plain.example.org:5000")
    monkeypatch.setenv("AFENV_REGISTRY_HOST", "own.example.org")
    monkeypatch.setenv("AFENV_MIRRORS", "oci://docker.io=oci://mirror.example.org/hub")
    auths = {"https://index.docker.io/v1/": {}, "registry.example.org": {}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    assert sorted(configured_registries(load_settings())) == [
        "docker.io",
        "mirror.example.org",
        "own.example.org",
        "plain.example.org:5000",
        "registry.example.org",
    ]
    (tmp_path / "config.json").write_text("[]")
    assert "docker.io" not in set(configured_registries(load_settings()))


def test_probe(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "engine"
    script.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        'info) echo "27.3.1 [name=rootless] []";;\n'
        "version) echo 27.3.1;;\n--version) echo podman version 5.2.0;;\nesac\n"
    )
    script.chmod(0o755)
    for name in ("DOCKER", "PODMAN"):
        monkeypatch.setenv(f"AFENV_{name}", str(script))
    monkeypatch.setenv("AFENV_APPTAINER", str(tmp_path / "none"))
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    profile = probe(load_settings(), name="here", registries=[registry, "127.0.0.1:1"])
    docker, podman = profile.runtime("docker"), profile.runtime("podman")
    assert docker is not None and (docker.version, docker.rootless) == ("27.3.1", True)
    assert podman is not None and podman.version == "5.2.0"
    assert profile.registries is not None
    assert {one.host: one.reachable for one in profile.registries} == {registry: True, "127.0.0.1:1": False}
    assert profile.storage is not None and profile.storage[0].free
    script.write_text("#!/bin/sh\nexit 1\n")
    assert probe_runtime("docker", False) is None
