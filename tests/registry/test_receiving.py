"""Receiving into a partial file: hashed on the way, in a thread where that is worth it."""

from __future__ import annotations

import hashlib
import threading

import pytest

from afenv.progress import Progress
from afenv.store.content import ContentStore
from afenv.store.partial import hold_partial
from afenv_registry.download import Wanted
from afenv_registry.receiving import LARGE, Receiver


class Trickle:
    """A source that gives less than is asked for, and notes which threads there are meanwhile."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.threads: set[str] = set()

    def readinto(self, view: memoryview) -> int:
        self.threads |= {thread.name for thread in threading.enumerate()}
        piece = self._data[: min(len(view), 50_000)]
        view[: len(piece)] = piece
        self._data = self._data[len(piece) :]
        return len(piece)


@pytest.mark.parametrize(
    ("size", "alone", "thread"), [(LARGE + 5, True, True), (LARGE + 5, False, False), (LARGE, True, False)]
)
def test_what_comes_is_written_and_hashed_once(tmp_path, size, alone, thread):
    data = (hashlib.sha256(b"x").digest() * (size // 32 + 1))[:size]
    wanted = Wanted(digest="sha256:" + hashlib.sha256(data).hexdigest(), size=size)
    source = Trickle(data)
    with (
        Progress("receiving", size, quiet=True) as progress,
        hold_partial(ContentStore(tmp_path), wanted, progress, threading.Event()) as part,
    ):
        with Receiver(part, alone=alone) as receiver:
            while receiver.take(source):
                pass
        assert (part.size, part.digest()) == (size, wanted.digest)
        assert part.path.read_bytes() == data
    assert ("afenv-hash" in source.threads) is thread
