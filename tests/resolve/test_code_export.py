"""Export rules, what is not converted, and locks from before either was heeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedCode
from afenv.documents.manifest import CodeSource
from afenv.layers.code import code_files
from afenv.record import replace
from afenv.resolve.code import resolve_code, resolve_code_cached
from afenv.settings import Settings
from afenv.store.content import ContentStore

HERE = CodeSource(folder=".")
RULES = "docs export-ignore\n.gitattributes export-ignore\n"
FILES = {".gitattributes": RULES, "docs/a": "1", "select.py": "2", "lib/docs": "3"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(cache_folder=tmp_path / "cache")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore(settings.cache_folder)


def names(code: LockedCode, folder: Path, store: ContentStore, settings: Settings) -> list[str]:
    return [file.path.decode() for file, _ in code_files(code, folder, store, settings)]


def test_export_rules(new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    work = new_repository("work", bare=False)
    work.commit(FILES)
    expected = work.tree_of({"select.py": "2"})
    by_url = resolve_code(CodeSource(git=work.url, rev="main"), tmp_path, store, settings)
    at_hand = resolve_code_cached(HERE, work.folder, store, settings)
    for locked, folder in ((by_url, tmp_path), (at_hand, work.folder)):
        assert (locked.tree, locked.exported) == (expected, True)
        assert names(locked, folder, store, settings) == ["select.py"]
    unpacked = tmp_path / "unpacked"  # as `git archive` leaves it
    unpacked.mkdir()
    (unpacked / "select.py").write_text("2")
    assert names(at_hand, unpacked, store, settings) == ["select.py"]


def test_dirty_files_are_under_the_rules_too(
    new_repository: Any, store: ContentStore, settings: Settings
) -> None:
    work = new_repository("work", bare=False)
    work.commit(FILES)
    (work.folder / "docs" / "new").write_text("4")
    (work.folder / "select.py").write_text("edited")
    (work.folder / "new.py").write_text("5")
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert dirty.tree == work.tree_of({"select.py": "edited", "new.py": "5"})
    assert names(dirty, work.folder, store, settings) == ["new.py", "select.py"]


def test_a_submodule_may_be_left_out(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """It is not fetched then, and its own rules do not reach beyond it."""
    a = new_repository("a.git")
    a.commit({".gitattributes": "lib export-ignore\n", "x": "1", "lib": ("submodule", "1" * 40)})
    locked = resolve_code(CodeSource(git=a.url, rev="main"), tmp_path, store, settings)
    assert (locked.submodules, locked.exported) == ((), True)


def test_an_older_lock_keeps_its_files(
    new_repository: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    work = new_repository("work", bare=False)
    commit = work.commit(FILES)
    tree = work.tree_of(FILES)
    swhid = f"swh:1:dir:{tree}"
    at_hand = LockedCode(into="/analysis", folder=".", tree=tree, swhid=swhid, commit=commit)
    assert resolve_code(HERE, work.folder, store, settings, locked=at_hand) == at_hand
    assert resolve_code_cached(HERE, work.folder, store, settings, locked=at_hand) == at_hand
    assert names(at_hand, work.folder, store, settings) == sorted(FILES)
    by_url = replace(at_hand, folder=None, git=work.url, rev="main")
    assert names(by_url, tmp_path, store, settings) == sorted(FILES)
    work.commit({**FILES, "select.py": "newer"})
    assert resolve_code(HERE, work.folder, store, settings, locked=at_hand).exported


def test_what_is_not_converted_is_said(
    new_repository: Any,
    tmp_path: Path,
    store: ContentStore,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = new_repository("work", bare=False)
    rules = (
        "*.bat text eol=crlf\n*.txt working-tree-encoding=UTF-16LE\nversion export-subst\n*.c ident\n"
        "*.key filter=git-crypt\n*.sh eol=lf\n*.md working-tree-encoding=UTF-8\n* text=auto\n"
    )
    files = {
        ".gitattributes": rules, "a.bat": "1\n", "b.txt": "é", "version": "$Format:%H$", "d.c": "$Id$",
        "e.key": "?", "f.sh": "1\n", "g.md": "é",
    }  # fmt: skip
    work.commit(files)
    source = CodeSource(git=work.url, rev="main")
    locked = resolve_code(source, tmp_path, store, settings)
    assert (locked.tree, locked.exported) == (work.tree_of(files), False)
    said = capsys.readouterr().err
    for name in ("eol=crlf (a.bat)", "working-tree-encoding=UTF-16LE (b.txt)", "ident (d.c)"):
        assert name in said
    assert "filter=git-crypt (e.key)" in said
    assert "export-subst (version)" in said
    assert "f.sh" not in said
    assert "g.md" not in said


def test_converted_files_are_no_change(new_repository: Any, store: ContentStore, settings: Settings) -> None:
    """As git leaves them in the working folder, where libgit2 sees another content."""
    work = new_repository("work", bare=False)
    files = {".gitattributes": "*.txt working-tree-encoding=UTF-16LE\n", "b.txt": "é"}
    work.commit(files)
    (work.folder / "b.txt").write_bytes("é".encode("utf-16-le"))
    locked = resolve_code(HERE, work.folder, store, settings)
    assert (locked.tree, locked.dirty) == (work.tree_of(files), False)
