"""A child in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run.supervise import supervise


def never() -> None:
    raise AssertionError("it was killed")


def test_the_exit_status_comes_back():
    assert supervise(["sh", "-c", "exit 7"], kill=never) == 7
    assert supervise(["sh", "-c", "kill -9 $$"], kill=never) == 137


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    supervise(["true"], kill=never)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_command_that_is_not_there():
    with pytest.raises(AfenvError) as caught:
        supervise(["/no/such/command"], kill=never)
    assert caught.value.code == "E502"


def send_once_there(marker: Path, number: int) -> None:
    """Send this process a signal once the child has written its process number."""

    def send() -> None:
        for _ in range(500):
            if marker.exists() and marker.read_text().strip():
                os.kill(os.getpid(), number)
                return
            time.sleep(0.01)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_passed_on(name, monkeypatch, tmp_path):
    monkeypatch.setattr("os.isatty", lambda _: False)
    loop = "i=0; while [ $((i+=1)) -lt 500 ]; do sleep 0.02; done"
    script = f"trap 'exit 99' {name}; echo $$ > {tmp_path}/pid; {loop}"
    send_once_there(tmp_path / "pid", getattr(signal, f"SIG{name}"))
    assert supervise(["sh", "-c", script], kill=never) == 99


def test_what_the_terminal_sends_is_not_sent_twice():
    """With a terminal, SIGINT reaches the child directly; SIGTERM does not."""
    code = """
import os, signal, sys
from afenv.run.supervise import supervise
script = "trap 'echo int' INT; trap 'exit 5' TERM; echo $PPID; while :; do sleep 0.02; done"
sys.exit(supervise(["sh", "-c", script], kill=lambda: None))
"""
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=slave, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    os.close(slave)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert (process.wait(), rest) == (5, "")
    process.stdout.close()
    os.close(master)


def test_a_child_that_does_not_end_is_killed(tmp_path):
    marker = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {marker}; exec sleep 30"
    send_once_there(marker, signal.SIGTERM)
    status = supervise(
        ["sh", "-c", script], kill=lambda: os.kill(int(marker.read_text()), signal.SIGKILL), grace=0.2
    )
    assert status == 137
