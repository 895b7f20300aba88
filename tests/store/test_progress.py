"""Progress bars and lines."""

from __future__ import annotations

import io
import threading

import pytest

from afenv import progress
from afenv.progress import Progress, counted, human_size


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_sizes():
    assert [human_size(n) for n in (0, 999, 1000, 1_500_000, 2e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2000.0 GB",
    ]


def test_counts():
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]


def test_bar(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("Downloading", 1000, stream=stream) as bar:
        bar.advance(500)
    text = stream.getvalue()
    assert "[████████████············] Downloading  500 B of 1.0 kB" in text
    assert text.endswith("\r\x1b[KDownloading: 500 B in 0.0 s\n")


def test_bar_fits_into_the_terminal(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress("A title " * 40, 1000, stream=stream) as bar:
        bar.advance(500)
    lines = stream.getvalue().split("\r\x1b[K")
    assert max(len(line) for line in lines[:-1]) < progress._columns()


def test_plain_lines(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN", 0.0)
    stream = io.StringIO()
    with Progress("Writing", 3, unit="layer", stream=stream) as bar:
        bar.advance(1)
    assert stream.getvalue().splitlines() == ["Writing  1 of 3 layers", "Writing: 1 layer in 0.0 s"]


def test_quiet_and_failed_say_nothing():
    stream = io.StringIO()
    with Progress("Writing", 3, stream=stream, quiet=True) as bar:
        bar.advance(3)
    with pytest.raises(ZeroDivisionError), Progress("Writing", 3, stream=stream):
        raise ZeroDivisionError
    assert stream.getvalue() == ""


def test_many_threads(monkeypatch):
    bar = Progress("Writing", 0, stream=io.StringIO(), quiet=True)
    threads = [threading.Thread(target=lambda: [bar.advance(1) for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.done == 8000


@pytest.mark.parametrize("total", [0, 3])
def test_nothing_to_do_is_not_told(total):
    stream = io.StringIO()
    with Progress("Writing", total, stream=stream):
        pass
    assert stream.getvalue() == ("Writing: 0 B in 0.0 s\n" if total else "")
