"""Image references."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv_registry.reference import is_loopback, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("registry.example.org/group/dimuon:1.0", "registry.example.org", "group/dimuon", "1.0", None),
        ("localhost/x", "localhost", "x", "latest", None),
        ("localhost:5000/a/b/c", "localhost:5000", "a/b/c", "latest", None),
        ("[::1]:5000/a:b", "[::1]:5000", "a", "b", None),
        (f"h.org/a:t@{DIGEST}", "h.org", "a", "t", DIGEST),
        (f"h.org/a@{DIGEST}", "h.org", "a", "latest", DIGEST),
        ("docker.io/me/x:1", "docker.io", "me/x", "1", None),
        ("docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("h.org/a__b-c.d/e--f", "h.org", "a__b-c.d/e--f", "latest", None),
        ("debian", "docker.io", "library/debian", "latest", None),
        ("debian:12-slim", "docker.io", "library/debian", "12-slim", None),
        (f"debian@{DIGEST}", "docker.io", "library/debian", "latest", DIGEST),
        ("group/dimuon:1.0", "docker.io", "group/dimuon", "1.0", None),
        ("index.docker.io/debian", "docker.io", "library/debian", "latest", None),
        ("host:5000/a", "host:5000", "a", "latest", None),
        ("localhost", "docker.io", "library/localhost", "latest", None),
        ("oras://h.org/a.sif:1", "h.org", "a.sif", "1", None),
        ("docker://debian", "docker.io", "library/debian", "latest", None),
    ],
)
def test_references(text, host, repository, tag, digest):
    found = parse_reference(text)
    assert (found.host, found.repository, found.tag, found.digest) == (host, repository, tag, digest)
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dimuon",
        "a//b",
        "a:b:c",
        "h.org/",
        "h.org/Group/x",
        "h.org/a/../b",
        "h.org//a",
        "h.org/a:",
        "h.org/a:" + "x" * 129,
        "h.org/a:b:c",
        "h.org/a@sha256:1",
        "h.org/a@",
        "h.org:x/a",
        "h.org:99999/a",
        "h.org:0/a",
        "-h.org/a",
        "h.org/a b",
        "http://h.org/a",
        "h.org/" + "a" * 256,
        "h.org/a\n",
    ],
)
def test_what_is_not_a_reference(text):
    with pytest.raises(AfenvError) as caught:
        parse_reference(text)
    assert caught.value.code == "E603"


@pytest.mark.parametrize("text", ["dimuon", "group/dimuon:1.0"])
def test_pushing_needs_a_host(text):
    with pytest.raises(AfenvError) as caught:
        parse_reference(text, need_host=True)
    assert caught.value.code == "E603"


def test_docker_hub_is_reached_by_another_name():
    assert parse_reference("docker.io/a/b").api_host == "registry-1.docker.io"
    assert parse_reference("h.org:1/a").api_host == "h.org:1"


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "127.1.2.3:5000", "[::1]", "[::1]:5", "a.localhost"]
)
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["h.org", "10.0.0.1:5000", "localhost.example.org", "127.example.org"])
def test_other_machines(host):
    assert not is_loopback(host)
