"""Running a child in the foreground: signals go to it, its exit status comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from afenv.errors import AfenvError

GRACE = 10.0  # seconds between asking a command to end and ending it
FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
FROM_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH")  # a terminal sends these to the child as well
ENDING = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def _handlers(handle: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = {}
    try:
        for name in FORWARDED:
            number = getattr(signal, name)
            before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def supervise(
    command: Sequence[str],
    *,
    kill: Callable[[], object] | None = None,
    send: Callable[[int], bool] | None = None,
    grace: float = GRACE,
    variables: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    umask: int = -1,
) -> int:
    """Run ``command`` on our own standard streams until it ends; its exit status, or 128 + the signal.

    Signals that reach this process are passed on, unless the terminal has sent them to the child
    already: by ``send``, if it is given and returns true, else to the child itself. If the child still
    runs ``grace`` seconds after a signal that asks it to end, ``kill`` is called, or the child killed.
    ``variables`` are the child's whole environment. Must be called in the main thread. E502 if the command
    cannot be started.
    """
    terminal = os.isatty(0)
    timers: list[threading.Timer] = []
    waiting: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def handle(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if child is None:
            waiting.append(number)
            return
        if not (terminal and name in FROM_TERMINAL) and not (send is not None and send(number)):
            child.send_signal(number)
        if name in ENDING:
            timer = threading.Timer(grace, kill or child.kill)
            timer.daemon = True
            timer.start()
            timers.append(timer)

    with _handlers(handle):
        try:
            child = subprocess.Popen(command, env=variables, pass_fds=pass_fds, umask=umask)
        except OSError as error:
            raise AfenvError(
                "E502", f"{command[0]} cannot be started: {error.strerror}", place=command[0]
            ) from None
        for number in waiting:
            handle(number, None)
        try:
            status = child.wait()
        finally:
            for timer in timers:
                timer.cancel()
    return 128 - status if status < 0 else status
