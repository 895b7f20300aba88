"""Git repositories made for tests, without the program git."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pygit2
import pytest

WHEN = 1_700_000_000  # 2023-11-14T22:13:20Z

Content = (
    str | bytes | tuple[str, str]
)  # text, bytes, or ("link", target), ("submodule", commit), ("run", text)
Files = Mapping[str, Content]


@dataclass
class Repository:
    """A git repository whose commits are made out of all their files."""

    folder: Path
    git: pygit2.Repository

    def tree_of(self, files: Files) -> str:
        """The tree of some files, as libgit2 makes it."""
        index = pygit2.Index()
        for path, content in files.items():
            mode = 0o100644
            if isinstance(content, tuple):
                kind, text = content
                mode = {"link": 0o120000, "submodule": 0o160000, "run": 0o100755}[kind]
                content = text
            data = content.encode() if isinstance(content, str) else content
            identity = pygit2.Oid(hex=data.decode()) if mode == 0o160000 else self.git.create_blob(data)
            index.add(pygit2.IndexEntry(path, identity, mode))
        return str(index.write_tree(self.git))

    def commit(self, files: Files, ref: str = "refs/heads/main", when: int = WHEN) -> str:
        """A commit with exactly these files, on top of what the ref has; its working folder follows."""
        return self.commit_tree(self.tree_of(files), ref, when)

    def commit_tree(self, tree: str, ref: str = "refs/heads/main", when: int = WHEN) -> str:
        """A commit with a tree."""
        who = pygit2.Signature("A", "a@example.org", when, 0)
        parents = [self.git.references[ref].target] if ref in self.git.references else []
        made = str(self.git.create_commit(ref, who, who, "m", pygit2.Oid(hex=tree), parents))
        if self.git.workdir:
            self.git.checkout_head(strategy=pygit2.enums.CheckoutStrategy.FORCE)
            self.git.index.read_tree(pygit2.Oid(hex=tree))
            self.git.index.write()
        return made

    @property
    def url(self) -> str:
        """Its ``file:`` URL."""
        return self.folder.as_uri()


@pytest.fixture
def new_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Repository]:
    """Make a repository below the test's folder; ``bare`` by default."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def make(name: str, bare: bool = True) -> Repository:
        folder = tmp_path / name
        return Repository(folder, pygit2.init_repository(str(folder), bare=bare, initial_head="main"))

    return make
