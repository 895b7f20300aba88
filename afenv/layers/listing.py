"""Listings: what a layer holds, path by path, without reading the layer.

A listing is a blob of the content store: JSON lines, sorted by path, deflated as one gzip member. Each
line is an array ``[path, kind, mode, size, crc32, target, package]``; ``crc32`` is 8 hexadecimal digits
or empty, ``target`` that of a link or empty, ``package`` the name of the package that owns the path, or
empty. Listings serve comparisons and people; an image does not depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from afenv.store.content import ContentStore

_line = json.JSONEncoder(separators=(",", ":")).encode
Kind = Literal["f", "d", "l", "h"]  # file, directory, symbolic link, hard link


class ListingEntry(NamedTuple):
    """One path of a layer. ``path`` is relative to the root, without a slash at either end."""

    path: str
    kind: Kind
    mode: int = 0
    size: int = 0
    crc32: int | None = None  # files only
    target: str = ""  # links only
    package: str = ""


def encode(entries: Iterable[ListingEntry]) -> bytes:
    """The lines of a listing, before compression."""
    lines = [
        _line(
            [
                entry.path,
                entry.kind,
                entry.mode,
                entry.size,
                "" if entry.crc32 is None else f"{entry.crc32:08x}",
                entry.target,
                entry.package,
            ]
        )
        for entry in sorted(entries, key=lambda entry: entry.path)
    ]
    return "\n".join([*lines, ""]).encode() if lines else b""


def decode(lines: bytes) -> Iterator[ListingEntry]:
    """The entries of the lines that :func:`encode` made."""
    for line in lines.splitlines():
        path, kind, mode, size, crc32, target, package = json.loads(line)
        yield ListingEntry(path, kind, mode, size, int(crc32, 16) if crc32 else None, target, package)


def write_listing(store: ContentStore, entries: Iterable[ListingEntry]) -> str:
    """Store a listing and return its digest; it is on the disk after the store's next ``sync``."""
    from afenv.layers.gzip_members import member

    with store.writer(durable=False) as blob:
        blob.write(member(encode(entries)))
        return blob.commit()


def read_listing(store: ContentStore, digest: str) -> Iterator[ListingEntry]:
    """The entries of a stored listing, sorted by path; E305 if it is missing or damaged."""
    import gzip

    yield from decode(gzip.decompress(store.read(digest)))
