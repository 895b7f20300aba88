"""Pushing to the real registry, checked by skopeo."""

from __future__ import annotations

import json
import os
import time

import pytest

from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.registries import find_registry
from afenv.testing import Member, make_image
from afenv_registry.transport import Transport

pytestmark = pytest.mark.services


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the registry: method, path, status."""
    seen = []
    once = Transport._once

    def spy(self, method, url, *rest, **more):
        answer = once(self, method, url, *rest, **more)
        seen.append((method, url.partition("/v2/")[2], answer.status))
        return answer

    monkeypatch.setattr(Transport, "_once", spy)
    return seen


def layers(code: bytes):
    packages = [[Member(path=f"p{count}", content=os.urandom(1000) * 50)] for count in range(20)]
    return packages, [*packages, [Member(path="code", content=code)]]


def test_push_and_push_again(registry, store, call, skopeo, asked, tmp_path):
    packages, first = layers(b"one")
    image = make_image(store, first)
    reference = f"{registry}/group/sample:1.0"
    client = find_registry()
    assert client.push(image, store, reference, quiet=True) == image.manifest_digest
    shown = json.loads(call(skopeo, "inspect", "--tls-verify=false", f"docker://{reference}").stdout)
    assert shown["Digest"] == image.manifest_digest
    assert len(shown["Layers"]) == 21

    asked.clear()
    client.push(image, store, reference, quiet=True)
    assert [method for method, _, _ in asked] == ["GET"]

    asked.clear()
    changed = make_image(store, [*packages, [Member(path="code", content=b"two")]])
    begun = time.monotonic()
    client.push(changed, store, reference, quiet=True)
    assert time.monotonic() - begun < 2
    assert sorted(method for method, _, _ in asked) == [
        *("GET", "HEAD", "HEAD"),
        *("POST", "POST", "PUT", "PUT", "PUT"),
    ]

    call(
        *(skopeo, "copy", "--quiet", "--src-tls-verify=false"),
        *(f"docker://{reference}", f"oci:{tmp_path}/pulled:x"),
    )
    with open_image(tmp_path / "pulled") as pulled:
        assert pulled.image.manifest_digest == changed.manifest_digest


def test_push_a_layout_and_mount_from_another_repository(registry, store, asked, tmp_path):
    image = make_image(store, layers(b"one")[1])
    write_layout(image, store, tmp_path / "layout")
    with open_image(tmp_path / "layout") as opened:
        find_registry().push(opened.image, opened.blobs, f"{registry}/one", quiet=True)
        asked.clear()
        find_registry().push(opened.image, opened.blobs, f"{registry}/two:x", quiet=True, mount_from="one")
    posts = [status for method, _, status in asked if method == "POST"]
    puts = [path for method, path, _ in asked if method == "PUT"]
    assert posts == [201] * 22
    assert puts == ["two/manifests/x"]


def test_docker_pulls_what_was_pushed(registry, store, docker, call):
    image = make_image(store, layers(b"pull")[1])
    reference = f"{registry}/pulled:1"
    find_registry().push(image, store, reference, quiet=True)
    try:
        call(docker, "pull", "--quiet", reference)
        found = call(docker, "image", "inspect", "--format", "{{.Id}}", reference).stdout.strip()
        assert found == image.image_id
    finally:
        call(docker, "image", "rm", "--force", reference)
