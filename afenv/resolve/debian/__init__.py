"""Debian bases: from names of packages to exact debs, without apt on the host."""

from afenv.resolve.debian.index import Fetcher
from afenv.resolve.debian.resolver import DebianResult, resolve_debian

__all__ = ["DebianResult", "Fetcher", "resolve_debian"]
