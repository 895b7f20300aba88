"""The content of a file in squashfs: its blocks, and the end that it may share a block with others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from afenv.oci.files import KEPT
from afenv.oci.squashfs_tables import refuse


class InodeContent(NamedTuple):
    """Where a file's content is: blocks one after the other from ``start``, the rest in a fragment."""

    start: int
    size: int  # bytes, uncompressed
    blocks: tuple[int, ...]  # stored sizes; 0 for a block of zeros
    fragment: int | None
    offset: int  # in the fragment, uncompressed


def parts(
    content: InodeContent,
    block_size: int,
    block: Callable[[int, int], bytes],
    fragment: Callable[[int], bytes],
) -> Iterator[bytes]:
    """The content in parts; DamagedError if a block or the fragment holds less than belongs there."""
    at, left = content.start, content.size
    for size in content.blocks:
        expected = min(block_size, left)
        data = block(at, size) if size else bytes(expected)
        if len(data) < expected:
            refuse("a block of a file is too short")
        at += size & 0xFFFFFF
        left -= expected
        yield data[:expected]
    if content.fragment is not None and left:
        data = fragment(content.fragment)[content.offset : content.offset + left]
        if len(data) < left:
            refuse("the end of a file lies beyond its block")
        yield data


def content_of(
    content: InodeContent,
    block_size: int,
    block: Callable[[int, int], bytes],
    fragment: Callable[[int], bytes],
    *,
    hashing: bool,
    keep: bool,
) -> tuple[str, bytes | None]:
    """SHA-256 (hexadecimal; empty without ``hashing``) and, where it is to be kept, the content."""
    digest = hashlib.sha256()
    kept: list[bytes] | None = [] if keep and content.size <= KEPT else None
    for data in parts(content, block_size, block, fragment):
        if hashing:
            digest.update(data)
        if kept is not None:
            kept.append(data)
    return digest.hexdigest() if hashing else "", None if kept is None else b"".join(kept)
