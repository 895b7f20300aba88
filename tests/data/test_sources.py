"""Storage: what it states, what its failures mean, and that it sees no secret that is not meant for it."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from afenv.data import credentials
from afenv.data.access import DataAccess
from afenv.data.digests import Digests
from afenv.data.source import scrub
from afenv.data.source_http import HttpSource, stated_digests
from afenv.data.source_xrootd import checksum, failure, split
from afenv.store.transport import SourceError

from .conftest import QUICK, checksums


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) - 1, 3 << 20])
def test_checksums_of_one_pass(size: int) -> None:
    content = os.urandom(size)
    digests = Digests(("sha256", "md5", "adler32", "sha512", "sha1", "md5"))
    for start in range(0, size, 300_000):
        digests.update(content[start : start + 300_000])
    expected = checksums(content)
    expected |= {name: hashlib.new(name, content).hexdigest() for name in ("sha512", "sha1")}
    assert digests.results() == expected
    digests.update(b"more")
    assert digests.results()["sha256"] == checksums(content + b"more")["sha256"]
    digests.close()


def test_digests_that_http_states() -> None:
    md5 = hashlib.md5(b"a").digest()
    sha = hashlib.sha256(b"a").digest()
    text = f"adler32=620062, md5={base64.b64encode(md5).decode()},unixsum=12, sha-256=x"
    assert stated_digests({"digest": text}) == {"adler32": "00620062", "md5": md5.hex()}
    assert stated_digests({"repr-digest": f"sha-256=:{base64.b64encode(sha).decode()}:"}) == {
        "sha256": sha.hex()
    }
    assert stated_digests({"digest": f"md5={md5.hex()}"}) == {"md5": md5.hex()}
    assert stated_digests({}) == {}


def test_http_without_head(access: DataAccess, http_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = http_server.put("/e", b"abc")
    assert access.look(url).size == 3
    assert http_server.requests == []  # HEAD is not recorded
    opened = HttpSource._open

    def no_head(self: Any, uri: str, headers: Any, method: str = "GET") -> Any:
        if method == "HEAD":
            raise SourceError("E202", "405 Method Not Allowed")
        return opened(self, uri, headers, method)

    monkeypatch.setattr(HttpSource, "_open", no_head)
    assert access.look(url).size == 3
    assert http_server.requests[0][1]["range"] == "bytes=0-0"


@pytest.mark.parametrize("status", [401, 403])
def test_denied_is_said_with_what_to_do(
    access: DataAccess, http_server: Any, fault: Any, status: int
) -> None:
    url = http_server.put("/e", b"abc", fault.status(status))
    with pytest.raises(SourceError) as caught, access.source(url).read(url, 0):
        pass
    assert caught.value.code == "E647"
    assert "AFENV_DATA_HOSTS" in (caught.value.remedy or "")


def test_credentials_go_only_where_they_may(
    access: DataAccess, http_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARER_TOKEN", "a-secret-token")
    url = http_server.put("/e", b"abc")
    with access.source(url).read(url, 0) as content:
        assert b"".join(content.chunks) == b"abc"
    assert "authorization" not in http_server.requests[0][1]
    monkeypatch.setenv("AFENV_DATA_HOSTS", "127.0.0.1 *.example.org")
    with access.source(url).read(url, 0) as content:
        b"".join(content.chunks)
    assert "authorization" not in http_server.requests[1][1]  # not encrypted
    assert credentials.trusted("https://se.example.org/x")
    assert not credentials.trusted("https://example.org.evil.net/x")
    assert not credentials.trusted("https://evil.net/.example.org")


def test_a_token_is_sent_over_tls(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Answered(Exception):
        pass

    def request(self: Any, method: str, url: str, **more: Any) -> None:
        sent.append((url, more["headers"].get("Authorization"), more["cert"]))
        raise Answered

    monkeypatch.setattr("requests.Session.request", request)
    monkeypatch.setenv("AFENV_DATA_HOSTS", "*.example.org")
    monkeypatch.setenv("BEARER_TOKEN", "a-secret-token")
    source = HttpSource(settings, QUICK)
    for uri in ("davs://se.example.org/x", "https://other.net/x"):
        with pytest.raises(Answered):
            source.look(uri)
    assert sent[0][:2] == ("https://se.example.org/x", "Bearer a-secret-token")
    assert sent[1][1] is None


def test_the_discovery_of_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"bt_u{os.geteuid()}").write_text("third\n")
    assert credentials.bearer_token() == "third"
    (tmp_path / "file").write_text(" second ")
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "file"))
    assert credentials.bearer_token() == "second"
    monkeypatch.setenv("BEARER_TOKEN", "first")
    assert credentials.bearer_token() == "first"


def test_secrets_are_taken_out_of_what_others_say() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    for text in (
        f"failed: root://h//x?authz=Bearer%20{token} (source)",
        "GET https://user:secret@h/x?X-Amz-Signature=secret denied",
        f"Authorization: Bearer {token}",
        f"bearer {token} has expired",
    ):
        shown = scrub(text)
        assert "secret" not in shown
        assert "eyJ" not in shown
        assert token.split(".")[1] not in shown


def test_xrootd_words() -> None:
    assert split("root://h:1094//eos/x?a=b") == ("root://h:1094", "/eos/x?a=b")
    assert split("root://h/x") == ("root://h", "/x")
    assert split("root://cache//root://h//x") == ("root://cache", "/root://h//x")
    assert checksum("adler32 24d0127\0") == {"adler32": "024d0127"}
    assert checksum("crc32c 12345678") == {}
    assert checksum("adler32") == {}
    assert checksum("adler32 zzz") == {}
    known = {"connected": True, "patience": QUICK}
    assert failure(3011, "[ERROR] x", **known).code == "E103"
    assert failure(3010, "[ERROR] permission denied", **known).code == "E647"
    assert failure(3024, "busy", **known).again
    expired = failure(0, "[ERROR] Operation expired", **known)
    assert (expired.code, expired.again, expired.reason) == ("E201", True, "no byte came for 0.5 s")


def test_other_storage_through_fsspec(access: DataAccess) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe("/d/a.root", b"abcdef")
    system.pipe("/d/sub/b.root", b"b")
    uri = "memory://d/a.root"
    assert access.look(uri).size == 6
    with access.source(uri).read(uri, 2) as content:
        assert (content.start, content.size, b"".join(content.chunks)) == (2, 6, b"cdef")
    assert access.source(uri).files("memory://d/") == [("a.root", 6), ("sub/b.root", 1)]
    with pytest.raises(SourceError) as caught:
        access.look("memory://d/none")
    assert caught.value.code == "E103"
    with pytest.raises(SourceError) as caught:
        access.look("nonsense://d/none")
    assert caught.value.code == "E640"


def test_without_fsspec_that_is_said(access: DataAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(SourceError) as caught:
        access.look("memory://d/a")
    assert caught.value.code == "E646"
    assert "afenv[data]" in (caught.value.remedy or "")


def test_without_any_xrootd_that_is_said(access: DataAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFENV_XROOTD", "xrdcp")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceError) as caught:
        access.look("root://h//x")
    assert caught.value.code == "E646"
