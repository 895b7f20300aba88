"""Where a repository's LFS objects are: beside it, or on which server.

The server is found as git-lfs finds it (docs/api/server-discovery.md).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from afenv.errors import AfenvError
from afenv.layers.code_config import parse_config
from afenv.layers.code_lfs import Objects, folders_of
from afenv.layers.code_url import is_local, local_path, split_user

if TYPE_CHECKING:
    import pygit2

_SCP = re.compile(r"(?:([^@/:]+)@)?([^/:]+):(?!:)(.*)\Z", re.DOTALL)


def url_objects(url: str, config: bytes | None, place: str) -> Objects:
    """The objects of a repository by its URL; ``config`` is its ``.lfsconfig``, whose ``lfs.url`` goes first.

    E133 if that names a folder of this machine though the repository is from elsewhere.
    """
    configured = _configured(config, place)
    folder = local_path(url)
    folders = folders_of(folder) if folder is not None else ()
    if configured and is_local(configured):
        if folder is None:
            message = f"lfs.url of a remote repository names a folder of this machine: {configured}"
            raise AfenvError("E133", message, place=place)
        return Objects(folders=(*folders, *folders_of(local_path(configured) or folder)), place=place)
    server, ssh = server_url(url, configured)
    return Objects(folders=tuple(folders), url=server, ssh=ssh, place=place)


def checkout_objects(repository: pygit2.Repository, config: bytes | None) -> Objects:
    """The objects of a repository at hand: its own, then those of its remote."""
    place = str(repository.workdir or repository.path)
    own = [Path(repository.path, "lfs", "objects")]
    common = Path(repository.path, "commondir")
    if common.is_file():  # a linked working tree
        own.append(Path(repository.path, common.read_text().strip(), "lfs", "objects"))
    settings = repository.config
    names = [name for name in repository.remotes.names() if name]
    name = "origin" if "origin" in names or not names else names[0]
    remote = repository.remotes[name].url if names else None
    for key in ("lfs.url", f"remote.{name}.lfsurl"):
        if key in settings:
            server, ssh = server_url(remote or "", settings[key])
            return Objects(folders=tuple(own), url=server, ssh=ssh, place=place)
    if remote is None:
        return Objects(folders=tuple(own), place=place)
    if is_local(remote) and not remote.lower().startswith("file:"):
        remote = str(Path(place, remote))
    found = url_objects(remote, config, place)
    return Objects(folders=(*own, *found.folders), url=found.url, ssh=found.ssh, place=place)


def _configured(config: bytes | None, place: str) -> str | None:
    try:
        return parse_config(config or b"").get(("lfs", ""), {}).get("url")
    except ValueError as error:
        raise AfenvError("E133", f".lfsconfig: {error}", place=place) from None


def server_url(url: str, configured: str | None) -> tuple[str | None, str | None]:
    """The LFS server of a repository, and the repository's URL if ssh has to be asked for it."""
    if configured and configured.lower().startswith(("http://", "https://")):
        return configured.rstrip("/"), None
    base = configured or url
    if not base or is_local(base):
        return None, None
    if "://" in base:
        parts = urlsplit(base)
        host, path, scheme = parts.netloc, parts.path, parts.scheme
        if scheme in ("http", "https"):
            return _with_path(f"{scheme}://{host}{path}"), None
        return _with_path(f"https://{parts.hostname}{path}"), base if scheme == "ssh" else None
    found = _SCP.match(base)
    if found is None:
        return None, None
    return _with_path(f"https://{found[2]}/{found[3].lstrip('/')}"), base


def _with_path(url: str) -> str:
    base = url.rstrip("/")
    return base + ("/info/lfs" if base.endswith(".git") else ".git/info/lfs")


def ssh_command(url: str) -> list[str] | None:
    """The command that asks an ssh server for access to LFS objects (``git-lfs-authenticate``).

    None for a URL that ssh could take for an option.
    """
    port = None
    if "://" in url:
        parts = urlsplit(split_user(url)[0])
        user, host, path = parts.username, parts.hostname or "", parts.path
        port = parts.port
    else:
        found = _SCP.match(url)
        if found is None:
            return None
        user, host, path = found[1], found[2], found[3]
    target = f"{user}@{host}" if user else host
    if not host or target.startswith("-") or re.search(r"[^\w@.\-~+/:]", target + path):
        return None
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    if port:
        options += ["-p", str(port)]
    return ["ssh", *options, "--", target, f"git-lfs-authenticate '{path}' download"]
