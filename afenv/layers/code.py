"""The code layer: the locked files of the analysis, and where they are read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from afenv.documents.lock import LockedCode
from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.code_index import clean_checkout, load_ignored
from afenv.layers.codetree import CodeFile, Content

if TYPE_CHECKING:
    from afenv.settings import Settings
    from afenv.store.content import ContentStore


class Writer(Protocol):
    """What of a layer's writer the code needs; paths are relative, with slashes, and mtime is the layer's."""

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""

    def file(self, path: str, mode: int, data: bytes | memoryview) -> None:
        """Add a file."""

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link."""


def code_files(
    code: LockedCode, folder: Path, store: ContentStore, settings: Settings, *, quiet: bool = False
) -> Iterator[tuple[CodeFile, Content]]:
    """The locked files with their content, sorted by path, checked against the lock's tree hash.

    ``folder`` is that of the manifest. E021 if the folder at hand is not what was locked any more; E301 if a
    repository gives something else; E108, E110, E130, E131, E132, E133, E201, E203 if it cannot be had.
    """
    if code.git is not None:
        yield from _git_files(code, folder, store, settings, quiet)
        return
    here = folder / (code.folder or ".")
    contents = codetree.verify_tree(_files_at_hand(code, here, store, settings, quiet), code.tree)
    try:
        yield from contents
    except AfenvError as error:
        if error.code != "E301":
            raise
        raise AfenvError("E021", error.problems[0].message, place=str(here)) from None


def _files_at_hand(
    code: LockedCode, here: Path, store: ContentStore, settings: Settings, quiet: bool
) -> list[CodeFile]:
    if not code.dirty and code.commit is not None:
        clean = clean_checkout(here, load_ignored(here, store))
        if clean is not None:
            return clean.files
    from afenv.layers.code_checkout import open_checkout, read_head, read_present
    from afenv.layers.code_read import How

    checkout = open_checkout(here)
    if checkout is None:
        return codetree.read_folder(here)
    how = How(store=store, settings=settings, export=code.exported, content=True, quiet=quiet)
    if code.dirty or code.commit is None:
        return read_present(here, *checkout, how).files
    found = read_head(*checkout, how) or read_present(here, *checkout, how)
    return found.files


def _git_files(
    code: LockedCode, folder: Path, store: ContentStore, settings: Settings, quiet: bool
) -> Iterator[tuple[CodeFile, Content]]:
    from afenv.layers.code_git import Clone, FromUrl
    from afenv.layers.code_read import How, read_commit
    from afenv.layers.code_url import absolute_url

    if code.git is None or code.commit is None:
        raise AfenvError("E022", "code from git without a commit")
    url = absolute_url(code.git, folder)
    clone = Clone(url, store, settings, quiet)
    clone.commit(code.commit, code.rev)
    how = How(store=store, settings=settings, exempt=False, export=code.exported, content=True, quiet=quiet)
    origin = FromUrl(url, store, settings, quiet)
    yield from codetree.verify_tree(read_commit(clone.repository, code.commit, origin, how).files, code.tree)


def _text(name: bytes) -> str:
    """A path as text that turns into the same bytes again, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


def write_code(
    code: LockedCode,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    writer: Writer,
    *,
    quiet: bool = False,
) -> None:
    """Write the locked files under ``code.into``, sorted by path; modes 0644 and 0755. Errors as above."""
    top = code.into.strip("/")
    if top:
        writer.directory(top)
    prefix = top + "/" if top else ""
    for file, data in code_files(code, folder, store, settings, quiet=quiet):
        path = prefix + _text(file.path)
        if file.mode == codetree.SYMLINK:
            writer.symlink(path, _text(bytes(data)))
        else:
            writer.file(path, 0o755 if file.mode == codetree.EXECUTABLE else 0o644, data)
