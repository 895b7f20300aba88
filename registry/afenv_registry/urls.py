"""Small questions about URLs."""

from __future__ import annotations

from urllib.parse import urlsplit


def bare(url: str) -> str:
    """The URL as it may be shown: without a query, which may hold a secret."""
    return url.partition("?")[0]


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
