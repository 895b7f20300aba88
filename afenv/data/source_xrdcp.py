"""Storage that speaks XRootD, through its command line: ``xrdcp`` and ``xrdfs``."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from afenv.data.source import Content, Found
from afenv.data.source_xrootd import failure, insist, split
from afenv.store.transport import Patience, SourceError

CHUNK = 1 << 20
TAIL = 2**31 - 1  # bytes that `xrdfs tail -c` can be asked for
_NUMBER = re.compile(r"\[(3\d{3})\]")
_SIZE = re.compile(r"^Size:\s+(\d+)$", re.M)
_LISTED = re.compile(r"^([d-])\S*\s+\S+\s+\S+\s+(\d+)\s+\S+\s+\S+\s+(/.*)$")


class XrdcpSource:
    """XRootD storage, by the command line."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        if not shutil.which("xrdcp") or not shutil.which("xrdfs"):
            raise SourceError("E646", "neither XRootD's Python bindings nor xrdcp and xrdfs are here")

    def _environment(self) -> dict[str, str]:
        connect, stall = str(max(1, int(self._patience.connect))), str(max(1, int(self._patience.stall)))
        ours = {
            "XRD_CONNECTIONWINDOW": connect,
            "XRD_CONNECTIONRETRY": "1",
            "XRD_STREAMERRORWINDOW": connect,
            "XRD_STREAMTIMEOUT": stall,
            "XRD_REQUESTTIMEOUT": stall,
            "LC_ALL": "C",
        }
        return ours | dict(os.environ)

    def _failure(self, text: str) -> SourceError:
        number = _NUMBER.search(text)
        lines = [line for line in text.splitlines() if line.strip()]
        message = lines[-1].removeprefix("Run:") if lines else ""
        connected = "Connection error" not in text
        return failure(int(number[1]) if number else 0, message, connected=connected, patience=self._patience)

    def _ask(self, uri: str, *words: str) -> str:
        server, path = split(uri)
        limit = self._patience.connect + self._patience.stall
        try:
            done = subprocess.run(
                ["xrdfs", server, *words, path],
                capture_output=True,
                text=True,
                errors="replace",
                env=self._environment(),
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SourceError("E201", f"no answer within {limit:g} s", again=True, connected=False) from None
        if done.returncode:
            raise self._failure(done.stderr)
        return done.stdout

    def look(self, uri: str) -> Found:
        """Size and the checksum that the server has configured."""
        size = _SIZE.search(self._ask(uri, "stat"))
        stated = insist(lambda: self._ask(uri, "query", "checksum"))
        return Found(size=int(size[1]) if size else None, checksums=stated)

    @contextlib.contextmanager
    def read(self, uri: str, first: int) -> Iterator[Content]:
        """The bytes of a file, from ``first`` on where what is left is less than 2 GiB."""
        size = self.look(uri).size
        server, path = split(uri)
        command = ["xrdcp", "--silent", uri, "-"]
        if first and size is not None and 0 < size - first <= TAIL:
            command = ["xrdfs", server, "tail", "-c", str(size - first), path]
        else:
            first = 0
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=self._environment(),
            )

            def chunks() -> Iterator[bytes]:
                assert process.stdout is not None
                while data := process.stdout.read(CHUNK):
                    yield data
                if process.wait():
                    said.seek(0)
                    raise self._failure(said.read().decode("utf-8", "replace"))

            try:
                yield Content(first, size, chunks())
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """The files under a folder."""
        root = split(uri)[1].rstrip("/") + "/"
        found: list[tuple[str, int | None]] = []
        for line in self._ask(uri, "ls", "-l", "-R").splitlines():
            match = _LISTED.match(line)
            if match and match[1] == "-":
                path = re.sub("//+", "/", match[3])
                found.append((path.removeprefix(re.sub("//+", "/", root)), int(match[2])))
        return sorted(found)
