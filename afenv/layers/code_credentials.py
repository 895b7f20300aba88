"""What git and LFS servers are shown: user and password over HTTP, keys over ssh.

For a server over HTTP, in this order: what the URL itself has (that of a mirror rule), the token of the
variable ``AFENV_GIT_TOKEN_<HOST>``, ``~/.netrc``, git's credential helpers. Each is offered once. Nothing of
it is written anywhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afenv.layers.code_url import host_of, split_user

if TYPE_CHECKING:
    from pygit2.enums import CredentialType

TOKEN = "AFENV_GIT_TOKEN_"  # noqa: S105 - the name of a variable
KEY = "AFENV_SSH_KEY"
TOKEN_USER = "oauth2"  # noqa: S105 - what servers take for the user of a token
HELPER_PATIENCE = 120.0  # seconds for a credential helper
_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]+){3}|::1)\Z")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password or token; ``helper`` tells that git's helper gave it."""

    user: str
    secret: str = field(repr=False)
    helper: bool = False


def token_name(host: str) -> str:
    """The variable that has the token for a host, such as ``AFENV_GIT_TOKEN_GITLAB_EXAMPLE_ORG``."""
    return TOKEN + re.sub(r"[^A-Z0-9]", "_", host.upper())


def logins(url: str) -> Iterator[Login]:
    """What may be offered to a server, by its URL; each is looked for when the one before was refused.

    A token of a variable goes over HTTPS only, or to this machine itself.
    """
    clean, user, password = split_user(url)
    host = host_of(url)
    if user and password is not None:
        yield Login(user, password)
    token = os.environ.get(token_name(host), "").strip()
    if token and (url.lower().startswith("https:") or _LOOPBACK.match(host)):
        yield Login(user or TOKEN_USER, token)
    yield from _netrc(host, user)
    found = _helper("get", clean, user)
    if found is not None:
        yield found


def _netrc(host: str, user: str | None) -> Iterator[Login]:
    import netrc

    try:
        found = netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return
    if found is not None and found[2] and user in (None, found[0]):
        yield Login(found[0], found[2])


def tell_helper(url: str, login: Login, *, good: bool) -> None:
    """Tell git's credential helpers whether what they gave was right; others are not told."""
    if login.helper:
        clean, _, _ = split_user(url)
        _helper("store" if good else "erase", clean, login.user, login.secret)


def _helper(action: str, url: str, user: str | None, secret: str | None = None) -> Login | None:
    """Ask or tell git's credential helpers (git-credential(1)); they never ask a person here."""
    parts = urlsplit(url)
    fields = {"protocol": parts.scheme, "host": parts.netloc, "path": parts.path.lstrip("/")}
    if user:
        fields["username"] = user
    if secret is not None:
        fields["password"] = secret
    if any("\n" in value or "\0" in value for value in fields.values()):
        return None
    lines = "".join(f"{name}={value}\n" for name, value in fields.items() if value) + "\n"
    for command in _helper_commands(action, url):
        answer = _ask(command, lines)
        user, found = answer.get("username"), answer.get("password")
        if action == "get" and user is not None and found:
            return Login(user, found, helper=True)
    return None


def _ask(command: list[str], lines: str) -> dict[str, str]:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true"}
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(
            command,
            input=lines,
            capture_output=True,
            text=True,
            timeout=HELPER_PATIENCE,
            env=environment,
            cwd="/",  # no configuration of a repository at hand
            check=False,
        )
        if done.returncode == 0:
            return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {}


def _helper_commands(action: str, url: str) -> Iterator[list[str]]:
    if shutil.which("git"):
        yield ["git", "credential", {"get": "fill", "store": "approve", "erase": "reject"}[action]]
        return
    for helper in _configured_helpers(url):
        if helper.startswith("!"):
            yield ["sh", "-c", f'{helper[1:]} "$@"', "helper", action]
        elif helper.startswith("/"):
            yield [*shlex.split(helper), action]
        elif (program := shutil.which("git-credential-" + helper.split()[0])) is not None:
            yield [program, *shlex.split(helper)[1:], action]


def _configured_helpers(url: str) -> list[str]:
    """The helpers of the user's and the host's git configuration that a URL is for; an empty one resets."""
    import pygit2

    found: list[str] = []
    for load in ("get_system_config", "get_global_config", "get_xdg_config"):
        try:
            entries = list(getattr(pygit2.Config, load)())
        except (OSError, KeyError, pygit2.GitError):
            continue
        for entry in entries:
            name = entry.name
            if not (name.startswith("credential.") and name.endswith(".helper")):
                continue
            scope = name.removeprefix("credential").removesuffix(".helper").removeprefix(".")
            if scope and not (url + "/").startswith(scope.rstrip("/") + "/"):
                continue
            found = [*found, entry.value] if entry.value else []
    return found


class GitCredentials:
    """The credentials' callback of one connection: the next one each time that the server asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys = self._ssh_keys()
        self._logins = logins(url)
        self.offered: Login | None = None
        self.asked = False

    def __call__(self, url: str, user: str | None, allowed: CredentialType) -> Any:
        """What libgit2 hands to the server; :class:`pygit2.GitError` when there is nothing left."""
        import pygit2
        from pygit2.enums import CredentialType

        if allowed & CredentialType.USERNAME and not allowed & CredentialType.SSH_KEY:
            return pygit2.Username(user or "git")
        self.asked = True
        if allowed & CredentialType.SSH_KEY:
            for key in self._keys:
                return key(user or "git")
            raise pygit2.GitError("no key of the ssh agent or of ~/.ssh was accepted")
        if allowed & CredentialType.USERPASS_PLAINTEXT:
            if self.offered is not None:
                tell_helper(self._url, self.offered, good=False)
            before, self.offered = self.offered, next(self._logins, None)
            if self.offered is not None:
                return pygit2.UserPass(self.offered.user, self.offered.secret)
            if before is not None:
                raise pygit2.GitError("the credentials were refused")
            raise pygit2.GitError(
                f"credentials are needed, and neither {token_name(host_of(self._url))}, ~/.netrc nor git's "
                "credential helpers have them"
            )
        raise pygit2.GitError("the server asks for credentials of a kind that is not supported")

    def accepted(self) -> None:
        """Say that the connection came about."""
        if self.offered is not None:
            tell_helper(self._url, self.offered, good=True)

    def _ssh_keys(self) -> Iterator[Any]:
        import pygit2

        named = os.environ.get(KEY)
        files = [Path(named).expanduser()] if named else []
        if os.environ.get("SSH_AUTH_SOCK") and not named:
            yield pygit2.KeypairFromAgent
        if not named:
            files = [Path.home() / ".ssh" / name for name in _KEYS]
        for path in files:
            if path.is_file():
                public = path.with_name(path.name + ".pub")
                yield lambda user, path=path, public=public: pygit2.Keypair(
                    user, str(public) if public.is_file() else None, str(path), ""
                )
