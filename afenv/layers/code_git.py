"""Git repositories by URL: bare clones in the content store's folder, and commits in them.

One clone per URL in ``git/`` of the store. It is a cache: what is read from it is checked by git's own
hashes, and again by the tree hash in the lock.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    import pygit2
    from pygit2.enums import CredentialType

REMOTE_HEAD = "refs/afenv/HEAD"
_REFSPECS = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", f"+HEAD:{REMOTE_HEAD}"]
_SCP = re.compile(r"[^/:]+@[^/:]+:")  # user@host:path
_UNREACHABLE = re.compile(
    r"resolve|connect|timed? ?out|unreachable|network|ssl|tls|certificate|eof|reset|socket|status code: 5",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"[0-9a-f]{40}\Z")


def is_local(url: str) -> bool:
    """Whether the URL names a repository on this machine, which needs no connection."""
    return urlsplit(url).scheme == "file" or not ("://" in url or _SCP.match(url))


def absolute_url(url: str, folder: Path) -> str:
    """The URL; a path as an absolute one, relative to ``folder``."""
    if not is_local(url) or url.startswith("file:"):
        return url
    return str((folder / Path(url).expanduser()).resolve())


def without_credentials(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"(?<=://)[^/@]+@", "", url)


def commit_date(commit: pygit2.Commit) -> str:
    """When a commit was made, RFC 3339 in UTC."""
    return datetime.fromtimestamp(commit.commit_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _credentials(url: str, user: str | None, allowed: CredentialType) -> Any:
    """What git servers ask for: keys of the ssh agent, or user and password out of ``~/.netrc``."""
    import netrc

    import pygit2
    from pygit2.enums import CredentialType

    if allowed & CredentialType.SSH_KEY:
        return pygit2.KeypairFromAgent(user or "git")
    if allowed & CredentialType.USERPASS_PLAINTEXT:
        try:
            found = netrc.netrc().authenticators(urlsplit(url).hostname or "")
        except (OSError, netrc.NetrcParseError):
            found = None
        if found is not None:
            return pygit2.UserPass(found[0], found[2])
    if allowed & CredentialType.USERNAME:
        return pygit2.Username(user or "git")
    raise pygit2.GitError("authentication is needed, and neither the ssh agent nor ~/.netrc has it")


class _Once:
    """Gives credentials once: a server that refuses them would be offered them without end."""

    def __init__(self) -> None:
        self._offered: set[int] = set()

    def __call__(self, url: str, user: str | None, allowed: CredentialType) -> Any:
        import pygit2

        if allowed in self._offered:
            raise pygit2.GitError("authentication was refused")
        self._offered.add(allowed)
        return _credentials(url, user, allowed)


def _fetch(repository: pygit2.Repository, url: str, refspecs: list[str]) -> None:
    import pygit2
    from pygit2.enums import FetchPrune

    callbacks = pygit2.RemoteCallbacks()
    callbacks.credentials = _Once()  # type: ignore[method-assign, assignment]
    remote = repository.remotes.create_anonymous(url)
    prune = FetchPrune.PRUNE if refspecs is _REFSPECS else FetchPrune.UNSPECIFIED
    remote.fetch(refspecs, callbacks=callbacks, prune=prune, proxy=True)


def _refused(error: Exception, url: str) -> AfenvError:
    text = str(error).strip("'\"") or type(error).__name__
    if "No space left" in text:
        return AfenvError("E402", f"git: {text}", place=without_credentials(url))
    code = "E201" if not is_local(url) and _UNREACHABLE.search(text) else "E110"
    return AfenvError(code, f"git: {without_credentials(text)}", place=without_credentials(url))


@contextmanager
def clone(url: str, store: ContentStore, settings: Settings) -> Iterator[Clone]:
    """The clone of a URL (as :func:`absolute_url` gives it), held against other processes."""
    import pygit2

    name = hashlib.sha256(url.encode()).hexdigest()[:40]
    folder = store.folder / "git" / name
    with store.lock(f"git-{name}"):
        try:
            repository = pygit2.Repository(str(folder))
        except pygit2.GitError:
            shutil.rmtree(folder, ignore_errors=True)
            try:
                repository = pygit2.init_repository(str(folder), bare=True)
            except (pygit2.GitError, OSError) as error:
                raise AfenvError("E403", f"cannot write: {error}", place=str(folder)) from None
        try:
            yield Clone(url, repository, settings)
        finally:
            repository.free()


class Clone:
    """A clone that can be brought up to date and asked for commits."""

    def __init__(self, url: str, repository: pygit2.Repository, settings: Settings) -> None:
        self.url = url
        self.repository = repository
        self._settings = settings

    def update(self, refspecs: list[str] = _REFSPECS) -> None:
        """Fetch all branches and tags. E203 if connections are not allowed, E110, E201."""
        import pygit2

        if self._settings.offline and not is_local(self.url):
            message = "the repository is not in the cache as needed, and connections are not allowed"
            raise AfenvError("E203", message, place=without_credentials(self.url))
        url = self._settings.rewrite(self.url)
        try:
            _fetch(self.repository, url, refspecs)
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise _refused(error, url) from None

    def find(self, rev: str | None) -> pygit2.Commit | None:
        """The commit of a branch, tag, commit or other revision that the clone has; else None.

        Without a revision, or for HEAD, that of the remote's default branch.
        """
        import pygit2

        name = REMOTE_HEAD if rev in (None, "HEAD") else rev
        try:
            return self.repository.revparse_single(name).peel(pygit2.Commit)
        except (pygit2.GitError, KeyError, ValueError):
            return None

    def resolve(self, rev: str | None) -> pygit2.Commit:
        """The commit of a revision as the remote has it now; offline, as it was last seen. E108, E203."""
        if rev is not None and _OBJECT.match(rev):
            return self.commit(rev)
        found = self.find(rev) if self._settings.offline and not is_local(self.url) else None
        if found is None:
            self.update()
            found = self.find(rev)
        if found is None:
            raise self._unknown(rev)
        return found

    def commit(self, identity: str) -> pygit2.Commit:
        """A commit by its full hash, fetched if it is not here; E108 if the remote does not have it."""
        found = self.find(identity)
        if found is None:
            self.update()
            found = self.find(identity)
        if found is None:  # on no branch, such as the head of a pull request: ask for it by name
            try:
                self.update([f"+{identity}:refs/afenv/{identity}"])
            except AfenvError as error:
                if error.code == "E203":
                    raise
            found = self.find(identity)
        if found is None:
            raise self._unknown(identity)
        return found

    def _unknown(self, rev: str | None) -> AfenvError:
        from difflib import get_close_matches

        names = [
            name.split("/", 2)[2] for name in self.repository.references if not name.startswith("refs/afenv/")
        ]
        close = get_close_matches(rev or "", names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        what = "no commit yet" if rev is None else f"no revision {rev!r}"
        return AfenvError("E108", f"the repository has {what}{hint}", place=without_credentials(self.url))
