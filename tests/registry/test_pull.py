"""Resolving and pulling, against a registry that fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time

import pytest

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.store.content import ContentStore
from afenv.testing import Member, make_image
from afenv_registry import repository as repositories
from afenv_registry import resolve as resolving
from afenv_registry.client import RegistryClient
from afenv_registry.transport import Patience

QUICK = Patience(
    connect=2, stall=0.4, document=1, attempts=4, first_pause=0.01, longest_pause=0.02, longest_wait=5
)
CLIENT = RegistryClient(patience=QUICK)


@pytest.fixture
def image(store):
    return make_image(store, [[Member(path=f"f{count}", content=os.urandom(100_000))] for count in range(4)])


@pytest.fixture
def there(registry, image, store):
    """The registry with the image in it, as ``group/sample:1``."""
    CLIENT.push(image, store, f"{registry.host}/group/sample:1", quiet=True)
    registry.requests.clear()
    return registry


@pytest.fixture
def fresh(tmp_path):
    """An empty store."""
    return ContentStore(tmp_path / "fresh")


def pull(registry, store, name="group/sample:1", **more):
    return CLIENT.pull(f"{registry.host}/{name}", store, quiet=True, **more)


def failing(registry, store, **more) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        pull(registry, store, **more)
    return caught.value


def parts(store) -> list[str]:
    return sorted(path.name for path in store.temporary_folder().iterdir())


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def asked_for(registry, digest) -> list[str]:
    """The ``Range`` of each request for a blob."""
    return [
        headers.get("range", "")
        for method, path, headers in registry.requests
        if method == "GET" and path.endswith(f"/blobs/{digest}")
    ]


def cut(after: int):
    """Send the first bytes of a blob, as if all were to come, and close."""

    def fault(handler) -> None:
        registry = handler.server.registry
        data = registry.blobs["group/sample"][handler.path.rsplit("/", 1)[1]]
        first = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        handler.wfile.write(data[first : first + after])
        handler.wfile.flush()
        handler.close_connection = True

    return fault


def body(content: bytes, status: int = 200, **headers: str):
    """Answer with this."""
    return lambda handler: handler.answer(status, content, **headers)


def on_blobs(registry, *faults) -> None:
    """Faults for the requests after those for the manifest and the config."""
    registry.faults["GET"] = [None, None, *faults]


def test_everything_comes_and_then_nothing(there, image, fresh):
    pulled = pull(there, fresh)
    assert (pulled.manifest, pulled.config, pulled.layers) == (image.manifest, image.config, image.layers)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)
    assert fresh.read(image.manifest_digest) == image.manifest
    assert fresh.read(image.image_id) == image.config
    assert parts(fresh) == []
    assert there.methods() == ["GET"] * 6
    there.requests.clear()
    pull(there, fresh)
    assert there.methods() == ["GET"] * 2


def test_only_what_is_missing_travels(there, image, fresh, store):
    for layer in image.layers[1:]:
        fresh.put(store.read(layer.digest))
    pull(there, fresh)
    assert there.methods() == ["GET"] * 3


def test_an_empty_blob(there, fresh):
    there.blobs["group/sample"][digest_of(b"")] = b""
    with CLIENT.repository(f"{there.host}/group/sample") as repository:
        repository.fetch_blob(digest_of(b""), 0, fresh)
    assert fresh.trusted(digest_of(b""), 0)


def test_an_interruption_ends_it_and_keeps_what_came(there, image, fresh):
    over = threading.Event()

    def hang(handler) -> None:
        cut(1000)(handler)
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(20)

    on_blobs(there, hang)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull(there, fresh)
    over.set()
    assert time.monotonic() - begun < 5
    pull(there, fresh)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)
    assert parts(fresh) == []


def test_two_pulls_at_once_bring_everything_once(there, image, fresh, tmp_path):
    def delayed(handler) -> None:
        time.sleep(0.2)
        name = handler.path.rsplit("/", 1)[1]
        found = there.blobs["group/sample"].get(name) or there.manifests["group/sample", name]
        handler.answer(200, found)

    there.faults["GET"] = [delayed] * 20
    stores = [ContentStore(fresh.folder), ContentStore(fresh.folder)]
    threads = [threading.Thread(target=pull, args=(there, one)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)
    assert sum(len(asked_for(there, layer.digest)) for layer in image.layers) == len(image.layers)


def test_resolving_brings_no_layer(there, image):
    found = CLIENT.resolve(f"{there.host}/group/sample:1")
    assert (found.digest, found.config, found.index) == (image.manifest_digest, image.config, None)
    assert found.reference == f"{there.host}/group/sample:1@{image.manifest_digest}"
    assert found.platform() == {"architecture": "amd64", "os": "linux"}
    assert there.methods() == ["GET"] * 2
    assert CLIENT.resolve(found.reference).digest == image.manifest_digest


def test_what_is_not_there(there, fresh):
    assert failing(there, fresh, name="group/sample:2").code == "E604"
    assert failing(there, fresh, name="nothing").code == "E604"
    text = str(failing(there, fresh, platform="linux/s390x"))
    assert "linux/s390x; there is: linux/amd64" in text


def test_a_cut_download_goes_on_where_it_was(there, image, fresh):
    on_blobs(there, cut(40_000), cut(30_000))
    RegistryClient(patience=QUICK, connections=1).pull(f"{there.host}/group/sample:1", fresh, quiet=True)
    first = max(image.layers, key=lambda layer: layer.size)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)
    assert asked_for(there, first.digest) == ["", "bytes=40000-", "bytes=70000-"]


def test_another_process_goes_on_where_one_gave_up(there, image, fresh):
    on_blobs(there, *[cut(100)] * 4)
    with pytest.raises(AfenvError) as caught:
        RegistryClient(patience=QUICK, connections=1).pull(f"{there.host}/group/sample:1", fresh, quiet=True)
    assert caught.value.code == "E201"
    assert "cut" in str(caught.value)
    assert len(parts(fresh)) == 1
    there.requests.clear()
    pull(there, fresh)
    assert parts(fresh) == []
    assert any("bytes=400-" in asked_for(there, layer.digest) for layer in image.layers)


def test_a_part_that_is_wrong_is_not_believed(there, image, fresh):
    name = image.layers[0].digest.partition(":")[2]
    (fresh.temporary_folder() / f"part-{name}").write_bytes(b"x" * 500)
    pull(there, fresh)
    assert fresh.trusted(image.layers[0].digest)
    assert asked_for(there, image.layers[0].digest) == ["bytes=500-", ""]


@pytest.mark.parametrize(
    "answer",
    [
        body(b"whole again", 206),
        body(b"x", 206, Content_Range="bytes 0-0/9"),
        body(b"", 416),
    ],
)
def test_registries_that_cannot_resume(there, image, fresh, answer):
    on_blobs(there, cut(1000), answer)
    RegistryClient(patience=QUICK, connections=1).pull(f"{there.host}/group/sample:1", fresh, quiet=True)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_a_registry_that_sends_all_instead_of_the_rest(there, image, fresh):
    first = max(image.layers, key=lambda layer: layer.size)
    on_blobs(there, cut(1000), body(there.blobs["group/sample"][first.digest]))
    RegistryClient(patience=QUICK, connections=1).pull(f"{there.host}/group/sample:1", fresh, quiet=True)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_a_corrupted_blob_is_refused_and_nothing_is_kept(there, image, fresh):
    victim = image.layers[2]
    data = bytearray(there.blobs["group/sample"][victim.digest])
    data[500] ^= 1
    there.blobs["group/sample"][victim.digest] = bytes(data)
    error = failing(there, fresh)
    assert error.code == "E301"
    assert victim.digest in str(error)
    assert not fresh.has(victim.digest)
    assert not fresh.has(image.manifest_digest)
    assert f"part-{victim.digest[7:]}" not in parts(fresh)


@pytest.mark.parametrize("more", [b"", b"more than it should be"])
def test_a_blob_of_another_size(there, image, fresh, more):
    victim = image.layers[2]
    data = there.blobs["group/sample"][victim.digest]
    there.blobs["group/sample"][victim.digest] = data + more if more else data[:-1]
    error = failing(there, fresh)
    assert error.code == "E302"
    assert not fresh.has(victim.digest)


def test_a_config_or_manifest_that_is_another(there, image, fresh):
    there.blobs["group/sample"][image.image_id] = b"{}"
    assert failing(there, fresh).code == "E301"
    there.manifests["group/sample", image.manifest_digest] = b"{}"
    assert failing(there, fresh, name=f"group/sample@{image.manifest_digest}").code == "E301"


def test_a_blob_that_is_not_there(there, image, fresh):
    del there.blobs["group/sample"][image.layers[1].digest]
    error = failing(there, fresh)
    assert (error.code, image.layers[1].digest in str(error)) == ("E604", True)


@pytest.mark.parametrize("fault", [429, 500, 503])
def test_what_may_pass_is_tried_again(there, image, fresh, fault):
    there.faults["GET"] = [fault, None, fault, fault, fault]
    pull(there, fresh)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_a_registry_that_is_busy_for_long(there, fresh, capsys):
    there.faults["GET"] = [body(b"", 429, Retry_After="3600")]
    error = failing(there, fresh)
    assert (error.code, "3600 s" in str(error)) == ("E602", True)


def test_of_a_long_pause_the_user_is_told(there, fresh, monkeypatch, capsys):
    from afenv_registry import transport

    monkeypatch.setattr(transport, "LONG", 0.5)
    there.faults["GET"] = [body(b"", 429, Retry_After="1")]
    CLIENT.pull(f"{there.host}/group/sample:1", fresh)
    assert f"{there.host} is busy: waiting 1 s" in capsys.readouterr().err


def trickle(handler) -> None:
    """Send a byte now and then."""
    blob = handler.server.registry.blobs["group/sample"].get(handler.path.rsplit("/", 1)[1], b"x" * 1000)
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(blob)))
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(blob[:1])
        blob = blob[1:]
        handler.wfile.flush()
        time.sleep(0.1)
    handler.close_connection = True


def silent(handler) -> None:
    """Say nothing."""
    time.sleep(3)
    handler.close_connection = True


def slow_head(handler) -> None:
    """Send the head letter by letter."""
    for letter in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n":
        handler.wfile.write(bytes([letter]))
        handler.wfile.flush()
        time.sleep(0.1)
    handler.close_connection = True


@pytest.mark.parametrize("fault", [trickle, silent, slow_head])
@pytest.mark.parametrize("position", [0, 2])
def test_a_transfer_that_stalls_is_made_again(there, image, fresh, fault, position):
    there.faults["GET"] = [*[None] * position, fault]
    begun = time.monotonic()
    pull(there, fresh)
    assert time.monotonic() - begun < 2.5
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_a_registry_that_only_stalls_is_given_up(there, fresh):
    there.faults["GET"] = [silent] * 50
    begun = time.monotonic()
    assert failing(there, fresh).code == "E201"
    assert time.monotonic() - begun < 4


def test_a_manifest_that_has_no_end(there, fresh):
    sent = []

    def endless(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(100 << 20))
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" " * (1 << 20))
                sent.append(1)
        except OSError:
            pass
        handler.close_connection = True

    there.faults["GET"] = [endless]
    error = failing(there, fresh)
    assert (error.code, "larger than 4 MiB" in str(error)) == ("E602", True)
    assert len(sent) < 20


def index_of(*entries, **more) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": list(entries), **more}
    ).encode()


def entry(data: bytes, platform=None, kind=media.IMAGE_MANIFEST):
    found = {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
    if platform:
        names = ("os", "architecture", "variant")
        found["platform"] = dict(zip(names, platform.split("/"), strict=False))
    return found


@pytest.fixture
def several(registry, store):
    """Images for two platforms and an attestation, in an index ``multi:1``; the images by platform."""
    images = {}
    entries = []
    for platform in ("linux/amd64", "linux/arm64/v8"):
        made = make_image(store, [[Member(path=platform.replace("/", "-"))]])
        CLIENT.push(made, store, f"{registry.host}/multi:{platform.replace('/', '-')}", quiet=True)
        images[platform] = made
        entries.append(entry(made.manifest, platform))
    entries.append({**entry(b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}})
    registry.manifests["multi", "1"] = index_of(*entries)
    nested = index_of(*entries)
    registry.manifests["multi", digest_of(nested)] = nested
    registry.manifests["multi", "nested"] = index_of(entry(nested, kind=media.IMAGE_INDEX))
    return images


@pytest.mark.parametrize("tag", ["1", "nested"])
def test_the_platform_chooses(registry, several, fresh, tag, monkeypatch):
    reference = f"{registry.host}/multi:{tag}"
    arm = CLIENT.resolve(reference, platform="linux/arm64")
    assert arm.digest == several["linux/arm64/v8"].manifest_digest
    assert arm.index is not None
    assert arm.index.content == registry.manifests["multi", tag]
    monkeypatch.setattr(resolving, "own_platform", lambda: "linux/amd64")
    pulled = CLIENT.pull(reference, fresh, quiet=True)
    assert pulled.manifest == several["linux/amd64"].manifest
    error = failing(registry, fresh, name=f"multi:{tag}", platform="windows/amd64")
    assert error.code == "E604"


def test_a_platform_that_is_none(registry, several, fresh):
    assert failing(registry, fresh, name="multi:1", platform="amd64").code == "E030"


def test_variants(several):
    entries = [entry(b"1", "linux/arm/v6"), entry(b"2", "linux/arm/v7"), entry(b"3", "linux/arm64")]

    def chosen(platform):
        found = resolving.choose(entries, platform)
        return found and found["digest"]

    assert chosen("linux/arm") == digest_of(b"2")
    assert chosen("linux/arm/v6") == digest_of(b"1")
    assert chosen("linux/arm64/v8") == digest_of(b"3")
    assert chosen("linux/arm64/v9") is None
    assert resolving.choose([entry(b"x")], "linux/amd64") == entry(b"x")


def test_an_index_that_contains_itself(registry, fresh):
    """No content has its own digest in it, so the registry has to lie for that."""
    endless = index_of({**entry(b"", kind=media.IMAGE_INDEX), "digest": "sha256:" + "a" * 64})
    registry.manifests["x", "1"] = registry.manifests["x", "sha256:" + "a" * 64] = endless
    assert failing(registry, fresh, name="x:1").code == "E301"


def test_indexes_without_end(registry, fresh):
    inner = index_of()
    for _ in range(10):
        registry.manifests["x", digest_of(inner)] = inner
        inner = index_of(entry(inner, "linux/amd64", media.IMAGE_INDEX))
    registry.manifests["x", "1"] = inner
    error = failing(registry, fresh, name="x:1", platform="linux/amd64")
    assert (error.code, "nested too deeply" in str(error)) == ("E602", True)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"not json",
        b"[" * 100_000,
        b'{"schemaVersion": 1}',
        b'{"config": 1, "layers": []}',
        b'{"config": {"digest": "sha256:1", "size": 1}}',
        b'{"config": {"digest": "../x", "size": 1}}',
        b'{"manifests": 1}',
        b'{"manifests": [1]}',
        json.dumps({"manifests": [{"digest": "sha256:" + "a" * 64, "size": -1}]}).encode(),
        json.dumps({"config": entry(b"{}"), "layers": [{**entry(b"x"), "size": "1"}]}).encode(),
    ],
)
def test_manifests_that_are_none(registry, fresh, document):
    registry.manifests["x", "1"] = document
    registry.blobs["x"] = {digest_of(b"{}"): b"{}"}
    assert failing(registry, fresh, name="x:1").code == "E602"


@pytest.mark.parametrize("config", [b"[]", b"x", b"{}", b'{"rootfs": {"diff_ids": ["x"]}}', b'{"rootfs": 1}'])
def test_configs_that_are_none(registry, fresh, config):
    registry.blobs["x"] = {digest_of(config): config}
    registry.manifests["x", "1"] = json.dumps(
        {"mediaType": media.IMAGE_MANIFEST, "config": entry(config), "layers": [entry(b"1")]}
    ).encode()
    assert failing(registry, fresh, name="x:1").code in ("E510", "E602")


@pytest.mark.parametrize("length", ["3", "9" * 5000])
def test_a_length_beside_chunks_does_not_count(there, image, length):
    def chunked(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(image.manifest), image.manifest))

    there.faults["GET"] = [chunked]
    assert CLIENT.resolve(f"{there.host}/group/sample:1", quiet=True).manifest == image.manifest


@pytest.mark.parametrize("system", [5, ["linux"], {"a": 1}, "\x1b[2Jlinux"])
def test_platforms_of_configs_that_are_odd(registry, fresh, system):
    config = json.dumps({"os": system, "architecture": "amd64"}).encode()
    registry.blobs["x"] = {digest_of(config): config}
    registry.manifests["x", "1"] = json.dumps({"config": entry(config), "layers": []}).encode()
    error = failing(registry, fresh, name="x:1", platform="linux/s390x")
    assert (error.code, "\x1b" in str(error)) == ("E604", False)


def test_dockers_own_types(there, image, fresh):
    text = image.manifest.decode()
    for ours, dockers in (
        (media.IMAGE_MANIFEST, media.DOCKER_MANIFEST),
        (media.IMAGE_CONFIG, media.DOCKER_CONFIG),
        (media.LAYER_GZIP, media.DOCKER_LAYER_GZIP),
    ):
        text = text.replace(ours, dockers)
    there.manifests["group/sample", "docker"] = text.encode()
    pulled = pull(there, fresh, name="group/sample:docker")
    assert pulled.manifest == text.encode()
    assert pulled.manifest_media_type == media.DOCKER_MANIFEST
    assert {layer.media_type for layer in pulled.layers} == {media.DOCKER_LAYER_GZIP}


def test_credentials_do_not_follow_a_redirect(there, other_registry, image, fresh, no_credentials):
    """Blobs often lie at another host, which must not learn the password, even if it asks for one."""
    (no_credentials / "config.json").write_text(
        json.dumps({"auths": {there.host: {"username": "me", "password": "secret"}}})
    )
    there.allowed, there.challenge = {"Basic bWU6c2VjcmV0"}, "Basic"
    other_registry.blobs = there.blobs

    def moved(handler) -> None:
        handler.answer(307, Location=f"http://{other_registry.host}{handler.path}")

    on_blobs(there, None, *[moved] * 8)
    pull(there, fresh)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)
    assert other_registry.requests
    assert not any("authorization" in headers for _, _, headers in other_registry.requests)
    other_registry.allowed, other_registry.challenge = set(), "Basic"
    on_blobs(there, None, *[moved] * 100)
    assert failing(there, ContentStore(fresh.folder / "2")).code == "E601"
    assert not any("authorization" in headers for _, _, headers in other_registry.requests)


def test_a_storage_elsewhere_whose_url_ended(there, other_registry, image, fresh):
    other_registry.blobs = there.blobs
    other_registry.faults["GET"] = [403]

    def moved(handler) -> None:
        handler.answer(307, Location=f"http://{other_registry.host}{handler.path}")

    on_blobs(there, *[moved] * 8)
    pull(there, fresh)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_a_storage_elsewhere_that_answers_to_get_only(there, other_registry, image):
    other_registry.faults["HEAD"] = [403]
    there.faults["HEAD"] = [
        lambda handler: handler.answer(307, Location=f"http://{other_registry.host}{handler.path}")
    ]
    with CLIENT.repository(f"{there.host}/group/sample") as repository:
        assert repository.has_blob(image.layers[0].digest)


def test_redirects_without_end(there, fresh):
    there.faults["GET"] = [lambda handler: handler.answer(307, Location=handler.path)] * 20
    error = failing(there, fresh)
    assert (error.code, "without end" in str(error)) == ("E602", True)


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "http://[::1",
        "http://[x]/",
        "http://h:x/",
        "http://h:99999/",
        "http://h:0/",
        "http://me:secret@h:x/",
    ],
)
def test_redirects_to_another_kind_of_url(there, fresh, where):
    there.faults["GET"] = [lambda handler: handler.answer(307, Location=where)]
    assert failing(there, fresh).code == "E602"


@pytest.mark.parametrize("host", ["x" * 70 + ".org", "a..b", "[::1]:1"])
def test_redirects_to_what_is_no_host(there, fresh, host):
    there.faults["GET"] = [lambda handler: handler.answer(307, Location=f"http://{host}/x")] * 50
    assert failing(there, fresh).code in ("E201", "E602")


def test_a_registry_that_never_accepts_the_password(there, fresh, no_credentials):
    (no_credentials / "config.json").write_text(
        json.dumps({"auths": {there.host: {"username": "me", "password": "x"}}})
    )
    there.allowed, there.challenge = set(), f'Bearer realm="http://{there.host}/token",service="s"'
    there.tokens = {"Basic": "useless"}
    error = failing(there, fresh)
    assert error.code == "E601"
    assert len(there.requests) < 10


# mirrors


def test_a_mirror_is_asked_first_and_the_registry_after_it(
    there, other_registry, image, fresh, store, monkeypatch
):
    monkeypatch.setenv("AFENV_MIRRORS", f"oci://{there.host}/=http://{other_registry.host}/copy/")
    pull(there, fresh)
    assert all(path.startswith("/v2/copy/group/sample/") for _, path, _ in other_registry.requests)
    assert len(there.requests) == 6
    for layer in image.layers:
        other_registry.blobs.setdefault("copy/group/sample", {})[layer.digest] = store.read(layer.digest)
    other_registry.blobs["copy/group/sample"][image.image_id] = image.config
    other_registry.manifests["copy/group/sample", "1"] = image.manifest
    there.requests.clear()
    pull(there, ContentStore(fresh.folder / "2"))
    assert not there.requests


def test_a_mirror_that_does_not_answer_is_asked_twice_at_most(
    there, other_registry, image, fresh, monkeypatch
):
    monkeypatch.setenv("AFENV_MIRRORS", f"oci://{there.host}/=http://{other_registry.host}/copy/")
    other_registry.faults["GET"] = [silent] * 50
    begun = time.monotonic()
    pull(there, fresh)
    assert time.monotonic() - begun < 3
    assert len(other_registry.requests) == 2
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_what_a_mirror_sends_is_checked(there, other_registry, image, fresh, store, monkeypatch):
    monkeypatch.setenv("AFENV_MIRRORS", f"oci://{there.host}/group=http://{other_registry.host}/g")
    blobs = {layer.digest: b"x" * layer.size for layer in image.layers}
    other_registry.blobs["g/sample"] = {**blobs, image.image_id: b"y"}
    other_registry.manifests["g/sample", "1"] = image.manifest
    pull(there, fresh)
    assert all(fresh.trusted(layer.digest, layer.size) for layer in image.layers)


def test_mirrors_are_not_written_to(registry, other_registry, image, store, monkeypatch):
    monkeypatch.setenv("AFENV_MIRRORS", f"oci://{registry.host}=http://{other_registry.host}/m")
    CLIENT.push(image, store, f"{registry.host}/group/sample:1", quiet=True)
    assert not other_registry.requests


@pytest.mark.parametrize("rule", ["oci://{}/=", "oci://{}/=ftp://x/y", "oci://{}/=http://"])
def test_rules_that_name_no_mirror(there, fresh, monkeypatch, rule):
    monkeypatch.setenv("AFENV_MIRRORS", rule.format(there.host))
    assert failing(there, fresh).code == "E030"


# lists, and other parts of the protocol


def test_tags_come_page_by_page(there):
    there.page = 2
    for name in "abcde":
        there.manifests["group/sample", name] = b"{}"
    with CLIENT.repository(f"{there.host}/group/sample") as repository:
        assert list(repository.tags()) == ["1", "a", "b", "c", "d", "e"]
    with CLIENT.repository(f"{there.host}/nothing") as repository:
        assert list(repository.tags()) == []


def test_a_list_without_end(there, monkeypatch):
    monkeypatch.setattr(repositories, "PAGES", 20)

    def again(handler) -> None:
        handler.answer(200, b'{"tags": ["a"]}', Link=f'<{handler.path}>; rel="next"')

    there.faults["GET"] = [again] * 50
    with CLIENT.repository(f"{there.host}/x") as repository, pytest.raises(AfenvError) as caught:
        list(repository.tags())
    assert caught.value.code == "E602"


@pytest.mark.parametrize("tags", [5, {"a": 1}, "abc"])
def test_lists_of_tags_that_are_none(there, tags):
    there.faults["GET"] = [body(json.dumps({"tags": tags}).encode())]
    with CLIENT.repository(f"{there.host}/x") as repository, pytest.raises(AfenvError) as caught:
        list(repository.tags())
    assert caught.value.code == "E602"


def test_a_link_that_is_long_takes_no_time(there):
    there.faults["GET"] = [body(b'{"tags": []}', Link="<" * 50_000)]
    begun = time.monotonic()
    with CLIENT.repository(f"{there.host}/x") as repository:
        assert list(repository.tags()) == []
    assert time.monotonic() - begun < 2


def test_referrers(there, image):
    subject = {"mediaType": media.IMAGE_MANIFEST, "digest": image.manifest_digest, "size": 1}
    empty = b"{}"
    with CLIENT.repository(f"{there.host}/group/sample", actions="pull,push,delete") as repository:
        assert repository.referrers(image.manifest_digest) == []
        assert repository.put_bytes(empty) == digest_of(empty)
        assert repository.has_blob(digest_of(empty))
        for kind in ("a/b", "c/d"):
            document = {
                "schemaVersion": 2,
                "mediaType": media.IMAGE_MANIFEST,
                "artifactType": kind,
                "config": {"mediaType": media.EMPTY, "digest": digest_of(empty), "size": 2},
                "layers": [],
                "subject": subject,
            }
            stored = repository.put_manifest(json.dumps(document).encode(), media.IMAGE_MANIFEST)
            assert stored.subject == image.manifest_digest
        found = repository.referrers(image.manifest_digest)
        assert found is not None
        assert sorted(one["artifactType"] for one in found) == ["a/b", "c/d"]
        (only,) = repository.referrers(image.manifest_digest, artifact_type="a/b") or ()
        assert repository.delete_manifest(only["digest"])
        assert len(repository.referrers(image.manifest_digest) or ()) == 1
        there.referrers = False
        assert repository.referrers(image.manifest_digest) is None


def test_a_blob_is_read_as_it_comes(there, image, store):
    layer = image.layers[0]
    with CLIENT.repository(f"{there.host}/group/sample") as repository:
        room = bytearray(1000)
        with repository.open_blob(layer.digest) as blob:
            count = blob.readinto(memoryview(room))
        assert store.read(layer.digest).startswith(bytes(room[:count]))
        assert repository.get_blob(layer.digest) == store.read(layer.digest)
        with pytest.raises(AfenvError) as caught:
            repository.get_blob(layer.digest, limit=10)
        assert caught.value.code == "E602"
        with pytest.raises(AfenvError) as caught, repository.open_blob("sha256:" + "0" * 64):
            pass
        assert caught.value.code == "E604"
