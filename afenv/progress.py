"""Progress of long work: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Only standard error is written, so that standard output stays for results.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

REFRESH = 0.1  # seconds between two drawings of a bar
PLAIN = 5.0  # seconds between two plain lines


def human_size(count: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things for people; ``plural`` is for nouns that take more than an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


class Progress:
    """One task with a known or growing total; safe to advance from many threads.

    ``unit`` is ``"B"`` for bytes or a noun in the singular. Use as a context manager.
    """

    def __init__(
        self, title: str, total: int, *, unit: str = "B", stream: TextIO | None = None, quiet: bool = False
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._bar = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._signs = "█·" if "utf" in (self._stream.encoding or "").lower() else "#."
        self._lock = threading.Lock()
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def advance(self, amount: int) -> None:
        """Say that ``amount`` more is done."""
        with self._lock:
            self.done += amount
            now = time.monotonic()
            if now - self._shown >= (REFRESH if self._bar else PLAIN):
                self._shown = now
                self._show()

    def note(self, text: str) -> None:
        """Say something about the task, such as why nothing moves, on a line of its own."""
        if self._quiet:
            return
        with self._lock:
            self._stream.write(f"\r\x1b[K{text}\n" if self._bar else f"{text}\n")
            self._stream.flush()

    def _amount(self, value: int) -> str:
        return human_size(value) if self.unit == "B" else counted(value, self.unit)

    def _rate(self, now: float) -> str:
        passed = now - self._started
        return f", {human_size(self.done / passed)}/s" if self.unit == "B" and passed > 1 else ""

    def _show(self) -> None:
        if self._quiet:
            return
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        done = self._amount(self.done) if self.unit == "B" else f"{self.done}"
        amounts = f"{done} of {self._amount(self.total)}"
        text = f"{self.title}  {amounts}{self._rate(time.monotonic())}"
        if self._bar:
            width = 24
            full = int(share * width)
            line = f"[{self._signs[0] * full}{self._signs[1] * (width - full)}] {text}"
            self._stream.write(f"\r\x1b[K{line[: _columns() - 1]}")  # a line that wraps cannot be taken back
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._quiet:
            return
        if self._bar:
            self._stream.write("\r\x1b[K")
        if kind is None and (self.done or self.total):  # not where there was nothing to do
            seconds = time.monotonic() - self._started
            self._stream.write(f"{self.title}: {self._amount(self.done)} in {seconds:.1f} s\n")
        self._stream.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
