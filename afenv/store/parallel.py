"""Many files at once, in threads that an interruption does not wait for; what fails is collected."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from afenv.errors import AfenvError, Problem
from afenv.store.partial import Stopped

T = TypeVar("T")
FATAL = ("E402", "E403")  # the other files would meet the same


def for_each(
    items: Sequence[T],
    work: Callable[[T, threading.Event], None],
    *,
    threads: int,
    name: str,
    fatal: Sequence[str] = FATAL,
) -> dict[int, Problem]:
    """Do ``work`` for all items, in their order; the problems that came up, by the position of their item.

    ``work`` is told by the event that it is to stop. A problem with one of the codes in ``fatal`` ends
    everything, as does what is no AfenvError, which is raised. ``name`` is that of the threads.
    """
    waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
    for entry in enumerate(items):
        waiting.put(entry)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    problems: dict[int, Problem] = {}

    def run() -> None:
        failure: BaseException | None = None
        try:
            while not stop.is_set():
                position, item = waiting.get_nowait()
                try:
                    work(item, stop)
                except AfenvError as error:
                    problems[position] = error.problems[0]
                    if error.code in fatal:
                        stop.set()
        except (queue.Empty, Stopped):
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failure = error
        ended.put(failure)

    count = min(threads, len(items))
    try:
        for _ in range(count):
            threading.Thread(target=run, name=f"afenv-{name}", daemon=True).start()
        for _ in range(count):
            if (failure := ended.get()) is not None:
                raise failure
    finally:
        stop.set()
    return problems
