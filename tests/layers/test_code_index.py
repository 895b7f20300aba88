"""A clean checkout read without libgit2: the same files as libgit2 gives, or no answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pygit2
import pytest

from afenv.layers.code_index import Ignored, clean_checkout, ignore_rules
from afenv.layers.codetree import git_tree

SETTINGS = (
    "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false",
    "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main",
)  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    environment |= {"GIT_COMMITTER_DATE": "2026-01-02T03:04:05+02:00"}
    command = ["git", *SETTINGS, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    here = tmp_path / "here"
    (here / "sub" / "deep").mkdir(parents=True)
    for name in ("a.py", "a", "sub/b.py", "sub/deep/ü.txt", "sub-x", "afenv.yaml", ".gitignore"):
        (here / name).write_text(f"{name}\n")
    (here / ".gitignore").write_text("*.tmp\n/build/\n/.afenv/\n/afenv.lock\n")
    (here / "run.sh").write_text("#!/bin/sh\n")
    (here / "run.sh").chmod(0o755)
    (here / "link").symlink_to("sub/b.py")
    git(here, "init", "-q")
    git(here, "add", "-A")
    git(here, "commit", "-q", "-m", "First")
    return here


def expected(here: Path) -> dict[bytes, tuple[int, bytes]]:
    repository = pygit2.Repository(str(here))
    found = {}

    def visit(tree, prefix):
        for entry in tree:
            if entry.filemode == 0o40000:
                visit(entry, f"{prefix}{entry.name}/")
            elif prefix or entry.name not in ("afenv.yaml", "afenv.lock"):
                found[os.fsencode(prefix + entry.name)] = int(entry.filemode), entry.data

    visit(repository.head.peel(pygit2.Tree), "")
    return found


def ignored(here: Path, folders=(b"build",), files=(b"x.tmp",)) -> Ignored:
    return Ignored(frozenset(folders), frozenset(files), ignore_rules(here))


def test_the_files_are_those_of_the_commit(checkout: Path) -> None:
    found = clean_checkout(checkout, None)
    assert found is not None
    assert {file.path: (file.mode, file.data) for file in found.files} == expected(checkout)
    assert [file.path for file in found.files] == sorted(file.path for file in found.files)
    assert (found.commit, found.date) == (git(checkout, "rev-parse", "HEAD"), "2026-01-02T01:04:05Z")
    assert found.ignored == ignored(checkout, (), ())
    (checkout / "afenv.yaml").write_text("changed")
    (checkout / "afenv.lock").write_text("new")
    (checkout / ".afenv").mkdir()
    again = clean_checkout(checkout, None)
    assert again is not None and git_tree(again.files) == git_tree(found.files)


def test_a_commit_of_a_change_is_followed(checkout: Path) -> None:
    (checkout / "a.py").write_text("another")
    assert clean_checkout(checkout, None) is None
    git(checkout, "commit", "-q", "-am", "Second")
    found = clean_checkout(checkout, None)
    assert found is not None
    assert {file.path: (file.mode, file.data) for file in found.files} == expected(checkout)
    git(checkout, "checkout", "-q", "--detach", "HEAD^")
    found = clean_checkout(checkout, None)
    assert found is not None and found.commit == git(checkout, "rev-parse", "main^")


def test_what_is_ignored_needs_a_look_before(checkout: Path) -> None:
    (checkout / "x.tmp").write_text("")
    (checkout / "build").mkdir()
    (checkout / "build" / "x").write_text("")
    assert clean_checkout(checkout, None) is None
    known = ignored(checkout)
    assert clean_checkout(checkout, known) is not None
    (checkout / "y.tmp").write_text("")
    assert clean_checkout(checkout, known) is None
    (checkout / "y.tmp").unlink()
    (checkout / ".gitignore").write_text("*.tmp\n")
    git(checkout, "commit", "-q", "-am", "Ignore less")
    assert clean_checkout(checkout, known) is None
    found, known = clean_checkout(checkout, ignored(checkout)), ignored(checkout)
    assert found is not None and found.ignored == known
    (checkout / ".git" / "info" / "exclude").write_text("# another\n")
    assert clean_checkout(checkout, known) is None


def _loose(here: Path) -> Path:
    head = git(here, "rev-parse", "HEAD")
    return here / ".git" / "objects" / head[:2] / head[2:]


def _commit(here: Path, name: str, text: str) -> None:
    _touch(here / name, text)
    git(here, "add", "-A")
    git(here, "commit", "-q", "-m", name)


def _other_commit(here: Path) -> None:
    git(here, "update-ref", "HEAD", git(here, "commit-tree", "-m", "x", git(here, "mktree")))


def _other_ends(here: Path) -> None:
    git(here, "config", "core.autocrlf", "true")
    (here / "a").write_bytes(b"a\r\n")


def _damage(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


DISTURBANCES = {
    "changed": lambda here: _touch(here / "a", "b\n"),
    "removed": lambda here: (here / "sub" / "b.py").unlink(),
    "executable": lambda here: (here / "a").chmod(0o755),
    "not executable any more": lambda here: (here / "run.sh").chmod(0o644),
    "link to another": lambda here: ((here / "link").unlink(), (here / "link").symlink_to("a")),
    "file for a link": lambda here: ((here / "link").unlink(), _touch(here / "link", "sub/b.py")),
    "link for a file": lambda here: ((here / "a").unlink(), (here / "a").symlink_to("a\n")),
    "folder for a file": lambda here: ((here / "a").unlink(), _touch(here / "a" / "b")),
    "pipe for a file": lambda here: ((here / "a").unlink(), os.mkfifo(here / "a.tmp")),
    "untracked": lambda here: _touch(here / "new.py"),
    "untracked below": lambda here: _touch(here / "sub" / "new" / "new.py"),
    "repository inside": lambda here: git(here, "init", "-q", "sub/repository"),
    "staged": lambda here: (_touch(here / "new.py"), git(here, "add", "new.py")),
    "staged, as a removal": lambda here: git(here, "rm", "-q", "--cached", "a"),
    "staged mode": lambda here: git(here, "update-index", "--chmod=+x", "a"),
    "intent to add": lambda here: (_touch(here / "new.py"), git(here, "add", "-N", "new.py")),
    "assumed unchanged": lambda here: git(here, "update-index", "--assume-unchanged", "a"),
    "skipped": lambda here: git(here, "update-index", "--skip-worktree", "a"),
    "another commit, the old index": _other_commit,
    "packed": lambda here: git(here, "gc", "-q"),
    "packed names": lambda here: git(here, "pack-refs", "--all"),
    "damaged commit": lambda here: _damage(_loose(here)),
    "damaged index": lambda here: _damage(here / ".git" / "index"),
    "short index": lambda here: (here / ".git" / "index").write_bytes(b"DIRC"),
    "no index": lambda here: (here / ".git" / "index").unlink(),
    "newer index": lambda here: git(here, "update-index", "--index-version", "4"),
    "split index": lambda here: git(here, "update-index", "--split-index"),
    "attributes": lambda here: _commit(here, ".gitattributes", "* text\n"),
    "attributes below": lambda here: _commit(here, "sub/.gitattributes", ""),
    "LFS pointer": lambda here: _commit(here, "p", "version https://git-lfs.github.com/spec/v1\n"),
    "line ends": _other_ends,
    "unborn": lambda here: git(here, "checkout", "-q", "--orphan", "other"),
    "no head": lambda here: (here / ".git" / "HEAD").unlink(),
    "odd head": lambda here: _touch(here / ".git" / "HEAD", "ref: ../../etc/passwd\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTURBANCES)
def test_no_answer(checkout: Path, name: str) -> None:
    known = ignored(checkout)
    assert clean_checkout(checkout, known) is not None
    DISTURBANCES[name](checkout)
    assert clean_checkout(checkout, known) is None


def test_linked_trees_submodules_and_folders_have_no_answer(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert clean_checkout(tmp_path / "tree", None) is None
    assert clean_checkout(checkout / "sub", None) is None
    assert clean_checkout(tmp_path / "home", None) is None
    git(checkout, "submodule", "--quiet", "add", str(checkout), "module")
    git(checkout, "commit", "-q", "-m", "A submodule")
    assert clean_checkout(checkout, None) is None


def test_libgit2_is_asked_only_where_it_has_to_be(checkout: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from afenv.documents.manifest import CodeSource
from afenv.resolve.code import ignored_folders, resolve_code_cached
from afenv.settings import load_settings
from afenv.store.content import ContentStore
here, store = Path({str(checkout)!r}), ContentStore(Path({str(tmp_path / "store")!r}))
source = CodeSource(folder=".")
first = resolve_code_cached(source, here, store, load_settings())
assert ignored_folders(here, store) == frozenset(), "a build leaves a receipt"
assert "pygit2" not in sys.modules
(here / "x.tmp").touch()
again = resolve_code_cached(source, here, store, load_settings())
assert "pygit2" in sys.modules
assert again == first, (again, first)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
