"""The machine's ports: sockets between this process and the guest, and the threads that serve them.

What the guest says on the port ``control`` is a word a line: ``started``, ``status N``,
``missing N`` (the status of a command that could not be started), ``failed WHY``.
What is said to it are numbers of signals. The standard streams pass through the other three; input is not
read before the guest has started, so that nothing is lost where QEMU has to be started a second time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from afenv.run.qemu_machine import PORTS

CHUNK = 1 << 16


class Ports:
    """The four ports; a context that closes them."""

    def __init__(self, *, streams: bool) -> None:
        self.started = threading.Event()
        self.status: int | None = None
        self.failure = ""
        self.missing: int | None = None
        self._streams = streams
        pairs = {name: socket.socketpair() for name in PORTS}
        self._ours = {name: pair[0] for name, pair in pairs.items()}
        self._theirs = {name: pair[1] for name, pair in pairs.items()}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Ports:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (*self._ours.values(), *self._theirs.values()):
            one.close()

    def numbers(self) -> dict[str, int]:
        """The file descriptors that QEMU inherits."""
        return {name: one.fileno() for name, one in self._theirs.items()}

    def serve(self) -> None:
        """Start the threads."""
        ending = [threading.Thread(target=self._control, daemon=True)]
        if self._streams:
            for name, descriptor in (("output", 1), ("errors", 2)):
                ending.append(threading.Thread(target=self._output, args=(name, descriptor), daemon=True))
            threading.Thread(target=self._input, daemon=True).start()  # may never end: nobody waits for it
        for thread in ending:
            thread.start()
        self._threads = ending

    def handed_over(self) -> None:
        """QEMU has its ends: close ours of them, so that its end is seen."""
        for one in self._theirs.values():
            one.close()

    def finish(self) -> None:
        """Wait until all that the guest has written has been passed on."""
        for thread in self._threads:
            thread.join()

    def send(self, number: int) -> bool:
        """Let the guest send a signal to the command; false if it has not started."""
        if not self.started.is_set():
            return False
        with contextlib.suppress(OSError):
            self._ours["control"].sendall(b"%d\n" % number)
        return True

    def _control(self) -> None:
        with contextlib.suppress(OSError), self._ours["control"].makefile("rb") as lines:
            for line in lines:
                word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if word == "status" and rest.isdigit():
                    self.status = int(rest)
                elif word == "missing" and rest.isdigit():
                    self.missing = int(rest)
                elif word == "failed":
                    self.failure = rest
                if word == "started":
                    self.started.set()

    def _input(self) -> None:
        self.started.wait()
        port = self._ours["input"]
        with contextlib.suppress(OSError):
            while data := os.read(0, CHUNK):
                port.sendall(data)
        with contextlib.suppress(OSError):
            port.shutdown(socket.SHUT_WR)

    def _output(self, name: str, descriptor: int) -> None:
        port = self._ours[name]
        with contextlib.suppress(OSError):
            while data := port.recv(CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
