"""The port to storage: three questions that every kind of storage answers, and what it answers with.

Failures are :class:`~afenv.store.transport.SourceError`, with the codes E103 (not there), E201 (not
reached), E202 (refused), E647 (not allowed) and E646 (a program or library is missing here).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from afenv.record import field, record

_QUERY = re.compile(r"(?<=[^\s?])\?[^\s\"']*")
_USER = re.compile(r"://[^/\s@]*@")
_TOKEN = re.compile(r"(?i)(bearer(?:\s+|%20)|authz=)\S+|eyJ[\w-]+\.[\w.-]+")


@record
class Found:
    """What a storage says of a file: its size in bytes and checksums, where it does."""

    size: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)


class Content:
    """A file's bytes from ``start`` on; ``size`` is that of the whole, where it is told."""

    def __init__(self, start: int, size: int | None, chunks: Iterator[bytes]) -> None:
        self.start = start
        self.size = size
        self.chunks = chunks


class Source(Protocol):
    """One kind of storage. Safe to use from many threads."""

    def look(self, uri: str) -> Found:
        """What the storage says of a file, without reading it."""
        ...  # pragma: no cover

    def read(self, uri: str, first: int) -> AbstractContextManager[Content]:
        """The file from byte ``first`` on; a storage that cannot begin there begins at 0."""
        ...  # pragma: no cover

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """The files under a folder, deep: paths relative to it, and sizes where they are known."""
        ...  # pragma: no cover


def scrub(text: str) -> str:
    """What another program or server said, without what may be a secret: queries, users, tokens."""
    return _QUERY.sub("?…", _TOKEN.sub("…", _USER.sub("://", text)))
