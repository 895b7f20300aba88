"""The fast path: unchanged folders are recognised from file times, changed ones never taken for unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.resolve import code, code_fingerprint
from afenv.resolve.code import resolve_code_cached
from afenv.resolve.code_fingerprint import quick_fingerprint
from afenv.settings import Settings
from afenv.store.content import ContentStore

HERE = CodeSource(folder=".")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files count as old enough at once."""
    monkeypatch.setattr(code_fingerprint, "RACY", -(10**12))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    path = tmp_path / "work"
    (path / "sub").mkdir(parents=True)
    (path / "select.py").write_text("1")
    (path / "sub" / "x").write_text("2")
    yield path


def commit(folder: Path) -> None:
    repository = pygit2.init_repository(str(folder), initial_head="main")
    repository.index.add_all()
    repository.index.write()
    who = pygit2.Signature("A", "a@example.org", 1_700_000_000, 0)
    parents = [] if repository.head_is_unborn else [repository.head.target]
    repository.create_commit("HEAD", who, who, "m", repository.index.write_tree(), parents)


def test_every_change_shows(folder: Path) -> None:
    seen = {quick_fingerprint(folder)}

    def changed() -> bool:
        found = quick_fingerprint(folder)
        assert found == quick_fingerprint(folder)
        new = found not in seen
        seen.add(found)
        return new

    status = (folder / "select.py").stat()
    (folder / "select.py").write_text("9")
    os.utime(folder / "select.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed(), "same size and modification time"
    (folder / "select.py").chmod(0o755)
    assert changed()
    (folder / "sub" / "x").rename(folder / "sub" / "y")
    assert changed()
    (folder / "new").symlink_to("select.py")
    assert changed()
    (folder / "new").unlink()
    (folder / "new").symlink_to("sub/yyyyy")
    assert changed()
    commit(folder)
    assert changed()
    commit(folder)
    assert changed(), "a commit alone"
    repository = pygit2.Repository(str(folder))
    repository.branches.local.create("other", repository.head.peel(pygit2.Commit))
    assert not changed()
    repository.set_head("refs/heads/other")
    assert changed()
    (folder / ".gitignore").write_text("*.root")
    assert changed()
    (folder / "sub" / "deep").mkdir()
    pygit2.init_repository(str(folder / "sub" / "deep"))
    assert changed()


def test_a_detached_head_that_moves_shows(folder: Path) -> None:
    commit(folder)
    commit(folder)
    repository = pygit2.Repository(str(folder))
    second = repository.head.peel(pygit2.Commit)
    found = set()
    for identity in (second.id, second.parent_ids[0]):
        repository.set_head(identity)
        found.add(quick_fingerprint(folder))
    assert len(found) == 2


def test_what_is_exempt_or_pruned_does_not_show(folder: Path) -> None:
    before = quick_fingerprint(folder, frozenset({b"sub"}))
    (folder / "afenv.lock").write_text("{}")
    (folder / ".afenv").mkdir()
    (folder / ".afenv" / "x").write_text("1")
    (folder / "sub" / "x").write_text("changed")
    assert quick_fingerprint(folder, frozenset({b"sub"})) == before
    assert quick_fingerprint(folder) != before


def test_recent_changes_make_it_unknown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_fingerprint, "RACY", 2_000_000_000)
    assert quick_fingerprint(folder) is None
    now = time.time_ns()
    monkeypatch.setattr(code_fingerprint.time, "time_ns", lambda: now + 3_000_000_000)
    assert quick_fingerprint(folder) is not None
    assert quick_fingerprint(folder / "none") is None


@pytest.mark.parametrize("in_git", [True, False])
def test_the_second_time_nothing_is_read(in_git: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_git:
        (folder / ".gitignore").write_text("scratch/\n")
        commit(folder)
    (folder / "scratch").mkdir()
    store, settings = ContentStore(folder.parent / "cache"), Settings(cache_folder=folder.parent / "cache")
    first = resolve_code_cached(HERE, folder, store, settings)
    if in_git:
        (folder / "scratch" / "big.root").write_text("ignored")

    def forbidden(*_: object) -> None:
        raise AssertionError("the folder was read")

    with monkeypatch.context() as patch:
        patch.setattr(code._Look, "locked", forbidden)
        assert resolve_code_cached(HERE, folder, store, settings) == first
        assert resolve_code_cached(HERE, folder, store, settings, locked=first) is not None
        with pytest.raises(AssertionError):
            resolve_code_cached(HERE, folder, store, settings, allow_dirty=True)
    (folder / "select.py").write_text("changed")
    if in_git:
        with pytest.raises(AfenvError) as caught:
            resolve_code_cached(HERE, folder, store, settings)
        assert caught.value.code == "E109"
    else:
        assert resolve_code_cached(HERE, folder, store, settings).tree != first.tree


def test_the_fast_path_does_not_import_git(folder: Path) -> None:
    commit(folder)
    store, settings = ContentStore(folder.parent / "cache"), Settings(cache_folder=folder.parent / "cache")
    first = resolve_code_cached(HERE, folder, store, settings)
    program = (
        "import sys; from pathlib import Path\n"
        "from afenv.resolve import code, code_fingerprint\n"
        "from afenv.documents.manifest import CodeSource\n"
        "from afenv.settings import Settings\n"
        "from afenv.store.content import ContentStore\n"
        "code_fingerprint.RACY = -10**12\n"
        "folder, cache = map(Path, sys.argv[1:])\n"
        "found = code.resolve_code_cached(CodeSource(folder='.'), folder, ContentStore(cache), "
        "Settings(cache_folder=cache))\n"
        "assert 'pygit2' not in sys.modules\n"
        "print(found.tree)\n"
    )
    arguments = [sys.executable, "-c", program, str(folder), str(store.folder)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == first.tree


def test_an_ignored_folder_stays_ignored_only_while_the_rules_say_so(folder: Path) -> None:
    (folder / ".gitignore").write_text("scratch/\n")
    commit(folder)
    (folder / "scratch").mkdir()
    (folder / "scratch" / "x").write_text("1")
    store, settings = ContentStore(folder.parent / "cache"), Settings(cache_folder=folder.parent / "cache")
    first = resolve_code_cached(HERE, folder, store, settings, allow_dirty=True)
    (folder / ".gitignore").write_text("")
    second = resolve_code_cached(HERE, folder, store, settings, allow_dirty=True)
    assert second.dirty
    assert second.tree != first.tree
    (folder / "scratch" / "x").write_text("22")
    assert resolve_code_cached(HERE, folder, store, settings, allow_dirty=True).tree != second.tree
