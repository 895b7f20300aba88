"""Sharded repodata (CEP 16): the records of each package in a file of their own, as conda-forge has them."""

from __future__ import annotations

import functools
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard


def msgpack(value: Any) -> bytes:
    """A value in MessagePack, as far as shards need it."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return b"\xd3" + struct.pack(">q", value)
        case str():
            data = value.encode()
            return b"\xdb" + struct.pack(">I", len(data)) + data
        case bytes():
            return b"\xc6" + struct.pack(">I", len(value)) + value
        case list():
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(msgpack, value))
        case dict():
            items = b"".join(msgpack(key) + msgpack(item) for key, item in value.items())
            return b"\xdf" + struct.pack(">I", len(value)) + items
    raise TypeError(value)


def shard(channel: Path) -> None:
    """Replace the index of a channel by shards."""
    for folder in (channel / "linux-64", channel / "noarch"):
        index = folder / "repodata.json"
        data = json.loads(index.read_bytes())
        index.unlink()
        by_name: dict[str, dict[str, dict[str, Any]]] = {}
        for kind in ("packages", "packages.conda"):
            for file, record in data[kind].items():
                digests = {key: bytes.fromhex(record[key]) for key in ("sha256", "md5") if key in record}
                empty: dict[str, Any] = {"packages": {}, "packages.conda": {}, "removed": []}
                by_name.setdefault(record["name"], empty)[kind][file] = record | digests
        shards = {}
        (folder / "shards").mkdir(exist_ok=True)
        for name, content in by_name.items():
            packed = zstandard.compress(msgpack(content))
            digest = hashlib.sha256(packed)
            shards[name] = digest.digest()
            (folder / "shards" / f"{digest.hexdigest()}.msgpack.zst").write_bytes(packed)
        head = {
            "version": 1,
            "info": {
                "base_url": "./",
                "shards_base_url": "./shards/",
                "subdir": folder.name,
                "created_at": "2025-01-01T00:00:00Z",
            },
            "shards": shards,
        }
        (folder / "repodata_shards.msgpack.zst").write_bytes(zstandard.compress(msgpack(head)))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    seen: list[str]


class _Handler(SimpleHTTPRequestHandler):
    server: _Server

    def log_message(self, *arguments: object) -> None:
        self.server.seen.append(self.path)


@pytest.fixture
def sharded(physics: Any) -> Iterator[tuple[str, list[str]]]:
    """The URL of the channel, which has shards and nothing else, and what was asked of it."""
    physics.plain = physics.resolve("hist").records
    shard(physics.channel.folder)
    server = _Server(("127.0.0.1", 0), functools.partial(_Handler, directory=str(physics.channel.folder)))
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sharded_channel_gives_what_the_index_gave(physics: Any, sharded: tuple[str, list[str]]) -> None:
    url, seen = sharded
    settings = replace(physics.settings, mirrors=(("https://conda.anaconda.org/conda-forge/", url + "/"),))

    def told(package: Any) -> Any:
        return replace(package, channel="", file=replace(package.file, urls=()))

    found = physics.resolve("hist", channels=("conda-forge",), settings=settings).records
    assert [told(package) for package in found] == [told(package) for package in physics.plain]
    hist = next(package for package in found if package.name == "hist")
    assert hist.file.urls == ("https://conda.anaconda.org/conda-forge/noarch/hist-2.7-0.conda",)
    assert any(path.endswith("/repodata_shards.msgpack.zst") for path in seen)
    assert sum("/shards/" in path for path in seen) >= len(found)
    offline = replace(settings, offline=True)
    assert physics.resolve("hist", channels=("conda-forge",), settings=offline).records == found


def test_errors_and_times_are_as_with_an_index(physics: Any, sharded: tuple[str, list[str]]) -> None:
    url, _ = sharded
    assert "root" in physics.fails("E102", "root", "numpy=2", channels=(url,))
    assert "did you mean" in physics.fails("E101", "histt", channels=(url,)).lower()
    early = datetime(2023, 1, 1, tzinfo=UTC)
    physics.fails("E101", "hist", channels=(url,), as_of=early)


def test_an_answer_of_not_modified_is_understood(physics: Any, sharded: tuple[str, list[str]]) -> None:
    url, seen = sharded
    first = physics.resolve("hist", channels=(url,)).records
    asked = len(seen)
    assert physics.resolve("hist", channels=(url,)).records == first
    assert len(seen) > asked


def test_a_damaged_shard_is_noticed(physics: Any, sharded: tuple[str, list[str]]) -> None:
    url, _ = sharded
    for path in (physics.channel.folder / "noarch" / "shards").iterdir():
        path.write_bytes(b"x" * path.stat().st_size)
    assert "damaged" in physics.fails("E202", "hist", channels=(url,))
