"""Git LFS: a server that speaks the batch API (git-lfs, docs/api/batch.md), objects at hand, and lies."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers import code_lfs_http
from afenv.layers.code import code_files
from afenv.layers.code_lfs import Pointer, read_pointer
from afenv.layers.code_lfs_url import server_url, ssh_command
from afenv.resolve.code import resolve_code
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import Patience

HERE = CodeSource(folder=".")
DATA = b"\0root\xff" * 999
RULES = "*.root filter=lfs diff=lfs merge=lfs -text\n"


def pointer(data: bytes, size: int | None = None) -> str:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size or len(data)}\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(code_lfs_http, "PATIENCE", Patience(attempts=2, first_pause=0, connect=2, stall=2))
    return Settings(cache_folder=tmp_path / "cache")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore(settings.cache_folder)


def fails(code: str, call: Callable[[], object]) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        call()
    assert caught.value.code == code, str(caught.value)
    return caught.value


@dataclass
class Server:
    """An LFS server; ``change`` alters its answers, ``fail`` is a status for the first requests."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    secret: str = ""
    change: Callable[[dict[str, Any]], Any] = lambda answer: answer
    fail: list[int] = field(default_factory=list)
    garbage: bytes | None = None
    asked: list[str] = field(default_factory=list)
    key: str = "key"  # what the answers tell the client to send


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            made.asked.append(self.path)
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            expected = "Basic " + base64.b64encode(f"oauth2:{made.secret}".encode()).decode()
            if made.fail:
                return self.answer(made.fail.pop(0), Retry_After="0")
            if made.secret and self.headers.get("Authorization") != expected:
                return self.answer(401, LFS_Authenticate="Basic realm=x")
            if made.garbage is not None:
                return self.answer(200, made.garbage)
            assert self.path == "/group/a.git/info/lfs/objects/batch"
            assert self.headers["Accept"] == self.headers["Content-Type"] == "application/vnd.git-lfs+json"
            assert question["operation"] == "download"
            objects = []
            for item in question["objects"]:
                found: dict[str, Any] = dict(item)
                if item["oid"] in made.objects:
                    href = f"http://127.0.0.1:{web.server_port}/objects/{item['oid']}?signature=s3cret"
                    header = {"X-Key": made.key}
                    found |= {
                        "authenticated": True,
                        "actions": {"download": {"href": href, "header": header}},
                    }
                else:
                    found |= {"error": {"code": 404, "message": "Object does not exist"}}
                objects.append(found)
            body = json.dumps(made.change({"transfer": "basic", "objects": objects})).encode()
            return self.answer(200, body, Content_Type="application/vnd.git-lfs+json")

        def do_GET(self) -> None:
            made.asked.append(self.path.partition("?")[0])
            data = made.objects.get(self.path.partition("?")[0].rpartition("/")[2])
            if data is None or self.headers.get("X-Key") != made.key:
                return self.answer(404)
            return self.answer(200, data)

        def log_message(self, *_: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{web.server_port}/group/a.git/info/lfs"
    yield made
    web.shutdown()
    web.server_close()
    thread.join()


def lock_and_read(
    repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> tuple[Any, dict[str, bytes]]:
    source = CodeSource(git=str(repository.folder), rev="main")
    locked = resolve_code(source, tmp_path, store, settings)
    return locked, {
        file.path.decode(): bytes(data) for file, data in code_files(locked, tmp_path, store, settings)
    }


def configured(server: Server, **files: str) -> dict[str, str]:
    config = f"[lfs]\n\turl = {server.url}\n"
    return {".gitattributes": RULES, ".lfsconfig": config, "data/big.root": pointer(DATA), **files}


def test_content_comes_from_the_server(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    repository = new_repository("a.git")
    files = configured(server)
    # with one file that is no pointer, and a pointer that the attribute does not cover
    repository.commit({**files, "plain.root": "content", "pointer.txt": pointer(DATA)})
    locked, contents = lock_and_read(repository, tmp_path, store, settings)
    expected = {**files, "plain.root": "content", "pointer.txt": pointer(DATA), "data/big.root": DATA}
    assert locked.tree == repository.tree_of(expected)
    assert contents["data/big.root"] == DATA
    assert contents["pointer.txt"].startswith(b"version")
    (found,) = locked.lfs
    assert (found.path, found.sha256, found.size) == (
        "data/big.root", hashlib.sha256(DATA).hexdigest(), len(DATA),
    )  # fmt: skip
    asked = len(server.asked)
    assert lock_and_read(repository, tmp_path, store, settings)[0] == locked
    assert lock_and_read(repository, tmp_path, store, replace(settings, offline=True))[0] == locked
    assert len(server.asked) == asked
    store.path("sha256:" + found.sha256).unlink()  # as `afenv cache prune` may
    again = resolve_code(CodeSource(git=str(repository.folder), rev="main"), tmp_path, store, settings)
    assert again == locked
    assert len(server.asked) == asked  # git's hash is remembered; the content is fetched to build
    assert lock_and_read(repository, tmp_path, store, settings)[1] == contents
    assert len(server.asked) > asked


def test_large_content_is_mapped(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    data = bytes(3 << 20)
    server.objects[hashlib.sha256(data).hexdigest()] = data
    repository = new_repository("a.git")
    repository.commit({**configured(server), "data/big.root": pointer(data)})
    locked, contents = lock_and_read(repository, tmp_path, store, settings)
    assert contents["data/big.root"] == data
    assert locked.tree == repository.tree_of({**configured(server), "data/big.root": data})


@pytest.mark.parametrize("bare", [True, False])
def test_content_beside_a_local_repository(
    bare: bool, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    repository = new_repository("a.git", bare=bare)
    files = {".gitattributes": RULES, "big.root": pointer(DATA)}
    repository.commit(files)
    oid = hashlib.sha256(DATA).hexdigest()
    objects = repository.folder / ("lfs" if bare else ".git/lfs") / "objects" / oid[:2] / oid[2:4]
    error = fails("E133", lambda: lock_and_read(repository, tmp_path, store, settings))
    assert "big.root" in str(error)
    objects.mkdir(parents=True)
    (objects / oid).write_bytes(DATA[:-1] + b"?")
    fails("E301", lambda: lock_and_read(repository, tmp_path, store, settings))
    (objects / oid).write_bytes(DATA + b"?")
    fails("E302", lambda: lock_and_read(repository, tmp_path, store, settings))
    (objects / oid).write_bytes(DATA)
    locked, contents = lock_and_read(repository, tmp_path, store, settings)
    assert contents["big.root"] == DATA
    url = CodeSource(git=repository.folder.as_uri(), rev="main")
    assert resolve_code(url, tmp_path, ContentStore(tmp_path / "other"), settings).tree == locked.tree


# The checkout at hand


@pytest.fixture
def work(new_repository: Any) -> Any:
    repository = new_repository("work", bare=False)
    repository.commit({".gitattributes": RULES, "big.root": pointer(DATA), "x": "1"})
    return repository


@pytest.mark.parametrize("how", ["smudged", "objects", "server"])
def test_a_checkout(how: str, work: Any, server: Server, store: ContentStore, settings: Settings) -> None:
    """With content in the working folder (as git-lfs leaves it), beside the repository, or on its server."""
    oid = hashlib.sha256(DATA).hexdigest()
    if how == "smudged":
        (work.folder / "big.root").write_bytes(DATA)
    elif how == "objects":
        objects = work.folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
        objects.mkdir(parents=True)
        (objects / oid).write_bytes(DATA)
    else:
        fails("E133", lambda: resolve_code(HERE, work.folder, store, settings))
        work.git.remotes.create("origin", server.url.removesuffix("/info/lfs"))
        server.objects[oid] = DATA
    locked = resolve_code(HERE, work.folder, store, settings)
    assert locked.tree == work.tree_of({".gitattributes": RULES, "big.root": DATA, "x": "1"})
    assert not locked.dirty
    assert [one.path for one in locked.lfs] == ["big.root"]
    (work.folder / "x").write_text("2")
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert dirty.tree == work.tree_of({".gitattributes": RULES, "big.root": DATA, "x": "2"})
    contents = {file.path: bytes(data) for file, data in code_files(dirty, work.folder, store, settings)}
    assert contents[b"big.root"] == DATA


def test_changed_lfs_content_is_a_change(work: Any, store: ContentStore, settings: Settings) -> None:
    (work.folder / "big.root").write_bytes(DATA[:-1] + b"?")
    error = fails("E109", lambda: resolve_code(HERE, work.folder, store, settings))
    assert "big.root" in str(error)
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert dirty.tree == work.tree_of({".gitattributes": RULES, "big.root": DATA[:-1] + b"?", "x": "1"})
    assert dirty.lfs == ()


# What goes wrong


def test_offline(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    repository = new_repository("a.git")
    repository.commit(configured(server))
    fails("E203", lambda: lock_and_read(repository, tmp_path, store, replace(settings, offline=True)))
    assert server.asked == []


def lie(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    def change(answer: dict[str, Any]) -> Any:
        (found,) = answer["objects"]
        return {**answer, "objects": [{**found, **changes}]}

    return change


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("E133", lambda server: setattr(server, "objects", {})),  # an error for the object
        ("E133", lambda server: setattr(server, "change", lie(actions={}))),
        ("E133", lambda server: setattr(server, "change", lie(actions={"download": {"href": 3}}))),
        ("E133", lambda server: setattr(server, "change", lie(actions={"download": {"href": "file:///x"}}))),
        ("E133", lambda server: setattr(server, "change", lambda answer: {**answer, "transfer": "tus"})),
        ("E133", lambda server: setattr(server, "change", lambda answer: {"objects": []})),
        ("E133", lambda server: setattr(server, "change", lambda answer: [answer])),
        ("E133", lambda server: setattr(server, "garbage", b"<html>sorry</html>")),
        ("E133", lambda server: setattr(server, "garbage", b"\xff\xfe")),
        ("E302", lambda server: setattr(server, "change", lie(size=3))),
        ("E302", lambda server: server.objects.update(dict.fromkeys(server.objects, DATA[1:]))),
        ("E302", lambda server: server.objects.update(dict.fromkeys(server.objects, DATA + b"?"))),
        ("E301", lambda server: server.objects.update(dict.fromkeys(server.objects, DATA[::-1]))),
        ("E133", lambda server: setattr(server, "fail", [404])),
        ("E202", lambda server: setattr(server, "fail", [429] * 9)),
        ("E202", lambda server: setattr(server, "fail", [500] * 9)),
        ("E131", lambda server: setattr(server, "fail", [403])),
    ],
)
def test_servers_that_fail_or_lie(
    code: str,
    change: Callable[[Server], None],
    server: Server,
    new_repository: Any,
    tmp_path: Path,
    store: ContentStore,
    settings: Settings,
) -> None:
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    repository = new_repository("a.git")
    repository.commit(configured(server))
    change(server)
    error = fails(code, lambda: lock_and_read(repository, tmp_path, store, settings))
    assert "s3cret" not in str(error)
    assert len(error.problems) == 1
    if code in ("E301", "E302"):
        assert "data/big.root" in str(error)


def test_a_download_that_is_gone(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    server.change = lambda answer: json.loads(json.dumps(answer).replace("/objects/", "/none/x"))
    repository = new_repository("a.git")
    repository.commit(configured(server))
    fails("E133", lambda: lock_and_read(repository, tmp_path, store, settings))


def test_a_server_that_is_busy_at_first(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    server.fail = [429]
    repository = new_repository("a.git")
    repository.commit(configured(server))
    assert lock_and_read(repository, tmp_path, store, settings)[1]["data/big.root"] == DATA


def test_a_pointer_with_another_size(
    server: Server, new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    repository = new_repository("a.git")
    repository.commit({**configured(server), "data/big.root": pointer(DATA, 12)})
    fails("E302", lambda: lock_and_read(repository, tmp_path, store, settings))


def test_a_token_stays_secret(
    server: Server,
    new_repository: Any,
    tmp_path: Path,
    store: ContentStore,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.secret = "glpat-SECRET"
    server.key = "glpat-SECRET-2"
    server.objects[hashlib.sha256(DATA).hexdigest()] = DATA
    repository = new_repository("a.git")
    repository.commit(configured(server))
    fails("E131", lambda: lock_and_read(repository, tmp_path, store, settings))
    monkeypatch.setenv("AFENV_GIT_TOKEN_127_0_0_1", "wrong-SECRET")
    error = fails("E131", lambda: lock_and_read(repository, tmp_path, store, settings))
    assert "SECRET" not in str(error)
    monkeypatch.setenv("AFENV_GIT_TOKEN_127_0_0_1", "glpat-SECRET")
    locked, contents = lock_and_read(repository, tmp_path, store, settings)
    assert contents["data/big.root"] == DATA
    assert "SECRET" not in repr(locked) + "".join(capfd.readouterr())
    for path in settings.cache_folder.rglob("*"):
        assert path.is_dir() or b"SECRET" not in path.read_bytes(), path


# Values


def test_pointers() -> None:
    good = pointer(DATA).encode()
    assert read_pointer(good, b"x") == Pointer(hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert read_pointer(good + b"text" * 400, b"x") is None
    assert read_pointer(b"version 1.0 of the notes\n", b"x") is None
    assert read_pointer(b"", b"x") is None


@pytest.mark.parametrize(
    "damage",
    [
        ("sha256:", "md5:"),
        ("size ", "size -"),
        ("oid ", "ext-0-case sha256:" + "0" * 64 + "\noid "),
        ("oid sha256:", "oid sha256:zz"),
        ("size", "extra 1\nsize"),
    ],
)
def test_damaged_pointers(damage: tuple[str, str]) -> None:
    fails("E133", lambda: read_pointer(pointer(DATA).replace(*damage).encode(), b"x"))


@pytest.mark.parametrize(
    ("url", "configured", "expected"),
    [
        ("https://example.org/g/a", None, "https://example.org/g/a.git/info/lfs"),
        ("https://example.org/g/a.git/", None, "https://example.org/g/a.git/info/lfs"),
        ("https://me@example.org/a.git", None, "https://me@example.org/a.git/info/lfs"),
        ("git@example.org:g/a.git", None, "https://example.org/g/a.git/info/lfs"),
        ("ssh://git@example.org:2222/g/a", None, "https://example.org/g/a.git/info/lfs"),
        ("git://example.org/g/a", None, "https://example.org/g/a.git/info/lfs"),
        ("https://example.org/a", "https://lfs.example.org/x/", "https://lfs.example.org/x"),
        ("/srv/a.git", None, None),
        ("file:///srv/a.git", None, None),
    ],
)
def test_where_the_server_is(url: str, configured: str | None, expected: str | None) -> None:
    assert server_url(url, configured)[0] == expected


def test_ssh_is_asked_without_surprises() -> None:
    assert ssh_command("ssh://git@example.org:2222/g/a.git") == [
        "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-p", "2222",
        "--", "git@example.org", "git-lfs-authenticate '/g/a.git' download",
    ]  # fmt: skip
    command = ssh_command("git@example.org:g/a.git")
    assert command is not None
    assert command[-1] == "git-lfs-authenticate 'g/a.git' download"
    for url in ("ssh://-oProxyCommand=x/a", "git@example.org:a';x'", "ssh://example.org/a b", "-o:x"):
        assert ssh_command(url) is None


def test_a_remote_repository_names_no_folder_of_this_machine_for_lfs(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    repository = new_repository("a.git")
    config = '[lfs]\n\turl = "file:///home"\n'
    repository.commit({".gitattributes": RULES, ".lfsconfig": config, "big.root": pointer(DATA)})
    source = CodeSource(git="https://example.org/a.git", rev="main")
    served = replace(settings, mirrors=(("https://example.org/b.git", repository.url),))
    from afenv.layers.code_lfs_url import url_objects

    fails("E133", lambda: url_objects(source.git or "", config.encode(), "x"))
    assert served.mirrors
