"""URLs of git repositories: which are of this machine, and how they are shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_SCP = re.compile(r"[^/:]+:(?!:)")  # [user@]host:path, which git takes as ssh


def is_local(url: str) -> bool:
    """Whether the URL names a repository on this machine, which needs no connection."""
    return url.lower().startswith("file:/") or not ("://" in url or _SCP.match(url))


def local_path(url: str) -> Path | None:
    """The folder that a local URL names; None for others."""
    if not is_local(url):
        return None
    return Path(unquote(urlsplit(url).path) if url.lower().startswith("file:/") else url)


def absolute_url(url: str, folder: Path) -> str:
    """The URL; a path as an absolute one, relative to ``folder``."""
    if not is_local(url) or url.lower().startswith("file:"):
        return url
    return str((folder / Path(url).expanduser()).resolve())


def without_credentials(url: str) -> str:
    """The URL, or a text with URLs, as it may be shown."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", url)


def host_of(url: str) -> str:
    """The host of a URL, without its port; empty for a local one."""
    if "://" in url:
        return (urlsplit(url).hostname or "").lower()
    found = _SCP.match(url)
    return found[0].rstrip(":").rpartition("@")[2].lower() if found else ""


def split_user(url: str) -> tuple[str, str | None, str | None]:
    """The URL without what must not be kept, its user and its password, as far as it has them.

    That of ssh keeps its user, who is part of the address.
    """
    if "://" not in url:
        return url, None, None
    parts = urlsplit(url)
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "ssh" and parts.username:
        host = f"{parts.username}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment)), user, password
