"""Repositories that are broken, hostile or gone: one clear error each."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pygit2
import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers import code_git, code_read, codetree
from afenv.layers.code import code_files, write_code
from afenv.layers.writer import LayerWriter
from afenv.record import replace
from afenv.resolve.code import resolve_code
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.workflow.cache import cache_prune, cache_summary


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(cache_folder=tmp_path / "cache")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore(settings.cache_folder)


def fails(code: str, call: Callable[[], object]) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        call()
    assert caught.value.code == code, str(caught.value)
    assert len(caught.value.problems) == 1
    return caught.value


# Revisions that move or vanish


def test_a_moved_tag(new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    """The lock stays at its commit, with the cache and without it, as long as the commit is there."""
    a = new_repository("a.git")
    first = a.commit({"select.py": "1"})
    a.git.references.create("refs/tags/v1", first)
    source = CodeSource(git=a.url, rev="v1")
    locked = resolve_code(source, tmp_path, store, settings)
    second = a.commit({"select.py": "2"})
    a.git.references.create("refs/tags/v1", second, force=True)
    assert resolve_code(source, tmp_path, store, settings, locked=locked) == locked
    for cache in (store, ContentStore(tmp_path / "empty")):
        assert [data for _, data in code_files(locked, tmp_path, cache, settings)] == [b"1"]
    assert resolve_code(source, tmp_path, store, settings, locked=locked, update=True).commit == second


def test_a_commit_that_vanished(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """A rewritten branch: from the cache it is still built, elsewhere there is one clear error."""
    a = new_repository("a.git")
    a.commit({"select.py": "1"})
    source = CodeSource(git=a.url, rev="main")
    locked = resolve_code(source, tmp_path, store, settings)
    other = new_repository("b.git")
    other.commit({"select.py": "2"})
    a.folder.rename(tmp_path / "away")
    other.folder.rename(a.folder)
    assert [data for _, data in code_files(locked, tmp_path, store, settings)] == [b"1"]
    empty = ContentStore(tmp_path / "empty")
    error = fails("E108", lambda: list(code_files(locked, tmp_path, empty, settings)))
    assert str(locked.commit) in str(error)
    assert "afenv lock --upgrade" in str(error)


def test_a_repository_that_vanished(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a = new_repository("a.git")
    a.commit({"select.py": "1"})
    locked = resolve_code(CodeSource(git=a.url, rev="main"), tmp_path, store, settings)
    a.folder.rename(tmp_path / "away")
    assert [data for _, data in code_files(locked, tmp_path, store, settings)] == [b"1"]
    fails("E110", lambda: list(code_files(locked, tmp_path, ContentStore(tmp_path / "empty"), settings)))


def test_a_commit_that_is_another(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a = new_repository("a.git")
    a.commit({"select.py": "1"})
    locked = resolve_code(CodeSource(git=a.url, rev="main"), tmp_path, store, settings)
    wrong = replace(locked, tree="1" * 40)
    error = fails("E301", lambda: list(code_files(wrong, tmp_path, store, settings)))
    assert "1" * 40 in str(error)


# Trees that no honest git makes


def raw_tree(repository: Any, *entries: tuple[int, bytes, str]) -> str:
    """A tree object of any entries, unchecked."""
    data = b"".join(b"%o %s\0%s" % (mode, name, bytes.fromhex(oid)) for mode, name, oid in entries)
    return str(repository.git.write(pygit2.enums.ObjectType.TREE, data))


@pytest.fixture
def hostile(new_repository: Any) -> Any:
    """A repository for objects that no honest git writes."""
    return new_repository("a.git")


@pytest.mark.parametrize(
    "name", [b"..", b".", b".git", b".GIT", b"a/b", b"../../etc/passwd", b"/etc/passwd", b"n" * 300]
)
@pytest.mark.parametrize("kind", ["file", "folder", "submodule"])
def test_names_that_lead_elsewhere(
    kind: str, name: bytes, hostile: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    blob = str(hostile.git.create_blob(b"1"))
    mode = {"file": 0o100644, "folder": 0o040000, "submodule": 0o160000}[kind]
    inner = {"file": blob, "folder": raw_tree(hostile, (0o100644, b"x", blob)), "submodule": "1" * 40}[kind]
    hostile.commit_tree(raw_tree(hostile, (mode, name, inner)))
    source = CodeSource(git=str(hostile.folder), rev="main")
    error = fails("E111", lambda: resolve_code(source, tmp_path, store, settings))
    assert "\n" not in str(error).splitlines()[0]


def test_two_entries_of_one_name(
    hostile: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """A link and a folder of one name: what is written through the link would land elsewhere."""
    link, blob = (str(hostile.git.create_blob(data)) for data in (b"/etc", b"1"))
    folder = raw_tree(hostile, (0o100644, b"passwd", blob))
    hostile.commit_tree(raw_tree(hostile, (0o120000, b"a", link), (0o040000, b"a", folder)))
    source = CodeSource(git=str(hostile.folder), rev="main")
    fails("E111", lambda: resolve_code(source, tmp_path, store, settings))


def test_a_tree_that_multiplies(
    hostile: Any, tmp_path: Path, store: ContentStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten folders of ten folders …, which git stores in a few kilobytes."""
    monkeypatch.setattr(code_read, "FILES_LIMIT", 5000)
    blob = str(hostile.git.create_blob(b"1"))
    tree = raw_tree(hostile, *((0o100644, b"f%d" % number, blob) for number in range(10)))
    for _ in range(10):
        tree = raw_tree(hostile, *((0o040000, b"d%d" % number, tree) for number in range(10)))
    hostile.commit_tree(tree)
    source = CodeSource(git=str(hostile.folder), rev="main")
    before = time.monotonic()
    error = fails("E111", lambda: resolve_code(source, tmp_path, store, settings))
    assert "5,000 files" in str(error)
    assert time.monotonic() - before < 10


def test_a_tree_without_end(hostile: Any, tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    blob = str(hostile.git.create_blob(b"1"))
    tree = raw_tree(hostile, (0o100644, b"f", blob))
    for _ in range(1500):
        tree = raw_tree(hostile, (0o040000, b"d", tree))
    hostile.commit_tree(tree)
    source = CodeSource(git=str(hostile.folder), rev="main")
    error = fails("E111", lambda: resolve_code(source, tmp_path, store, settings))
    assert "too deep" in str(error)


def test_names_that_are_odd_and_right(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """Control characters, case, and links anywhere arrive in the layer as they are."""
    a = new_repository("a.git")
    a.commit({
        "README": "1", "readme": "2", "Icon\r": "3", "a\nb\t\x1b[31m": "4", "out": ("link", "/etc/passwd"),
        "up/above": ("link", "../../../.."), "name with  blanks": "5", "-rf": "6",
    })  # fmt: skip
    locked = resolve_code(CodeSource(git=a.url, rev="main"), tmp_path, store, settings)
    assert locked.tree == str(a.git.references["refs/heads/main"].peel(pygit2.Tree).id)
    with store.writer() as blob:
        writer = LayerWriter(blob, mtime=0)
        write_code(locked, tmp_path, store, settings, writer)
        written = writer.finish()
        blob.commit(written.digest)
    with tarfile.open(fileobj=io.BytesIO(store.read(written.digest)), mode="r:gz") as archive:
        members = {member.name: member for member in archive}
    assert {"analysis/README", "analysis/readme", "analysis/Icon\r", "analysis/a\nb\t\x1b[31m"} <= set(
        members
    )
    assert members["analysis/out"].issym()
    assert members["analysis/out"].linkname == "/etc/passwd"
    assert members["analysis/up/above"].linkname == "../../../.."


def test_a_pointer_behind_a_link_is_not_read(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("[submodule")
    a = new_repository("a.git")
    links = {name: ("link", str(secret)) for name in (".gitmodules", ".gitattributes", ".lfsconfig")}
    a.commit({**links, "x": "1"})
    locked = resolve_code(CodeSource(git=a.url, rev="main"), tmp_path, store, settings)
    assert locked.tree == str(a.git.references["refs/heads/main"].peel(pygit2.Tree).id)


# Servers


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.05)
            while not stop.is_set():
                try:
                    kept.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("scheme", ["http", "git", "ssh"])
def test_a_server_that_stalls(
    scheme: str,
    silent: int,
    tmp_path: Path,
    store: ContentStore,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(code_git, "STALL", 0.4)
    source = CodeSource(git=f"{scheme}://127.0.0.1:{silent}/a.git", rev="main")
    before = time.monotonic()
    fails("E201", lambda: resolve_code(source, tmp_path, store, settings))
    assert time.monotonic() - before < 10


def test_a_server_that_talks_nonsense(tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection = server.accept()[0]
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>hi!")
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        source = CodeSource(git=f"http://127.0.0.1:{server.getsockname()[1]}/a.git", rev="main")
        fails("E110", lambda: resolve_code(source, tmp_path, store, settings))
        thread.join()


def test_a_loop_of_folders_is_not_followed(tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "again").symlink_to("..")
    (folder / "x").write_text("1")
    locked = resolve_code(CodeSource(folder="."), folder, store, settings)
    names = [file.path for file, _ in code_files(locked, folder, store, settings)]
    assert names == [b"sub/again", b"x"]
    assert codetree.directory_swhid(locked.tree) == locked.swhid


def test_clones_that_nobody_uses_are_pruned(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a, b = new_repository("a.git"), new_repository("b.git")
    for repository in (a, b):
        repository.commit({"x": "1"})
        locked = resolve_code(CodeSource(git=repository.url, rev="main"), tmp_path, store, settings)
    first, second = sorted((store.folder / "git").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for clone in (first, second):
        os.utime(clone, (1, 1))
    assert list(code_files(locked, tmp_path, store, settings))  # that of b is in use again
    assert cache_summary(store).clones == 2
    assert cache_prune(store).removed_clones == 0
    assert cache_prune(store, older_than=3600).removed_clones == 1
    assert not first.exists()
    assert list(code_files(locked, tmp_path, store, settings))


OPENED = """
import sys
from pathlib import Path
from afenv.errors import AfenvError
from afenv.layers.code_checkout import open_checkout
try:
    open_checkout(Path(sys.argv[1]))
except AfenvError as error:
    print(error.code, error.problems[0].remedy)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="a checkout is given to somebody else here")
def test_a_checkout_of_somebody_else(tmp_path: Path) -> None:
    """libgit2 asks the configuration at home whether it is to be trusted, once, when it is loaded."""
    checkout = tmp_path / "checkout"
    pygit2.init_repository(str(checkout))
    os.chown(checkout, 12345, 12345)
    (tmp_path / "home").mkdir()

    def opened() -> str:
        words = [sys.executable, "-c", OPENED, str(checkout)]
        variables = {**os.environ, "HOME": str(tmp_path / "home")}
        return subprocess.run(words, env=variables, capture_output=True, text=True, check=True).stdout

    command = f"git config --global --add safe.directory {checkout}"
    assert opened() == f"E110 If you trust it, tell git so: `{command}`.\n"
    (tmp_path / "home" / ".gitconfig").write_text(f"[safe]\n\tdirectory = {checkout}\n")
    assert opened() == ""
