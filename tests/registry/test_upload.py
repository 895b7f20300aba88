"""Uploads in chunks, resumed after a cut, and what registries do that know none."""

from __future__ import annotations

import io
import os
import socket
import struct
import time

import pytest

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv_registry import upload
from afenv_registry.client import RegistryClient
from afenv_registry.transport import Patience

QUICK = Patience(connect=2, stall=0.4, answer=1, attempts=4, first_pause=0.01, longest_pause=0.02)
CHUNK = 10_000
DATA = os.urandom(5 * CHUNK + 123)
DIGEST = sha256_bytes(DATA)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(upload, "CHUNK", CHUNK)


@pytest.fixture(params=["file", "memory"])
def opener(request, tmp_path):
    """What opens the data: a file, or a stream that is none."""
    (tmp_path / "data").write_bytes(DATA)
    return (tmp_path / "data").open if request.param == "file" else None


def put(registry, opener=None, data=DATA, **more) -> int:
    """Send the data; the sum of the bytes that were counted."""
    counted: list[int] = []
    with RegistryClient(patience=QUICK).repository(f"{registry.host}/a/b") as repository:
        repository.put_blob(
            sha256_bytes(data),
            len(data),
            (lambda: opener("rb")) if opener else (lambda: io.BytesIO(data)),
            sent=counted.append,
            **more,
        )
    assert registry.blobs["a/b"][sha256_bytes(data)] == data
    return sum(counted)


def ranges(registry) -> list[str]:
    return [headers.get("content-range", "") for method, _, headers in registry.requests if method == "PATCH"]


def drop(handler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def keep(count: int):
    """Take that many bytes of a chunk, and reset the connection."""

    def fault(handler) -> None:
        name = handler.path.partition("?")[0].rsplit("/", 1)[1]
        handler.server.registry.uploads[name] += handler.rfile.read(count)
        drop(handler)

    return fault


def test_a_large_blob_goes_in_chunks(registry, opener):
    assert put(registry, opener) == len(DATA)
    assert ranges(registry) == [
        *(f"{count * CHUNK}-{(count + 1) * CHUNK - 1}" for count in range(5)),
        f"{5 * CHUNK}-{5 * CHUNK + 122}",
    ]
    assert registry.methods().count("PUT") == 1


@pytest.mark.parametrize("size", [0, 1, CHUNK])
def test_a_small_blob_goes_in_one_request(registry, size):
    assert put(registry, data=DATA[:size]) == size
    assert registry.methods() == ["POST", "PUT"]


def test_a_cut_upload_goes_on_where_it_was(registry, opener):
    registry.faults["PATCH"] = [None, keep(3000), None, keep(0)]
    assert put(registry, opener) == len(DATA)
    assert ranges(registry)[1:4] == ["10000-19999", "13000-22999", "23000-32999"]
    assert registry.methods().count("POST") == 1


def test_a_small_blob_goes_on_too(registry):
    registry.faults["PUT"] = [keep(4000)]
    assert put(registry, data=DATA[:CHUNK]) == CHUNK
    assert ranges(registry) == [f"4000-{CHUNK - 1}"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "bookmarks"))
    return tmp_path / "bookmarks" / "tmp"


def interrupted(registry, opener) -> None:
    """A push that ends in the middle of a chunk, as by Ctrl-C."""
    total = [0]

    def count(amount: int) -> None:
        total[0] += amount
        if total[0] > 2.5 * CHUNK:
            raise KeyboardInterrupt

    client = RegistryClient(patience=QUICK)
    with pytest.raises(KeyboardInterrupt), client.repository(f"{registry.host}/a/b") as repository:
        repository.put_blob(
            DIGEST, len(DATA), lambda: opener("rb") if opener else io.BytesIO(DATA), sent=count
        )


def test_the_next_process_goes_on(registry, opener, cache):
    interrupted(registry, opener)
    (bookmark,) = cache.iterdir()
    assert bookmark.stat().st_mode & 0o777 == 0o600
    registry.requests.clear()
    assert put(registry, opener) == len(DATA)
    assert registry.methods().count("POST") == 0
    assert int(ranges(registry)[0].partition("-")[0]) >= 2 * CHUNK
    assert list(cache.iterdir()) == []


def test_bookmarks_of_uploads_that_are_gone(registry, opener, cache):
    interrupted(registry, opener)
    registry.uploads.clear()
    assert put(registry, opener) == len(DATA)
    assert list(cache.iterdir()) == []
    interrupted(registry, opener)
    next(cache.iterdir()).write_text("damaged")
    registry.blobs.clear()
    assert put(registry, opener) == len(DATA)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_in_between(registry, status):
    registry.faults["PATCH"] = [None, status, status]
    registry.faults["PUT"] = [status]
    assert put(registry) == len(DATA)


def test_a_registry_that_stalls(registry):
    def silent(handler) -> None:
        time.sleep(2)
        handler.close_connection = True

    registry.faults["PATCH"] = [silent]
    begun = time.monotonic()
    assert put(registry) == len(DATA)
    assert time.monotonic() - begun < 2


def test_a_registry_that_forgets_the_upload(registry):
    def forget(handler) -> None:
        registry.uploads.clear()
        drop(handler)

    registry.faults["PATCH"] = [None, None, forget]
    assert put(registry) == len(DATA)
    assert registry.methods().count("POST") == 2


def test_a_registry_that_knows_no_chunks(registry, opener):
    registry.chunks = False
    assert put(registry, opener) == len(DATA)
    assert registry.methods() == ["HEAD", "PATCH", "POST", "POST", "PUT"]


def test_a_registry_that_says_how_far_it_is_but_takes_no_more(registry):
    registry.faults["PUT"] = [keep(4000)]
    registry.faults["PATCH"] = [405]
    assert put(registry, data=DATA[:CHUNK]) == CHUNK
    assert registry.methods().count("POST") == 2


def test_a_registry_that_is_confused_after_some_chunks(registry):
    registry.faults["PATCH"] = [None, None, 400]
    assert put(registry) == len(DATA)
    assert registry.methods().count("POST") == 1


def test_a_registry_that_takes_less_than_was_sent(registry):
    def half(handler) -> None:
        length = int(handler.headers["Content-Length"])
        data = handler.rfile.read(length)[: length // 2]
        name = handler.path.partition("?")[0].rsplit("/", 1)[1]
        registry.uploads[name] += data
        end = len(registry.uploads[name]) - 1
        handler.answer(202, Range=f"0-{end}", Location=handler.path)

    registry.faults["PATCH"] = [half]
    assert put(registry) == len(DATA)
    assert ranges(registry)[1] == "5000-14999"


def test_patience_ends(registry):
    registry.faults["PATCH"] = [500] * 50
    with pytest.raises(AfenvError) as caught:
        put(registry)
    assert (caught.value.code, "500" in str(caught.value)) == ("E602", True)
    assert registry.methods().count("PATCH") == QUICK.attempts


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("PUT", 200, {}), ("PUT", 202, {}), ("PATCH", 200, {}), ("PATCH", 202, {"Range": "0-0"})],
)
def test_a_registry_that_says_yes_and_takes_nothing(registry, method, status, headers):
    def nothing(handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer(status, **headers)

    registry.faults[method] = [nothing] * 50
    with pytest.raises(AfenvError) as caught:
        put(registry)
    assert (caught.value.code, str(status) in str(caught.value)) == ("E602", True)
    assert registry.methods().count(method) <= 2


def test_patience_is_for_failures_in_a_row(registry):
    registry.faults["PATCH"] = [drop, drop, None] * 6
    assert put(registry) == len(DATA)


def test_a_blob_that_is_not_what_it_should_be(registry):
    with RegistryClient(patience=QUICK).repository(f"{registry.host}/a/b") as repository:
        with pytest.raises(AfenvError) as caught:
            repository.put_blob("sha256:" + "0" * 64, 10, lambda: io.BytesIO(bytes(10)))
        assert caught.value.code == "E301"


def test_mounting(registry):
    registry.blobs["other"] = {DIGEST: DATA}
    assert put(registry, mount_from=["nothing", "other"]) == len(DATA)
    assert registry.methods() == ["POST", "POST"]
    with RegistryClient(patience=QUICK).repository(f"{registry.host}/a/c") as repository:
        assert repository.mount_blob(DIGEST, "other")
        assert not repository.mount_blob("sha256:" + "0" * 64, "other")
    assert len(registry.uploads) == 1  # of the repository that had nothing


def test_the_repository_of_the_base_is_mounted_from(registry, store):
    import json
    from dataclasses import replace

    from afenv.testing import make_image

    image = make_image(store)
    document = json.loads(image.manifest)
    base = {"org.opencontainers.image.base.name": f"{registry.host}/library/base:1"}
    image = replace(image, manifest=json.dumps({**document, "annotations": base}).encode())
    registry.blobs["library/base"] = {layer.digest: store.read(layer.digest) for layer in image.layers}
    RegistryClient(patience=QUICK).push(image, store, f"{registry.host}/a/b", quiet=True)
    assert registry.methods().count("PUT") == 2  # the config and the manifest
