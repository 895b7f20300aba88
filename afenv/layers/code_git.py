"""Git repositories by URL: bare clones in the content store's folder, and commits in them.

Two clones per URL in ``git/`` of the store: ``NAME.tip`` without history, which is enough for a branch, a tag
or a commit of which the server gives that, and ``NAME`` with all of it. They are a cache: what is read from
them is checked by git's own hashes, and again by the tree hash in the lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError
from afenv.layers.code_url import is_local, split_user, without_credentials
from afenv.progress import Progress
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    import pygit2

    from afenv.layers.code_lfs import Objects

REMOTE_HEAD = "refs/afenv/HEAD"
CONNECT = 30.0  # seconds for a connection to come about
STALL = 60.0  # seconds that a server may be silent
_REFSPECS = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", f"+HEAD:{REMOTE_HEAD}"]
_UNREACHABLE = re.compile(
    r"resolve|connect|timed? ?out|unreachable|network|ssl|tls|certificate|eof|reset|socket|status code: 5"
    r"|failed to send|transport read|handshake",
    re.IGNORECASE,
)
_DENIED = re.compile(r"authenticat|credentials|no key of|status code: 40[13]|access denied|passphrase", re.I)
_HOST_KEY = re.compile(r"host ?key|known.?hosts|invalid or unknown remote", re.I)
_OBJECT = re.compile(r"[0-9a-f]{40}\Z")


def commit_date(commit: pygit2.Commit) -> str:
    """When a commit was made, RFC 3339 in UTC."""
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clone_folder(store: ContentStore, url: str, kind: str = "") -> Path:
    """Where the clone of an absolute URL is; ``kind`` is ``tip`` for the one without history."""
    name = hashlib.sha256(url.encode()).hexdigest()[:40]
    return store.folder / "git" / (f"{name}.{kind}" if kind else name)


@dataclass(slots=True)
class Clone:
    """What the store has of a repository, which can be brought up to date and asked for commits.

    ``url`` is absolute, as :func:`afenv.layers.code_url.absolute_url` gives it. ``repository`` is the clone
    in which the last commit was found.
    """

    url: str
    store: ContentStore
    settings: Settings
    quiet: bool = False
    repository: pygit2.Repository = field(init=False)

    def resolve(self, rev: str | None) -> pygit2.Commit:
        """The commit of a revision as the remote has it now; offline, as it was last seen.

        Without a revision, or for HEAD, that of the remote's default branch. E108 if there is none; E110,
        E131, E132, E201, E203.
        """
        if rev is not None and _OBJECT.match(rev):
            return self.commit(rev)
        if self.settings.offline and not is_local(self.url):
            found = self._find(rev, "tip") or self._find(rev)
            if found is None:
                self._refuse_offline()
        elif is_local(self._source):
            self._update()
            found = self._find(rev)
        else:
            ref = _named(rev, self._heads())
            found = self._tip(ref) if ref is not None else None
            if found is None:
                self._update()
                found = self._find(rev)
        if found is None:
            raise self._unknown(rev)
        return found

    def commit(self, identity: str, rev: str | None = None) -> pygit2.Commit:
        """A commit by its full hash, fetched if it is not here; ``rev`` is the revision that it was once.

        E108 if the remote does not have it (any more), and others as :meth:`resolve`.
        """
        found = self._find(identity, "tip") or self._find(identity)
        if found is not None:
            return found
        if self.settings.offline and not is_local(self.url):
            self._refuse_offline()
        if not is_local(self._source):
            for ref in _holders(identity, self._heads()) or [identity]:
                found = self._tip(ref)
                if found is not None and str(found.id) == identity:
                    return found
        self._update()
        found = self._find(identity)
        if found is None:  # on no branch, such as the head of a pull request: ask for it by name
            try:
                self._fetch("", [f"+{identity}:refs/afenv/{identity}"])
            except AfenvError as error:
                if error.code not in ("E108", "E110"):
                    raise
            found = self._find(identity)
        if found is None:
            raise self._unknown(identity, gone=rev is not None)
        return found

    def history(self, identity: str) -> pygit2.Commit:
        """As :meth:`commit`, with all that came before, as far as the remote can be asked for it."""
        found = self._find(identity)
        if found is None and not (self.settings.offline and not is_local(self.url)):
            self._update()
            found = self._find(identity)
        return found or self.commit(identity)

    @property
    def _source(self) -> str:
        return self.settings.rewrite(self.url)

    def _refuse_offline(self) -> None:
        message = "the repository is not in the cache as needed, and connections are not allowed"
        raise AfenvError("E203", message, place=without_credentials(self.url))

    def _find(self, rev: str | None, kind: str = "") -> pygit2.Commit | None:
        import pygit2

        name = REMOTE_HEAD if rev in (None, "HEAD") else rev
        folder = self._folder(kind)
        try:
            repository = pygit2.Repository(str(folder))
            found = repository.revparse_single(name).peel(pygit2.Commit)
            found.peel(pygit2.Tree)
        except (pygit2.GitError, KeyError, ValueError):
            return None
        self.repository = repository
        with suppress(OSError):
            os.utime(folder)  # its last use, for pruning
        return found

    def _folder(self, kind: str) -> Path:
        return clone_folder(self.store, self.url, kind)

    def _heads(self) -> dict[str, str]:
        """What the remote has, by name; a tag's commit under its name and ``^{}``."""
        heads: dict[str, str] = {}

        def list_heads(remote: Any, callbacks: Any) -> None:
            remote.connect(callbacks=callbacks, proxy=True)
            heads.update((head.name, str(head.oid)) for head in remote.list_heads(connect=False))

        self._connected("tip", list_heads)
        return heads

    def _tip(self, ref: str) -> pygit2.Commit | None:
        """A ref, or a commit, without its history; None if the server does not give that."""
        local = REMOTE_HEAD if ref == "HEAD" else ref if ref.startswith("refs/") else f"refs/afenv/{ref}"
        try:
            self._fetch("tip", [f"+{ref}:{local}"], depth=1)
        except AfenvError as error:
            if error.code != "E110":
                raise
            return None
        return self._find(local, "tip")

    def _update(self) -> None:
        """Fetch all branches and tags with their history."""
        self._fetch("", _REFSPECS)

    def _fetch(self, kind: str, refspecs: list[str], depth: int = 0) -> None:
        from pygit2.enums import FetchPrune

        prune = FetchPrune.PRUNE if refspecs is _REFSPECS else FetchPrune.UNSPECIFIED

        def fetch(remote: Any, callbacks: Any) -> None:
            remote.fetch(refspecs, callbacks=callbacks, prune=prune, proxy=True, depth=depth)

        self._connected(kind, fetch)

    def _connected(self, kind: str, act: Any) -> None:
        """Do something with the remote, holding the clone against other processes."""
        import pygit2

        from afenv.layers.code_credentials import GitCredentials

        pygit2.settings.server_connect_timeout = int(CONNECT * 1000)
        pygit2.settings.server_timeout = int(STALL * 1000)
        source = self._source
        folder = self._folder(kind)
        credentials = GitCredentials(source)
        callbacks = pygit2.RemoteCallbacks()
        callbacks.credentials = credentials  # type: ignore[method-assign, assignment]
        # Without an answer of its own, pygit2 takes every host key for right.
        callbacks.certificate_check = lambda certificate, valid, host: bool(valid)  # type: ignore[method-assign]
        with self.store.lock(f"git-{folder.name}"), _Transfer(self.url, self.quiet) as transfer:
            callbacks.transfer_progress = transfer  # type: ignore[method-assign]
            repository = _opened(folder)
            try:
                remote = repository.remotes.create_anonymous(split_user(source)[0])
                act(remote, callbacks)
                credentials.accepted()
            except (pygit2.GitError, KeyError, ValueError, OSError) as error:
                raise _refused(error, source, asked=credentials.asked) from None
            finally:
                repository.free()

    def _unknown(self, rev: str | None, *, gone: bool = False) -> AfenvError:
        from difflib import get_close_matches

        place = without_credentials(self.url)
        if gone:
            return AfenvError(
                "E108",
                f"the repository does not have the commit {rev} of the lock any more",
                place=place,
                remedy="Ask its owner for the commit, or lock what is there now with `afenv lock --upgrade`.",
            )
        repository = _opened(self._folder(""))
        names = [
            name.split("/", 2)[2] for name in repository.references if not name.startswith("refs/afenv/")
        ]
        close = get_close_matches(rev or "", names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        what = "no commit yet" if rev is None else f"no revision {rev!r}"
        return AfenvError("E108", f"the repository has {what}{hint}", place=place)


@dataclass(frozen=True, slots=True)
class FromUrl:
    """A repository by its URL: its submodules and LFS objects are fetched as well."""

    url: str
    store: ContentStore
    settings: Settings
    quiet: bool = False

    @property
    def place(self) -> str:
        """The URL as it may be shown."""
        return without_credentials(self.url)

    def submodule(
        self, path: bytes, commit: str, sections: Mapping[bytes, Mapping[str, str]]
    ) -> tuple[pygit2.Repository, FromUrl, str, str | None]:
        """As :meth:`afenv.layers.code_read.Origin.submodule`."""
        from afenv.layers.code_submodules import submodule_url
        from afenv.layers.codetree import show

        url = submodule_url(path, sections, self.url, self.place)
        clone = Clone(url, self.store, self.settings, self.quiet)
        try:
            clone.commit(commit)
        except AfenvError as error:
            problem = error.problems[0]
            message = f"the submodule {show(path)!r} of {self.place}: {problem.message}"
            raise AfenvError(problem.code, message, place=problem.place, remedy=problem.remedy) from None
        inner = FromUrl(url, self.store, self.settings, self.quiet)
        return clone.repository, inner, commit, inner.place

    def objects(self, config: bytes | None) -> Objects:
        """The LFS server of the repository, or its own folder if it is on this machine."""
        from afenv.layers.code_lfs_url import url_objects

        return url_objects(self.settings.rewrite(self.url), config, self.place)

    def working_file(self, path: bytes) -> Path | None:
        """None: nothing is checked out."""
        return None


class _Transfer:
    """The progress of a fetch, from the first object that comes."""

    def __init__(self, url: str, quiet: bool) -> None:
        name = without_credentials(url).rstrip("/").rpartition("/")[2] or url
        self._progress = Progress(f"Fetching {name}", 0, unit="object", quiet=quiet)
        self._shown = ExitStack()

    def __enter__(self) -> _Transfer:
        return self

    def __call__(self, stats: Any) -> None:
        """What libgit2 has received so far."""
        if not self._progress.total:
            self._shown.enter_context(self._progress)
        self._progress.total = stats.total_objects
        self._progress.advance(stats.received_objects - self._progress.done)

    def __exit__(self, *error: Any) -> None:
        self._shown.__exit__(*error)


def _opened(folder: Path) -> pygit2.Repository:
    """A clone, made if it is not there, and made again if it is damaged; E403."""
    import pygit2

    try:
        return pygit2.Repository(str(folder))
    except pygit2.GitError:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        return pygit2.init_repository(str(folder), bare=True)
    except (pygit2.GitError, OSError) as error:
        raise AfenvError("E403", f"cannot write: {error}", place=str(folder)) from None


def _named(rev: str | None, heads: Mapping[str, str]) -> str | None:
    """The name of a revision among those of the remote, by git's order of precedence (gitrevisions(7))."""
    if rev in (None, "HEAD"):
        return "HEAD" if "HEAD" in heads else None
    names = (rev, f"refs/{rev}", f"refs/tags/{rev}", f"refs/heads/{rev}")
    return next((name for name in names if name in heads and name.startswith("refs/")), None)


def _holders(identity: str, heads: Mapping[str, str]) -> list[str]:
    """The name, if there is one, that the remote has for a commit now."""
    names = [name.removesuffix("^{}") for name, found in heads.items() if found == identity]
    return sorted(names, key=lambda name: (name == "HEAD", name))[:1]


def _refused(error: Exception, url: str, *, asked: bool) -> AfenvError:
    text = without_credentials(str(error).strip("'\"")) or type(error).__name__
    place = without_credentials(url)
    if "No space left" in text:
        return AfenvError("E402", f"git: {text}", place=place)
    local = is_local(url)
    if not local and _HOST_KEY.search(text):
        return AfenvError("E132", f"git: {text}", place=place)
    if not local and (_DENIED.search(text) or (asked and not _UNREACHABLE.search(text))):
        return AfenvError("E131", f"git: {text}", place=place)
    return AfenvError(
        "E201" if not local and _UNREACHABLE.search(text) else "E110", f"git: {text}", place=place
    )
