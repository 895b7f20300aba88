"""Many files of data at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from afenv.errors import AfenvError, Problem
from afenv.store import parallel

T = TypeVar("T")
FATAL = (*parallel.FATAL, "E649")  # the other files would meet the same


def for_each(
    items: Sequence[T], work: Callable[[T, threading.Event], None], *, threads: int
) -> dict[int, Problem]:
    """As :func:`afenv.store.parallel.for_each`; no room (E649) ends everything too."""
    return parallel.for_each(items, work, threads=threads, name="data", fatal=FATAL)


def raise_all(problems: dict[int, Problem]) -> None:
    """One error out of all problems, the gravest first: what is changed goes before what is not reached."""
    if problems:
        ordered = [problems[position] for position in sorted(problems)]
        raise AfenvError.many(sorted(ordered, key=lambda one: one.code not in (*FATAL, "E641")))
