"""Code: from a git URL and revision, or a folder, to its tree hash.

The checkout at hand is locked as its last commit has it, and must have no changes; files that git does not
track are not part of it, and a warning says so. The manifest, the lock and afenv's own folder at its top are
left out of the tree, so that committing the lock does not change what it names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedCode, LockedLfs, LockedSubmodule
from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.code_index import Ignored, clean_checkout, ignore_rules, load_ignored, save_ignored
from afenv.record import replace
from afenv.resolve.code_fingerprint import quick_fingerprint
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    import pygit2

    from afenv.layers.code_read import Reading

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
    quiet: bool = False,
) -> LockedCode:
    """The code pinned by commit and tree; ``folder`` is that of the manifest.

    ``locked`` is the earlier record: a git revision stays at its commit unless ``update``; a folder with the
    same tree keeps its record. ``allow_dirty`` accepts a checkout with changes and locks the files as they
    are; ``live`` locks those of the last commit, whatever has changed since; ``quiet`` hides progress. Raises
    E001, E013, E016, E108 to E111, E130 to E133, E201 to E203, E301, E302.
    """
    if source.git is not None:
        return _from_git(source, folder, store, settings, None if update else locked, quiet)
    look = _Look(source, folder, store, settings, allow_dirty, live, quiet)
    return _kept(look, look.locked(), locked)


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
    quiet: bool = False,
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
            quiet=quiet,
        )
    here = folder / (source.folder or ".")
    known = load_ignored(here, store)
    look = _Look(source, folder, store, settings, allow_dirty, live, quiet)
    before = None if known is None else quick_fingerprint(here, known.folders)
    if before is not None:
        fresh = _recalled(source, store.load_key("code", _key(before, allow_dirty, live)))
        if fresh is not None:
            return _kept(look, fresh, locked)
    clean = clean_checkout(here, known)
    if clean is not None:
        if clean.ignored != known:
            save_ignored(here, store, clean.ignored)
        tree, _ = codetree.git_tree(clean.files, str(here))
        record = {"tree": tree, "commit": clean.commit, "date": clean.date, "dirty": False}
        fresh = _recalled(source, record)
        assert fresh is not None
        return _kept(look, fresh, locked)
    rules = ignore_rules(here)
    fresh = look.locked(seen := _Seen(here))
    if seen.before is not None and seen.before == quick_fingerprint(here, seen.ignored):
        save_ignored(here, store, Ignored(seen.ignored, seen.ignored_files, rules))
        store.save_key("code", _key(seen.before, allow_dirty, live), _record(fresh))
    return _kept(look, fresh, locked)


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
    return sha256_bytes(canonical.compact([3, fingerprint, allow_dirty, live]))


def _record(code: LockedCode) -> dict[str, Any]:
    return {
        "tree": code.tree,
        "commit": code.commit,
        "date": code.date,
        "dirty": code.dirty,
        "exported": code.exported,
        "submodules": [[one.path, one.commit] for one in code.submodules],
        "lfs": [[one.path, one.sha256, one.size] for one in code.lfs],
    }


def _recalled(source: CodeSource, record: Any) -> LockedCode | None:
    match record:
        case {
            "tree": str(tree),
            "commit": str() | None as commit,
            "date": str() | None as date,
            "dirty": bool(dirty),
            **more,
        }:
            rest: dict[Any, Any] = more
            return LockedCode(
                into=source.into,
                folder=source.folder or ".",
                tree=tree,
                swhid=codetree.directory_swhid(tree),
                commit=commit,
                revision=codetree.revision_swhid(commit) if commit and not dirty else None,
                date=date,
                submodules=tuple(LockedSubmodule(path=p, commit=c) for p, c in rest.get("submodules", ())),
                lfs=tuple(LockedLfs(path=p, sha256=h, size=n) for p, h, n in rest.get("lfs", ())),
                exported=rest.get("exported", False),
                dirty=dirty,
            )
    return None


def _kept(look: _Look, fresh: LockedCode, locked: LockedCode | None) -> LockedCode:
    """The earlier record, if it has the same files: its commit may be older, which does not matter.

    One from before export rules were heeded stays without them, as long as the files are the same.
    """
    if locked is None or locked.git is not None:
        return fresh
    same = (locked.tree, locked.dirty) == (fresh.tree, fresh.dirty)
    if not same and fresh.exported and not locked.exported and locked.dirty == fresh.dirty:
        same = look.locked(export=False).tree == locked.tree
    if same:
        return replace(locked, into=look.source.into, folder=look.source.folder or ".")
    return fresh


def _from_git(
    source: CodeSource,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    locked: LockedCode | None,
    quiet: bool,
) -> LockedCode:
    if locked is not None and (locked.git, locked.rev) == (source.git, source.rev):
        return replace(locked, into=source.into)
    from afenv.layers.code_git import Clone, FromUrl, commit_date
    from afenv.layers.code_read import How, read_commit
    from afenv.layers.code_url import absolute_url, split_user, without_credentials

    assert source.git is not None
    if split_user(source.git)[2] is not None:
        raise AfenvError(
            "E013",
            f"the URL of {without_credentials(source.git)} has a password",
            place="code",
            remedy="Take it out, and set AFENV_GIT_TOKEN_<HOST> or use git's credential helper.",
        )
    url = absolute_url(source.git, folder)
    clone, origin = Clone(url, store, settings, quiet), FromUrl(url, store, settings, quiet)
    commit = clone.resolve(source.rev)
    identity = str(commit.id)
    how = How(store=store, settings=settings, exempt=False, quiet=quiet)
    reading = read_commit(clone.repository, identity, origin, how)
    _warn_of_unconverted(reading)
    tree, swhid = codetree.git_tree(reading.files, source.git)
    return LockedCode(
        into=source.into,
        tree=tree,
        swhid=swhid,
        git=source.git,
        rev=source.rev,
        commit=identity,
        revision=codetree.revision_swhid(identity),
        date=commit_date(commit),
        **_beyond(reading),
    )


def _beyond(reading: Reading) -> dict[str, Any]:
    """What makes the files other than those of the commit, as the lock has it."""
    show = codetree.show
    return {
        "submodules": tuple(
            LockedSubmodule(path=show(path), commit=commit, git=url)
            for path, commit, url in reading.submodules
        ),
        "lfs": tuple(
            LockedLfs(path=show(path), sha256=pointer.sha256, size=pointer.size)
            for path, pointer in reading.lfs
        ),
        "exported": reading.exported,
    }


def _warn_of_unconverted(reading: Reading) -> None:
    if reading.unconverted:
        found = [f"{name} ({codetree.show(path)})" for name, path in reading.unconverted.items()]
        text = f"as they are committed, whatever their git attributes say: {_listed(found)}"
        print(f"warning: files go into the image {text}", file=sys.stderr)  # noqa: T201


class _Look(NamedTuple):
    """One look at a folder."""

    source: CodeSource
    folder: Path
    store: ContentStore
    settings: Settings
    allow_dirty: bool
    live: bool
    quiet: bool

    def locked(self, seen: _Seen | None = None, *, export: bool = True) -> LockedCode:
        """The folder's record; ``seen`` learns what helps the next look."""
        here = self.folder / (self.source.folder or ".")
        if not here.is_dir():
            raise AfenvError("E001", "there is no such folder", place=str(here))
        from afenv.layers.code_checkout import open_checkout

        checkout = open_checkout(here)
        if seen is not None:
            seen.look(*(checkout or (None, b"")))
        if checkout is None:
            tree, swhid = codetree.git_tree(codetree.read_folder(here), str(here))
            return LockedCode(into=self.source.into, folder=self.source.folder or ".", tree=tree, swhid=swhid)
        return self._of_checkout(here, *checkout, export)

    def _of_checkout(self, here: Path, repository: pygit2.Repository, sub: bytes, export: bool) -> LockedCode:
        import pygit2

        from afenv.layers.code_checkout import changes, read_head, read_present
        from afenv.layers.code_git import commit_date
        from afenv.layers.code_read import How

        place = str(here)
        how = How(store=self.store, settings=self.settings, export=export, quiet=self.quiet)
        changed, untracked = changes(repository, sub)
        if changed and not self.live and not self.allow_dirty:
            raise AfenvError("E109", f"the checkout has changes: {_listed(changed)}", place=place)
        reading = None
        if not (self.allow_dirty and (changed or untracked)) or self.live:
            reading = read_head(repository, sub, how)
        empty = reading is None or not reading.files
        if reading is not None:
            tree, swhid = codetree.git_tree(reading.files, place)
        if self.live and not empty:
            changed, untracked = [], []
        elif self.allow_dirty or self.live or empty:
            changed, untracked = changed + untracked, []
        if changed and not self.live and not self.allow_dirty:
            raise AfenvError("E109", f"the checkout has changes: {_listed(changed)}", place=place)
        if untracked:
            text = f"warning: not part of the image, since not tracked by git: {_listed(untracked)}"
            print(text, file=sys.stderr)  # noqa: T201
        if changed or reading is None:
            reading = read_present(here, repository, sub, how)
            tree, swhid = codetree.git_tree(reading.files, place)
        _warn_of_unconverted(reading)
        head = None if repository.head_is_unborn else str(repository.head.target)
        date = None if head is None else commit_date(repository.revparse_single(head).peel(pygit2.Commit))
        return LockedCode(
            into=self.source.into,
            folder=self.source.folder or ".",
            tree=tree,
            swhid=swhid,
            commit=head,
            revision=codetree.revision_swhid(head) if head and not changed else None,
            date=date,
            dirty=bool(changed),
            **_beyond(reading),
        )


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(sorted(paths)[:_SHOWN]) + more
