"""Pushing, against a registry that fails."""

from __future__ import annotations

import base64
import gc
import json
import os
import signal
import socket
import struct
import threading
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.testing import Member, make_image
from afenv_registry.authorization import parse_challenge
from afenv_registry.client import RegistryClient
from afenv_registry.transport import Patience

QUICK = Patience(connect=2, stall=2, attempts=4, first_pause=0.01, longest_pause=0.05)
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture
def image(store):
    return make_image(store, [[Member(path=f"f{count}", content=os.urandom(100_000))] for count in range(5)])


def push(image, store, registry, repository="group/sample", tag="1", **options) -> str:
    client = RegistryClient(patience=QUICK)
    return client.push(image, store, f"{registry.host}/{repository}:{tag}", quiet=True, **options)


def code(*arguments, **options) -> tuple[str, str]:
    with pytest.raises(AfenvError) as caught:
        push(*arguments, **options)
    return caught.value.code, str(caught.value)


def whole(registry, image, repository="group/sample", tag="1") -> bool:
    needed = {layer.digest for layer in image.layers} | {image.image_id}
    return registry.manifests.get((repository, tag)) == image.manifest and (
        needed <= registry.blobs[repository].keys()
    )


def reset(handler) -> None:
    """Read a little and reset the connection."""
    handler.rfile.read(min(10, int(handler.headers.get("Content-Length") or 0)))
    drop(handler)


def drop(handler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def test_everything_is_sent_and_then_nothing(registry, image, store):
    assert push(image, store, registry) == image.manifest_digest
    assert whole(registry, image)
    assert registry.methods() == ["GET", *["HEAD"] * 6, *["POST"] * 6, *["PUT"] * 7]
    registry.requests.clear()
    assert push(image, store, registry) == image.manifest_digest
    assert registry.methods() == ["GET"]


def test_what_the_repository_has_is_not_sent(registry, image, store):
    push(image, store, registry)
    registry.requests.clear()
    push(image, store, registry, tag="2")
    assert registry.methods() == ["GET", *["HEAD"] * 6, "PUT"]
    assert whole(registry, image, tag="2")


def test_layers_of_the_image_that_has_the_tag_are_not_asked_for(registry, image, store):
    push(image, store, registry)
    registry.requests.clear()
    changed = make_image(store, [[Member(path="new")]], variables={"A": "1"})
    push(changed, store, registry)
    assert registry.methods() == ["GET", "HEAD", "HEAD", "POST", "POST", "PUT", "PUT", "PUT"]


def test_blobs_that_the_registry_lost_are_sent_again(registry, image, store):
    push(image, store, registry)
    registry.blobs["group/sample"].pop(image.layers[2].digest)
    registry.manifests["group/sample", "1"] = image.manifest.replace(b"schemaVersion", b"schemaversion")
    assert push(image, store, registry) == image.manifest_digest
    assert whole(registry, image)


def test_blobs_of_another_repository_are_mounted(registry, image, store):
    push(image, store, registry, repository="one")
    registry.requests.clear()
    push(image, store, registry, repository="two", mount_from="one")
    assert whole(registry, image, repository="two")
    assert registry.methods().count("PUT") == 1
    push(make_image(store), store, registry, repository="two", mount_from="nothing")  # falls back to sending


def test_a_layout_is_pushed_from_its_files(registry, image, store, tmp_path):
    write_layout(image, store, tmp_path / "layout")
    with open_image(tmp_path / "layout") as opened:
        push(opened.image, opened.blobs, registry)
    assert whole(registry, image)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
@pytest.mark.parametrize("fault", [429, 500, 503, reset])
def test_what_may_pass_is_tried_again(registry, image, store, method, fault):
    registry.faults[method] = [fault, fault]
    assert push(image, store, registry) == image.manifest_digest
    assert whole(registry, image)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_patience_ends(registry, image, store, method):
    registry.faults[method] = [503] * 100
    found, text = code(image, store, registry)
    assert found == "E602"
    assert "503" in text
    registry.faults[method] = [reset] * 100
    assert code(image, store, registry)[0] == "E201"
    assert not registry.manifests


def test_the_registrys_own_words_are_shown(registry, image, store):
    registry.faults["POST"] = [400] * 10
    found, text = code(image, store, registry)
    assert (found, "FAULT as told" in text) == ("E602", True)


def test_what_a_registry_says_cannot_play_with_the_terminal(registry, image, store):
    def rude(handler) -> None:
        message = "\x1b[2J\r" + "x" * 5000
        handler.answer(400, json.dumps({"errors": [{"code": "X", "message": message}]}).encode())

    registry.faults["POST"] = [rude] * 10
    _, text = code(image, store, registry)
    assert "\x1b" not in text
    assert len(text) < 1000


def test_retry_after_is_heeded(registry, image, store):
    def busy(handler) -> None:
        handler.answer(429, Retry_After="0")

    registry.faults["GET"] = [busy]
    push(image, store, registry)
    assert registry.methods().count("GET") == 2


def test_an_upload_that_went_through_unnoticed(registry, store):
    image = make_image(store, [])

    def taken_but_lost(handler) -> None:
        length = int(handler.headers["Content-Length"])
        registry.blobs.setdefault("group/sample", {})[image.image_id] = handler.rfile.read(length)
        drop(handler)

    registry.faults["PUT"] = [taken_but_lost]
    push(image, store, registry)
    assert registry.methods().count("PUT") == 2  # the lost one, and the manifest


def test_an_answer_before_the_body_is_read(registry, store):
    image = make_image(store, [[Member(path="big", content=os.urandom(8 << 20))]])

    def refuse(handler) -> None:
        handler.answer(
            403, b'{"errors": [{"code": "DENIED", "message": "quota exceeded"}]}', Connection="close"
        )
        handler.close_connection = True

    registry.faults["PUT"] = [refuse] * 20
    found, text = code(image, store, registry)
    assert found in ("E601", "E201")
    assert found == "E201" or "quota" in text


def test_a_registry_that_names_another_digest(registry, image, store):
    def wrong(handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(201, Docker_Content_Digest="sha256:\x1b" + "0" * 64)

    push(make_image(store, []), store, registry, tag="other")
    blobs = registry.blobs["group/sample"]
    for layer in image.layers:
        blobs[layer.digest] = store.read(layer.digest)
    blobs[image.image_id] = image.config
    registry.faults["PUT"] = [wrong]
    found, text = code(image, store, registry)
    assert (found, "\x1b" in text) == ("E301", False)


def test_a_blob_that_the_store_lost(registry, image, store):
    store.path(image.layers[3].digest).unlink()
    assert code(image, store, registry)[0] == "E305"
    assert not registry.manifests


def test_no_registry_there(image, store):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(AfenvError) as caught:
        RegistryClient(patience=QUICK).push(image, store, f"{host}/a", quiet=True)
    assert caught.value.code == "E201"
    assert "refused" in str(caught.value)


def test_an_interruption_ends_what_is_under_way(registry, image, store):
    over = threading.Event()

    def hang(handler) -> None:
        handler.rfile.read(10)
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(30)
        handler.close_connection = True

    registry.faults["PUT"] = [hang]
    patience = Patience(connect=30, stall=30, attempts=4, first_pause=5)
    begun = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            RegistryClient(patience=patience).push(image, store, f"{registry.host}/a", quiet=True)
    finally:
        over.set()
    assert time.monotonic() - begun < 4
    assert not registry.manifests


def test_plain_http_is_not_spoken_with_others(image, store, registry, monkeypatch):
    """A name that is not this machine's is asked for by HTTPS, unless plain HTTP is asked for."""
    from afenv_registry import routes

    monkeypatch.setattr(routes, "is_loopback", lambda host: False)
    assert code(image, store, registry)[0] == "E201"
    assert not registry.requests
    monkeypatch.setenv("AFENV_PLAIN_HTTP", f"other.org {registry.host}")
    push(image, store, registry)
    assert whole(registry, image)


def test_a_proxy_is_asked_for_a_tunnel(image, store, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        seen: list[bytes] = []

        def serve() -> None:
            client, _ = proxy.accept()
            with client:
                seen.append(client.recv(4096))
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.setenv("no_proxy", "other.example.org")
        client = RegistryClient(patience=Patience(connect=2, stall=2, attempts=1))
        try:
            client.push(image, store, "registry.example.org/a", quiet=True)
        except AfenvError as error:
            found, text = error.code, str(error)
        thread.join()
    with warnings.catch_warnings():
        # http.client of Python 3.11 leaves the answer of a proxy that refuses to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert (found, "502" in text) == ("E201", True)
    (asked,) = seen
    assert asked.startswith(b"CONNECT registry.example.org:443 ")
    assert b"Basic " + base64.b64encode(b"me:p@ss") in asked


def test_a_proxy_that_is_no_url(image, store, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://me:secret@[::1")
    with pytest.raises(AfenvError) as caught:
        RegistryClient(patience=QUICK).push(image, store, "registry.example.org/a/b:1", quiet=True)
    assert (caught.value.code, "secret" in str(caught.value)) == ("E030", False)


def test_references_are_checked_first(image, store):
    for text in ("dimuon", f"h.org/a@sha256:{'0' * 64}"):
        with pytest.raises(AfenvError) as caught:
            RegistryClient().push(image, store, text)
        assert caught.value.code == "E603"


def save(folder, host, **entry) -> None:
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def test_basic_authorization(registry, image, store, no_credentials):
    registry.allowed, registry.challenge = {BASIC}, 'Basic realm="x"'
    found, text = code(image, store, registry)
    assert (found, "none are saved" in text) == ("E601", True)
    save(no_credentials, registry.host, username="me", password="secret")
    push(image, store, registry)
    assert whole(registry, image)
    save(no_credentials, registry.host, username="me", password="wrong")
    assert code(image, store, registry, tag="2")[0] == "E601"


def bearer(registry) -> None:
    registry.allowed = {"Bearer good"}
    scope = "repository:group/sample:pull,push"
    registry.challenge = f'Bearer realm="http://{registry.host}/token",service="it, really",scope="{scope}"'


def test_a_token_for_a_password(registry, image, store, no_credentials):
    bearer(registry)
    registry.tokens = {BASIC: "good"}
    save(no_credentials, registry.host, username="me", password="secret")
    push(image, store, registry)
    assert whole(registry, image)
    asked = [path for _, path, _ in registry.requests if path.startswith("/token")]
    assert len(asked) == 1
    assert "service=it%2C+really" in asked[0]
    assert "scope=repository%3Agroup%2Fsample%3Apull%2Cpush" in asked[0]


def test_a_token_for_a_token(registry, image, store, no_credentials):
    bearer(registry)
    registry.tokens = {"refresh_token=refresh-me": "good"}
    save(no_credentials, registry.host, identitytoken="refresh-me")
    push(image, store, registry)
    assert whole(registry, image)


def test_a_token_does_not_follow_a_redirect(registry, other_registry, image, store, no_credentials):
    bearer(registry)
    other_registry.tokens = {"refresh-me": "good"}
    save(no_credentials, registry.host, identitytoken="refresh-me")

    def moved(handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(307, Location=f"http://{other_registry.host}{handler.path}")

    registry.faults["POST"] = [moved]
    found, text = code(image, store, registry)
    assert (found, f"leads to http://{other_registry.host}/token" in text) == ("E601", True)
    assert not other_registry.requests


@pytest.mark.parametrize("lifetime", [pytest.param(10**400, id="huge"), -1, "soon", [1]])
def test_tokens_with_an_odd_lifetime(registry, image, store, lifetime):
    bearer(registry)

    def token(handler) -> None:
        handler.answer(200, json.dumps({"token": "wrong", "expires_in": lifetime}).encode())

    registry.faults["GET"] = [None, token]
    assert code(image, store, registry)[0] in ("E601", "E602")


def test_a_token_for_nobody(registry, image, store):
    bearer(registry)
    assert code(image, store, registry)[0] == "E601"


def test_a_token_that_expires(registry, image, store, no_credentials):
    bearer(registry)
    registry.tokens = {BASIC: "good"}
    save(no_credentials, registry.host, username="me", password="secret")

    def expire(handler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        registry.allowed, registry.tokens = {"Bearer better"}, {BASIC: "better"}
        handler.answer(401, WWW_Authenticate=registry.challenge)

    registry.faults["PUT"] = [expire]
    push(image, store, registry)
    assert whole(registry, image)


def test_wrong_passwords_and_refused_rights(registry, image, store, no_credentials):
    bearer(registry)
    save(no_credentials, registry.host, username="me", password="wrong")
    found, text = code(image, store, registry)
    assert (found, "wrong password" in text) == ("E601", True)
    registry.allowed = None
    registry.faults["POST"] = [403] * 10
    assert code(image, store, registry)[0] == "E601"


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Negotiate",
        'Bearer realm="ftp://x/token"',
        "Bearer",
        "Bearer realm=x y",
        "Basic",
    ],
)
def test_challenges_that_cannot_be_answered(registry, image, store, challenge):
    registry.allowed, registry.challenge = set(), challenge
    assert code(image, store, registry)[0] == "E601"


@pytest.mark.parametrize("user", ["", "localhost:x@", "127.0.0.1:x@"])
def test_passwords_are_not_sent_to_a_token_server_in_the_clear(registry, image, store, no_credentials, user):
    save(no_credentials, registry.host, username="me", password="secret")
    registry.allowed, registry.challenge = set(), f'Bearer realm="http://{user}token.example.org/token"'
    found, text = code(image, store, registry)
    assert (found, "not encrypted" in text) == ("E601", True)


def test_authorization_is_not_sent_to_another_host(registry, other_registry, image, store, no_credentials):
    registry.allowed, registry.challenge = {BASIC}, "Basic"
    save(no_credentials, registry.host, username="me", password="secret")
    registry.elsewhere = other_registry.host
    other_registry.blobs = registry.blobs
    push(image, store, registry)
    assert whole(registry, image)
    assert len(other_registry.requests) == 6
    assert not any("authorization" in headers for _, _, headers in other_registry.requests)


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ftp", "Ftp"])
def test_uploads_stay_encrypted(scheme):
    from afenv_registry.routes import Endpoint
    from afenv_registry.session import Session
    from afenv_registry.transport import Transport

    place = Endpoint(scheme="https", host="h.org", repository="a/b", credentials_host="h.org")
    session = Session(Transport(QUICK), place, "push")
    with pytest.raises(AfenvError) as caught:
        session.url(f"{scheme}://other.org/x", "https://h.org/v2/")
    assert caught.value.code == "E602"
    assert session.url("HTTP://h.org/x", "https://h.org/v2/") == "https://h.org/x"


def test_redirects_of_questions_are_followed(registry, other_registry, image, store):
    push(image, store, other_registry)

    def moved(handler) -> None:
        handler.answer(307, Location=f"http://{other_registry.host}{handler.path}")

    registry.faults["GET"] = [moved]
    assert push(image, store, registry) == image.manifest_digest
    assert registry.methods() == ["GET"]


def test_challenges_are_parsed():
    assert parse_challenge('Bearer realm="https://a/b",service=x, scope="a:b:pull,push c"') == (
        "bearer",
        {"realm": "https://a/b", "service": "x", "scope": "a:b:pull,push c"},
    )
    assert parse_challenge("") == ("", {})
    assert parse_challenge('Basic realm="x, Bearer y=z", Bearer realm="https://a/b",service="s"') == (
        "bearer",
        {"realm": "https://a/b", "service": "s"},
    )
    assert parse_challenge("Negotiate, Basic realm=x") == ("basic", {"realm": "x"})


@given(st.text(max_size=200))
def test_any_challenge_is_parsed(text):
    assert isinstance(parse_challenge(text)[0], str)


@pytest.mark.parametrize(
    "text", ["a" * 65_000, "," * 65_000, "Bearer " + "a " * 30_000, 'Bearer a="' * 6_000]
)
def test_long_challenges_are_parsed_in_no_time(text):
    begun = time.monotonic()
    parse_challenge(text)
    assert time.monotonic() - begun < 2
