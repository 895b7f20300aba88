"""The same work for many items, over a few threads; in the caller's own thread if there is one item."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def for_each(
    items: Sequence[T], work: Callable[[T], None], *, threads: int, name: str, abort: Callable[[], None]
) -> None:
    """Do ``work`` for every item; the first failure ends everything and is raised.

    ``abort`` is called when something failed or the caller is interrupted, and has to make the work that
    is under way fail. The threads are daemons: an interruption waits for none of them.
    """
    if len(items) <= 1 or threads <= 1:
        try:
            for item in items:
                work(item)
        except BaseException:
            abort()
            raise
        return
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    over = threading.Event()

    def run() -> None:
        failure: BaseException | None = None
        try:
            while not over.is_set():
                work(waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failure = error
        ended.put(failure)

    count = min(threads, len(items))
    started = [threading.Thread(target=run, name=f"afenv-{name}", daemon=True) for _ in range(count)]
    try:
        for thread in started:
            thread.start()
        for _ in started:
            if (failure := ended.get()) is not None:
                raise failure
        for thread in started:
            thread.join()
    except BaseException:
        over.set()
        abort()
        raise
