"""Contents of files as they lie in squashfs: compressed blocks of 128 KiB, and fragments of small files.

A :class:`ContentPacker` writes them one after the other, wherever that is; :mod:`afenv.oci.squashfs_write`
puts them into an image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from hashlib import sha256

from afenv.errors import AfenvError
from afenv.oci.squashfs_blocks import Block, Compressor
from afenv.oci.squashfs_tables import NONE

BLOCK = 128 << 10
NOT_COMPRESSED = 1 << 24  # in the size of a block
_ZERO = bytes(BLOCK)


def stored(length: int) -> int:
    """How many bytes a block takes, from its size as squashfs has it; none if it is a hole."""
    return length & ~NOT_COMPRESSED


class Content:
    """Where the content of one file lies: in blocks from ``start``, or at ``offset`` in a fragment.

    ``sizes`` are those of the blocks as squashfs has them; ``digest`` is the sha256 of a content that is in a
    fragment.
    """

    __slots__ = ("digest", "fragment", "offset", "size", "sizes", "start")

    def __init__(self, size: int) -> None:
        self.size = size
        self.start = self.offset = 0
        self.fragment = NONE
        self.sizes: list[int] = []
        self.digest = b""

    @property
    def length(self) -> int:
        """The bytes that its blocks take together."""
        return sum(map(stored, self.sizes))

    @property
    def sparse(self) -> int:
        """The bytes of the file that are holes."""
        if 0 not in self.sizes:
            return 0
        return sum(min(BLOCK, self.size - at * BLOCK) for at, size in enumerate(self.sizes) if not size)


class ContentPacker:
    """Packs contents and gives them to ``write``; equal small ones have one place.

    :attr:`fragments` and the places of contents are known after :meth:`end`. ``threads`` compress, none
    means on the spot. :meth:`close` ends them, whatever has become of it.
    """

    def __init__(self, write: Callable[[Block], object], *, level: int, threads: int) -> None:
        self._write = write
        self._compressor = Compressor(level, threads)
        self._waiting: deque[tuple[Content | None, int]] = deque()  # whose block it is, and its size
        self._first = 0  # of the fragments that have not been written
        self._fragment = bytearray()
        self._small: dict[bytes, Content] = {}
        self.at = 0  # bytes that were written
        self.fragments: list[tuple[int, int]] = []  # where each begins, and its size as squashfs has it

    def close(self) -> None:
        """End the threads."""
        self._compressor.close()

    def add(self, path: bytes, size: int, pieces: Iterable[memoryview]) -> Content:
        """Take a content of ``size`` bytes in pieces, which padding may follow; E510 if it is shorter."""
        content = Content(size)
        if size >= BLOCK:
            left = self._add_blocks(content, pieces)
        else:
            parts = list(pieces)
            data = (parts[0] if len(parts) == 1 else memoryview(b"".join(parts)))[:size]
            left = size - len(data)
            if data and not left:
                content = self._add_small(content, data)
        if left:
            raise AfenvError("E510", f"{path.decode(errors='replace')!r} ends too early")
        return content

    def end(self) -> None:
        """Write what waits."""
        self._end_fragment()
        while self._waiting:
            self._write_next()

    def _add_blocks(self, content: Content, pieces: Iterable[memoryview]) -> int:
        """Have the blocks of a file compressed; how many bytes of its content are missing."""
        rest = bytearray()
        left = content.size
        for piece in pieces:
            part = piece[:left]
            left -= len(part)
            at = 0
            if rest:
                at = min(BLOCK - len(rest), len(part))
                rest += part[:at]
                if len(rest) == BLOCK:
                    self._give(content, rest)
                    rest = bytearray()
            while len(part) - at >= BLOCK:
                self._give(content, part[at : at + BLOCK])
                at += BLOCK
            rest += part[at:]
        if rest:
            self._give(content, rest)
        return left

    def _add_small(self, content: Content, data: memoryview) -> Content:
        content.digest = sha256(data).digest()
        first = self._small.setdefault(content.digest, content)
        if first is not content:
            return first
        if len(self._fragment) + len(data) > BLOCK:
            self._end_fragment()
        content.fragment, content.offset = len(self.fragments), len(self._fragment)
        self._fragment += data
        return content

    def _end_fragment(self) -> None:
        if self._fragment:
            self.fragments.append((0, 0))
            self._give(None, self._fragment)
            self._fragment = bytearray()

    def _give(self, content: Content | None, block: Block) -> None:
        if content is not None and not block[0] and bytes(block) == _ZERO[: len(block)]:
            self._waiting.append((content, 0))
        else:
            self._compressor.give(block)
            self._waiting.append((content, len(block)))
        while self._compressor.full:
            self._write_next()

    def _write_next(self) -> None:
        """Write the first block that waits."""
        content, size = self._waiting.popleft()
        at, length = self.at, 0
        if size:
            data = self._compressor.take()
            self._write(data)
            self.at += len(data)
            length = len(data) | (NOT_COMPRESSED if len(data) == size else 0)
        if content is None:
            self.fragments[self._first] = (at, length)
            self._first += 1
            return
        if not content.sizes:
            content.start = at
        content.sizes.append(length)
