"""Small questions about URLs."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from afenv.errors import AfenvError


def bare(url: str) -> str:
    """The URL as it may be shown: without a query and a user, which may hold secrets."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def join(base: str, location: str) -> str:
    """The URL that a server at ``base`` names, its scheme in lower case; E602 if it is none."""
    try:
        found = urljoin(base, location)
        parts = urlsplit(found)
        if parts.hostname and parts.port != 0:  # asking for the port checks it
            return parts.scheme + found[len(parts.scheme) :]
    except ValueError:
        pass
    raise AfenvError("E602", f"it leads to {location[:200]!r}, which is not a URL", place=bare(base))


def split_host(netloc: str, default: int) -> tuple[str, int]:
    """Host and port of a URL's authority, without brackets."""
    host, port = netloc.rpartition("@")[2], ""
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest[1:]
    elif ":" in host:
        host, _, port = host.partition(":")
    return host, int(port) if port.isdecimal() else default


def same_origin(first: str, second: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    return _origin(first) == _origin(second)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    host, port = split_host(parts.netloc, 443 if parts.scheme == "https" else 80)
    return parts.scheme, host.lower(), port
