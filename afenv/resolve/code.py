"""Code: from a git URL and revision, or a folder, to its tree hash.

The checkout at hand is locked as its last commit has it, and must have no changes; files that git does not
track are not part of it, and a warning says so. The manifest, the lock and afenv's own folder at its top are
left out of the tree, so that committing the lock does not change what it names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedCode
from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.code import open_checkout, working_files
from afenv.layers.code_index import Ignored, clean_checkout, ignore_rules, load_ignored, save_ignored
from afenv.layers.own_files import EXEMPT
from afenv.record import replace
from afenv.resolve.code_fingerprint import quick_fingerprint
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    import pygit2

_SHOWN = 5  # changed files that an error lists


def resolve_code(
    source: CodeSource,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    *,
    allow_dirty: bool = False,
    live: bool = False,
    locked: LockedCode | None = None,
    update: bool = False,
) -> LockedCode:
    """The code pinned by commit and tree; ``folder`` is that of the manifest.

    ``locked`` is the earlier record: a git revision stays at its commit unless ``update``; a folder with the
    same tree keeps its record. ``allow_dirty`` accepts a checkout with changes and locks the files as they
    are; ``live`` locks those of the last commit, whatever has changed since. Raises E001, E016, E108, E109,
    E110, E111, E201, E203.
    """
    if source.git is not None:
        return _from_git(source, folder, store, settings, None if update else locked)
    return _kept(source, _from_folder(source, folder, allow_dirty, live), locked)


def resolve_code_cached(
    source: CodeSource,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    *,
    allow_dirty: bool = False,
    live: bool = False,
    locked: LockedCode | None = None,
    update: bool = False,
) -> LockedCode:
    """As :func:`resolve_code`, but from the store where no file of a folder has changed since."""
    if source.git is not None:
        return resolve_code(
            source,
            folder,
            store,
            settings,
            allow_dirty=allow_dirty,
            live=live,
            locked=locked,
            update=update,
        )
    here = folder / (source.folder or ".")
    known = load_ignored(here, store)
    before = None if known is None else quick_fingerprint(here, known.folders)
    if before is not None:
        fresh = _recalled(source, store.load_key("code", _key(before, allow_dirty, live)))
        if fresh is not None:
            return _kept(source, fresh, locked)
    clean = clean_checkout(here, known)
    if clean is not None:
        tree, _ = codetree.git_tree(clean.files, str(here))
        record = {"tree": tree, "commit": clean.commit, "date": clean.date, "dirty": False}
        fresh = _recalled(source, record)
        assert fresh is not None
        return _kept(source, fresh, locked)
    rules = ignore_rules(here)
    fresh = _from_folder(source, folder, allow_dirty, live, seen := _Seen(here))
    if seen.before is not None and seen.before == quick_fingerprint(here, seen.ignored):
        record = {"tree": fresh.tree, "commit": fresh.commit, "date": fresh.date, "dirty": fresh.dirty}
        save_ignored(here, store, Ignored(seen.ignored, seen.ignored_files, rules))
        store.save_key("code", _key(seen.before, allow_dirty, live), record)
    return _kept(source, fresh, locked)


def ignored_folders(here: Path, store: ContentStore) -> frozenset[bytes] | None:
    """The folders below ``here`` that git ignores, as the last full look found them; None before one."""
    known = load_ignored(here, store)
    return None if known is None else known.folders


class _Seen:
    """What a look at a folder teaches for the next: what git ignores, the fingerprint before."""

    def __init__(self, here: Path) -> None:
        self._here = here
        self.ignored: frozenset[bytes] = frozenset()
        self.ignored_files: frozenset[bytes] = frozenset()
        self.before: str | None = None

    def look(self, repository: pygit2.Repository | None, sub: bytes) -> None:
        """Note the fingerprint, with the ignored folders of the checkout where there is one."""
        if repository is not None:
            from pygit2.enums import FileStatus

            prefix = os.fsdecode(sub) + "/" if sub else ""
            states = repository.status(untracked_files="normal", ignored=True)
            found = [
                os.fsencode(path[len(prefix) :])
                for path, state in states.items()
                if state == FileStatus.IGNORED and path.startswith(prefix)
            ]
            self.ignored = frozenset(path.rstrip(b"/") for path in found if path.endswith(b"/")) - {b""}
            self.ignored_files = frozenset(path for path in found if not path.endswith(b"/"))
        self.before = quick_fingerprint(self._here, self.ignored)


def _key(fingerprint: str, allow_dirty: bool, live: bool) -> str:
    return sha256_bytes(canonical.compact([2, fingerprint, allow_dirty, live]))


def _recalled(source: CodeSource, record: Any) -> LockedCode | None:
    match record:
        case {
            "tree": str(tree),
            "commit": str() | None as commit,
            "date": str() | None as date,
            "dirty": bool(dirty),
        }:
            swhid = codetree.directory_swhid(tree)
            return LockedCode(
                into=source.into, folder=source.folder or ".", tree=tree, swhid=swhid,
                commit=commit, date=date, dirty=dirty,
            )  # fmt: skip
    return None


def _kept(source: CodeSource, fresh: LockedCode, locked: LockedCode | None) -> LockedCode:
    """The earlier record, if it has the same files: its commit may be older, which does not matter."""
    if locked is not None and locked.git is None and (locked.tree, locked.dirty) == (fresh.tree, fresh.dirty):
        return replace(locked, into=source.into, folder=source.folder or ".")
    return fresh


def _from_git(
    source: CodeSource, folder: Path, store: ContentStore, settings: Settings, locked: LockedCode | None
) -> LockedCode:
    if locked is not None and (locked.git, locked.rev) == (source.git, source.rev):
        return replace(locked, into=source.into)
    from afenv.layers.code_git import absolute_url, clone, commit_date

    assert source.git is not None
    with clone(absolute_url(source.git, folder), store, settings) as repository:
        commit = repository.resolve(source.rev)
        files = codetree.read_commit_tree(repository.repository, str(commit.id), exempt=False)
        tree, swhid = codetree.git_tree(files, source.git)
        return LockedCode(
            into=source.into,
            tree=tree,
            swhid=swhid,
            git=source.git,
            rev=source.rev,
            commit=str(commit.id),
            date=commit_date(commit),
        )


def _from_folder(
    source: CodeSource, folder: Path, allow_dirty: bool, live: bool, seen: _Seen | None = None
) -> LockedCode:
    here = folder / (source.folder or ".")
    if not here.is_dir():
        raise AfenvError("E001", "there is no such folder", place=str(here))
    place = str(here)
    checkout = open_checkout(here)
    if seen is not None:
        seen.look(*(checkout or (None, b"")))
    head = None
    if checkout is not None:
        repository, sub = checkout
        head = None if repository.head_is_unborn else str(repository.head.target)
        committed = [] if head is None else _committed(repository, head, sub)
        codetree.git_tree(committed, place)  # what is refused is said before what is dirty
        changed, untracked = _changes(repository, sub)
        if live and committed:
            changed, untracked = [], []
        elif allow_dirty or live or not committed:
            changed, untracked = changed + untracked, []
        if changed and not live and not allow_dirty:
            raise AfenvError("E109", f"the checkout has changes: {_listed(changed)}", place=place)
        if untracked:
            text = f"warning: not part of the image, since git does not track them: {_listed(untracked)}"
            print(text, file=sys.stderr)  # noqa: T201
        dirty = bool(changed)
        files = working_files(here, checkout) if dirty else committed
    else:
        dirty = False
        files = working_files(here, None)
    tree, swhid = codetree.git_tree(files, place)
    date = None
    if checkout is not None and head is not None:
        import pygit2

        from afenv.layers.code_git import commit_date

        date = commit_date(checkout[0].revparse_single(head).peel(pygit2.Commit))
    return LockedCode(
        into=source.into, folder=source.folder or ".", tree=tree, swhid=swhid,
        commit=head, date=date, dirty=dirty,
    )  # fmt: skip


def _committed(repository: pygit2.Repository, head: str, sub: bytes) -> list[codetree.CodeFile]:
    """The files of the last commit; none if the folder is not in it yet."""
    try:
        return codetree.read_commit_tree(repository, head, sub)
    except AfenvError as error:
        if error.code != "E108":
            raise
        return []


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(sorted(paths)[:_SHOWN]) + more


def _changes(repository: pygit2.Repository, sub: bytes) -> tuple[list[str], list[str]]:
    """Paths below ``sub`` and relative to it, save what is exempt: the changed, and the untracked."""
    from pygit2.enums import FileStatus

    prefix = os.fsdecode(sub) + "/" if sub else ""
    exempt = {os.fsdecode(name) for name in EXEMPT}
    quiet = {FileStatus.CURRENT, FileStatus.IGNORED}
    changed: list[str] = []
    untracked: list[str] = []
    for path, state in repository.status(untracked_files="all", ignored=False).items():
        if path.startswith(prefix) and state not in quiet:
            inside = path[len(prefix) :]
            if inside.split("/", 1)[0] not in exempt:
                (untracked if state == FileStatus.WT_NEW else changed).append(inside)
    return changed, untracked
