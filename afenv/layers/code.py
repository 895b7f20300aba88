"""The code layer: the locked files of the analysis, and where they are read from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from afenv.documents.lock import LockedCode
from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.code_index import clean_checkout, load_ignored
from afenv.layers.codetree import CodeFile

if TYPE_CHECKING:
    import pygit2

    from afenv.settings import Settings
    from afenv.store.content import ContentStore


class Writer(Protocol):
    """What of a layer's writer the code needs; paths are relative, with slashes, and mtime is the layer's."""

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""

    def file(self, path: str, mode: int, data: bytes) -> None:
        """Add a file."""

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link."""


def open_checkout(folder: Path) -> tuple[pygit2.Repository, bytes] | None:
    """The git checkout that a folder lies in, and the folder's path in it; None if it lies in none.

    A folder that the surrounding repository ignores is not part of it. E110 if the repository cannot be
    opened or has no files of its own (a bare one).
    """
    real = Path(os.path.realpath(folder))
    if not any(os.path.lexists(parent / ".git") for parent in (real, *real.parents)):
        return None  # spares the import
    import pygit2

    try:
        found = pygit2.discover_repository(str(real))
        if found is None:
            return None
        repository = pygit2.Repository(found)
    except (pygit2.GitError, KeyError) as error:
        raise AfenvError("E110", f"git: {str(error).strip(chr(39))}", place=str(folder)) from None
    if repository.workdir is None:
        raise AfenvError("E110", "the repository is bare: it has no files at hand", place=str(folder))
    sub = os.path.relpath(real, os.path.realpath(repository.workdir))
    if sub == ".":
        return repository, b""
    if sub.startswith("..") or repository.path_is_ignored(sub + "/"):
        return None
    return repository, os.fsencode(sub)


def working_files(folder: Path, checkout: tuple[pygit2.Repository, bytes] | None) -> list[CodeFile]:
    """The files of a folder as they are; inside a checkout without those that git ignores."""
    if checkout is None:
        return codetree.read_folder(folder)
    repository, sub = checkout
    prefix = sub + b"/" if sub else b""
    tracked = {os.fsencode(entry.path) for entry in repository.index}
    tracked_folders = {
        path[:position]
        for path in tracked
        for position in range(len(path))
        if path[position : position + 1] == b"/"
    }

    def ignored(path: bytes, is_folder: bool) -> bool:
        full = prefix + path
        if full in (tracked_folders if is_folder else tracked):
            return False
        return bool(repository.path_is_ignored(os.fsdecode(full + (b"/" if is_folder else b""))))

    return codetree.read_folder(folder, ignored)


def code_files(
    code: LockedCode, folder: Path, store: ContentStore, settings: Settings
) -> Iterator[tuple[CodeFile, bytes]]:
    """The locked files with their content, sorted by path, checked against the lock's tree hash.

    ``folder`` is that of the manifest. E021 if the folder at hand is not what was locked any more; E301 if a
    repository gives something else; E108, E110, E201, E203 if it cannot be had.
    """
    if code.git is not None:
        yield from _git_files(code, folder, store, settings)
        return
    here = folder / (code.folder or ".")
    contents = codetree.verify_tree(_files_at_hand(code, here, store), code.tree)
    try:
        yield from contents
    except AfenvError as error:
        if error.code != "E301":
            raise
        raise AfenvError("E021", error.problems[0].message, place=str(here)) from None


def _files_at_hand(code: LockedCode, here: Path, store: ContentStore) -> list[CodeFile]:
    if not code.dirty and code.commit is not None:
        clean = clean_checkout(here, load_ignored(here, store))
        if clean is not None:
            return clean.files
    checkout = open_checkout(here)
    if checkout is None or code.dirty or code.commit is None or checkout[0].head_is_unborn:
        return working_files(here, checkout)
    repository, sub = checkout
    return codetree.read_commit_tree(repository, str(repository.head.target), sub)


def _git_files(
    code: LockedCode, folder: Path, store: ContentStore, settings: Settings
) -> Iterator[tuple[CodeFile, bytes]]:
    from afenv.layers.code_git import absolute_url, clone

    if code.git is None or code.commit is None:
        raise AfenvError("E022", "code from git without a commit")
    with clone(absolute_url(code.git, folder), store, settings) as repository:
        commit = repository.commit(code.commit)
        files = codetree.read_commit_tree(repository.repository, str(commit.id), exempt=False)
        yield from codetree.verify_tree(files, code.tree)


def _text(name: bytes) -> str:
    """A path as text that turns into the same bytes again, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


def write_code(
    code: LockedCode, folder: Path, store: ContentStore, settings: Settings, writer: Writer
) -> None:
    """Write the locked files under ``code.into``, sorted by path; modes 0644 and 0755. Errors as above."""
    top = code.into.strip("/")
    if top:
        writer.directory(top)
    prefix = top + "/" if top else ""
    for file, data in code_files(code, folder, store, settings):
        path = prefix + _text(file.path)
        if file.mode == codetree.SYMLINK:
            writer.symlink(path, _text(data))
        else:
            writer.file(path, 0o755 if file.mode == codetree.EXECUTABLE else 0o644, data)
