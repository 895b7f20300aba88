"""Submodules: which repository a ``.gitmodules`` names for a path (gitmodules(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from afenv.errors import AfenvError
from afenv.layers.code_config import parse_config
from afenv.layers.code_url import is_local, without_credentials
from afenv.layers.codetree import show

FILE_NAME = b".gitmodules"
DEPTH_LIMIT = 10  # submodules within submodules
COUNT_LIMIT = 1000  # submodules of one source
SIZE_LIMIT = 1 << 20  # bytes of a .gitmodules

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEMES = ("https", "http", "ssh", "git", "file")


def parse_gitmodules(data: bytes, place: str) -> dict[bytes, Mapping[str, str]]:
    """The sections of a ``.gitmodules`` by path; E130 if it is malformed."""
    try:
        config = parse_config(data)
    except ValueError as error:
        raise AfenvError("E130", f".gitmodules: {error}", place=place) from None
    return {
        values["path"].rstrip("/").encode("utf-8", "surrogateescape"): values
        for (section, name), values in config.items()
        if section == "submodule" and name and "path" in values
    }


def submodule_url(path: bytes, sections: Mapping[bytes, Mapping[str, str]], parent: str, place: str) -> str:
    """The URL of the submodule at a path of the repository with the URL ``parent``.

    E130 if there is none, or one that git would not follow either: of another kind, or a local one in a
    repository that came from elsewhere.
    """
    values = sections.get(path)
    if values is None or not values.get("url"):
        raise AfenvError("E130", f"the submodule {show(path)!r} has no URL in .gitmodules", place=place)
    url = values["url"]
    if _CONTROL.search(url) or url.startswith("-"):
        raise AfenvError("E130", f"the submodule {show(path)!r} has the URL {url!r}", place=place)
    if url.startswith(("./", "../")):
        url = _relative(url, parent, path, place)
    scheme = urlsplit(url).scheme if "://" in url else ""
    if "::" in url.split("/", 1)[0] or (scheme and scheme not in _SCHEMES):
        message = f"the submodule {show(path)!r} has a URL that cannot be fetched: {without_credentials(url)}"
        raise AfenvError("E130", message, place=place)
    if is_local(url) and not is_local(parent):
        message = f"the submodule {show(path)!r} of a remote repository names a folder of this machine: {url}"
        raise AfenvError("E130", message, place=place)
    return url


def _relative(url: str, parent: str, path: bytes, place: str) -> str:
    """A relative URL, as git resolves it against that of the repository (git-submodule(1), "add")."""
    base = parent.rstrip("/")
    first = base.find("://") + 3 if "://" in base else 0  # what comes before is no folder
    rest, separator = url, "/"
    while rest.startswith(("./", "../")):
        if rest.startswith("../"):
            cut = base.rfind("/")
            if cut < 0:  # user@host:folder
                cut = base.rfind(":")
            if cut < first:
                message = f"the URL {url!r} of the submodule {show(path)!r} leads out of {place}"
                raise AfenvError("E130", message, place=place)
            separator = base[cut] if separator == "/" else separator
            base = base[:cut]
        rest = rest.split("/", 1)[1]
    return (base + separator + rest).rstrip("/")
