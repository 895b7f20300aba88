"""Faults that a proxy puts between afenv and the real registry: nothing hangs, nothing corrupt is kept."""

from __future__ import annotations

import json
import os
import time

import pytest

from afenv.errors import AfenvError
from afenv.store.content import ContentStore
from afenv.testing import Member, make_image
from afenv_registry import upload
from afenv_registry.client import RegistryClient
from afenv_registry.transport import Patience

pytestmark = pytest.mark.services

QUICK = Patience(
    connect=2, stall=0.3, answer=0.6, document=0.8, attempts=4, first_pause=0.02, longest_pause=0.1
)
CLIENT = RegistryClient(patience=QUICK)
LONGEST = 8.0  # seconds for any of these


@pytest.fixture
def image(store):
    return make_image(store, [[Member(path=f"f{count}", content=os.urandom(200_000))] for count in range(4)])


@pytest.fixture
def fresh(tmp_path):
    """An empty store."""
    return ContentStore(tmp_path / "fresh")


@pytest.fixture
def pushed(proxy, image, store):
    """The proxy before a registry that has the image, as ``a/b:1``."""
    RegistryClient().push(image, store, f"{proxy.upstream}/a/b:1", quiet=True)
    return proxy


@pytest.fixture(autouse=True)
def in_time():
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < LONGEST


def pull(proxy, fresh):
    return CLIENT.pull(f"{proxy.host}/a/b:1", fresh, quiet=True)


def whole(fresh, image) -> bool:
    return all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def refused(proxy, fresh, image) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        pull(proxy, fresh)
    assert not fresh.has(image.manifest_digest)
    for path in fresh.folder.glob("blobs/sha256/*/*"):
        assert fresh.check(f"sha256:{path.name}")
    return caught.value


def truncated(exchange) -> None:
    status, headers, body = exchange.ask(exchange.body())
    exchange.send_response_only(status)
    for name, value in headers:
        exchange.send_header(name, value)
    exchange.end_headers()
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def truncated_if_large(exchange) -> None:
    code, headers, body = exchange.ask(exchange.body())
    if len(body) < 10_000:
        exchange.tell(code, headers, body)
        return
    exchange.send_response_only(code)
    for name, value in headers:
        exchange.send_header(name, value)
    exchange.end_headers()
    exchange.wfile.write(body[: len(body) // 2])
    exchange.close_connection = True


def corrupted(exchange) -> None:
    status, headers, body = exchange.ask(exchange.body())
    exchange.tell(status, headers, body[:50] + bytes([body[50] ^ 1]) + body[51:])


def reset(exchange) -> None:
    exchange.reset()


def status(number, **headers):
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def fault(exchange) -> None:
        exchange.body()
        exchange.tell(number, pairs, b'{"errors": [{"code": "FAULT", "message": "as told"}]}')

    return fault


def silent(exchange) -> None:
    time.sleep(1)
    exchange.close_connection = True


def trickle(exchange) -> None:
    code, headers, body = exchange.ask(exchange.body())
    exchange.send_response_only(code)
    for name, value in headers:
        exchange.send_header(name, value)
    exchange.end_headers()
    for place in range(10):
        exchange.wfile.write(body[place : place + 1])
        exchange.wfile.flush()
        time.sleep(0.1)
    exchange.close_connection = True


PASSING = [
    pytest.param(truncated, id="truncated"),
    pytest.param(reset, id="reset"),
    pytest.param(status(429, Retry_After="0"), id="429"),
    pytest.param(status(500), id="500"),
    pytest.param(status(503), id="503"),
    pytest.param(silent, id="silent"),
    pytest.param(trickle, id="trickle"),
]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_pulls_survive_what_passes(pushed, image, fresh, fault, where):
    pushed.fail("GET", where, fault, 2)
    assert pull(pushed, fresh).manifest == image.manifest
    assert whole(fresh, image)


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_pulls_end_with_what_does_not_pass(pushed, image, fresh, fault, where):
    pushed.fail("GET", where, fault, 1000)
    error = refused(pushed, fresh, image)
    assert error.code in ("E201", "E602")
    assert pushed.host in str(error)


def test_a_truncated_blob_is_resumed(pushed, image, fresh):
    """Each time half of what is missing comes; that is progress, so patience does not end."""
    pushed.fail("GET", "/blobs/", truncated_if_large, 1000)
    pull(pushed, fresh)
    assert whole(fresh, image)
    ranges = [headers.get("Range", "") for _, path, headers in pushed.seen if "/blobs/" in path]
    assert sum(one.startswith("bytes=") for one in ranges) >= 4 * 4


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_what_is_corrupted_is_refused(pushed, image, fresh, where):
    pushed.fail("GET", where, corrupted, 1000)
    error = refused(pushed, fresh, image)
    assert error.code == "E301"
    assert error.exit_status == 5
    assert list(fresh.temporary_folder().glob("part-*")) == []


def test_an_unending_401(pushed, image, fresh, log_in):
    log_in(pushed.host)
    pushed.fail("", "", status(401, WWW_Authenticate='Basic realm="x"'), 1000)
    assert refused(pushed, fresh, image).code == "E601"
    assert len(pushed.seen) < 10
    challenge = f'Bearer realm="http://{pushed.host}/token",service="x"'
    pushed.rules.clear()
    pushed.seen.clear()
    pushed.fail("GET", "/token", lambda exchange: exchange.tell(200, [], b'{"token": "bad"}'), 1000)
    pushed.fail("", "", status(401, WWW_Authenticate=challenge), 1000)
    assert refused(pushed, fresh, image).code == "E601"
    assert len(pushed.seen) < 15
    pushed.rules.clear()
    pushed.fail("", "", status(401, WWW_Authenticate=challenge), 1000)  # the token server refuses as well
    assert refused(pushed, fresh, image).code == "E601"


def test_credentials_do_not_follow_to_another_host(guarded, before, image, store, fresh, log_in, start):
    own, other = before(guarded), before(start())
    log_in(own.host)
    CLIENT.push(image, store, f"{own.host}/a/b:1", quiet=True)
    RegistryClient().push(image, store, f"{other.upstream}/a/b:1", quiet=True)

    def moved(exchange) -> None:
        exchange.tell(307, [("Location", f"http://{other.host}{exchange.path}")])

    own.fail("GET", "/blobs/", moved, 1000)
    pull(own, fresh)
    assert whole(fresh, image)
    assert len(other.seen) == 5
    assert not any("Authorization" in headers for _, _, headers in other.seen)
    other.upstream = guarded  # now the other host asks for a password, and gets none
    assert refused(own, ContentStore(fresh.folder / "2"), image).code == "E601"
    assert not any("Authorization" in headers for _, _, headers in other.seen)


def test_a_manifest_of_100_mb(pushed, image, fresh):
    def huge(exchange) -> None:
        exchange.send_response_only(200)
        exchange.send_header("Content-Length", str(100 << 20))
        exchange.end_headers()
        for _ in range(100):
            exchange.wfile.write(bytes(1 << 20))

    pushed.fail("GET", "/manifests/", huge, 1000)
    error = refused(pushed, fresh, image)
    assert (error.code, "larger than 4 MiB" in str(error)) == ("E602", True)


def test_an_index_that_contains_itself(pushed, image, fresh):
    digest = "sha256:" + "a" * 64
    kind = "application/vnd.oci.image.index.v1+json"
    entry = {"mediaType": kind, "digest": digest, "size": 0}
    while True:  # the size that makes it whole
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
        if entry["size"] == len(body):
            break
        entry["size"] = len(body)

    def itself(exchange) -> None:
        exchange.tell(200, [("Content-Type", kind), ("Docker-Content-Digest", digest)], body)

    pushed.fail("GET", "/manifests/", itself, 1000)
    assert refused(pushed, fresh, image).code == "E301"


# pushes


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
@pytest.mark.parametrize("fault", [one for one in PASSING if one.id not in ("truncated", "trickle")])
def test_pushes_survive_what_passes(proxy, image, store, fresh, method, fault):
    proxy.fail(method, "", fault, 2)
    CLIENT.push(image, store, f"{proxy.host}/a/b:1", quiet=True)
    assert RegistryClient().pull(f"{proxy.upstream}/a/b:1", fresh, quiet=True).manifest == image.manifest


@pytest.mark.parametrize("fault", [one for one in PASSING if one.id not in ("truncated", "trickle")])
def test_pushes_end_with_what_does_not_pass(proxy, image, store, fault):
    proxy.fail("PUT", "/blobs/uploads/", fault, 1000)
    with pytest.raises(AfenvError) as caught:
        CLIENT.push(image, store, f"{proxy.host}/a/b:1", quiet=True)
    assert caught.value.code in ("E201", "E602")


def cut_before(exchange) -> None:
    """Take half of the body, and reset, before the registry has heard of it, as a buffering proxy does."""
    exchange.rfile.read(int(exchange.headers["Content-Length"]) // 2)
    exchange.reset()


def cut_within(exchange) -> None:
    """Pass half of the body on, and reset both connections."""
    import socket

    size = int(exchange.headers["Content-Length"])
    host, _, port = exchange.server.upstream.partition(":")
    with socket.create_connection((host, int(port))) as upstream:
        lines = [f"{exchange.command} {exchange.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in exchange.headers.items()]
        upstream.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + exchange.rfile.read(size // 2))
        time.sleep(0.2)
    exchange.reset()


@pytest.mark.parametrize("cut", [cut_before, cut_within])
def test_a_cut_upload_in_chunks(proxy, store, fresh, monkeypatch, cut):
    monkeypatch.setattr(upload, "CHUNK", 100_000)
    image = make_image(store, [[Member(path="large", content=os.urandom(1_000_000))]])
    proxy.fail("PATCH", "", lambda exchange: exchange.tell(*exchange.ask(exchange.body())), 4)
    proxy.fail("PATCH", "", cut, 1)
    CLIENT.push(image, store, f"{proxy.host}/a/b:1", quiet=True)
    assert RegistryClient().pull(f"{proxy.upstream}/a/b:1", fresh, quiet=True).manifest == image.manifest
    # docker-registry forgets an upload of which it has seen part of a chunk; else it goes on
    begun = [path for method, path, _ in proxy.seen if method == "POST"]
    assert len(begun) == (2 if cut is cut_before else 3)  # the config is one of them
    assert proxy.count("PATCH") == (12 if cut is cut_before else 16)
