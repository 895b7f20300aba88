"""The command lines of cvmfs_server, and calling them.

What is known of their exit statuses was seen with CVMFS 2.12: a transaction that is open already gives 17,
``abort`` without a transaction 22, and a publication whose new revision was signed but not mounted 32.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

from afenv.errors import AfenvError
from afenv.oci.tar_stream import Piece

SETTING = "AFENV_CVMFS_SERVER"
OPEN, NOT_OPEN, NOT_MOUNTED = 17, 22, 32
NOT_BEGUN = "impossible to start a transaction"  # what ingest says, as its exit status does not
MOST_DELETED = 1000  # paths of one call: all of them are one argument of a program later on, of 128 KiB
DAMAGE = b"\xff" * 512  # no tar has such a header
_BATCH = 1 << 20
_MOST_PIECES = 1000  # of one writev; Linux takes 1024


def server() -> list[str]:
    """The words that start cvmfs_server (``AFENV_CVMFS_SERVER`` may give them); E535 if there is none."""
    given = os.environ.get(SETTING)
    try:
        words = shlex.split(given) if given else []
    except ValueError as error:
        raise AfenvError("E030", f"{given!r}: {error}", place=SETTING) from None
    if words:
        return words
    found = shutil.which("cvmfs_server")
    if found is None:
        raise AfenvError("E535", "there is no cvmfs_server on this host")
    return [found]


def transaction(name: str) -> list[str]:
    """Open a transaction."""
    return ["transaction", name]


def publish(name: str, message: str) -> list[str]:
    """Publish the open transaction."""
    return ["publish", "-m", message, name]


def abort(name: str) -> list[str]:
    """Drop the open transaction, without asking."""
    return ["abort", "-f", name]


def ingest(name: str) -> list[str]:
    """Publish a tar of standard input at the root of the repository, in a transaction of its own."""
    return ["ingest", "-t", "-", "-b", "/", name]


def delete(name: str, paths: Sequence[str]) -> list[str]:
    """Remove paths in a transaction of their own. None may have a colon, which would part two."""
    assert not any(":" in path for path in paths)
    return ["ingest", *(word for path in paths for word in ("--delete", path)), name]


class Called:
    """How a command ended: its exit status and its last words."""

    def __init__(self, status: int, said: str) -> None:
        self.status = status
        self.said = said

    @property
    def words(self) -> str:
        """The last lines that it printed, in one."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return " ".join(lines[-5:]) or f"exit status {self.status}"


def call(words: Sequence[str], pieces: Iterable[Piece] | None = None) -> Called:
    """Run ``cvmfs_server`` with these words to its end, and feed it ``pieces``.

    Where making the pieces fails, what is sent last is no tar, so that the command fails too: a tar that
    just ends would count as complete. The failure is raised when the command has ended.
    """
    command = [*server(), *words]
    with tempfile.TemporaryFile() as said:
        source = subprocess.PIPE if pieces is not None else subprocess.DEVNULL
        try:
            process = subprocess.Popen(command, stdin=source, stdout=said, stderr=subprocess.STDOUT, cwd="/")
        except OSError as error:
            raise AfenvError("E535", f"cannot be started: {error.strerror}", place=command[0]) from None
        try:
            if pieces is not None:
                _feed(process, pieces)
        finally:
            status = _ended(process)
        said.seek(max(0, said.seek(0, os.SEEK_END) - 8192))
        text = said.read().decode(errors="replace")
    return Called(status, text)


def _feed(process: subprocess.Popen[bytes], pieces: Iterable[Piece]) -> None:
    assert process.stdin is not None
    pipe = process.stdin.fileno()
    try:
        batch: list[Piece] = []
        size = 0
        for piece in pieces:
            batch.append(piece)
            size += len(piece)
            if size >= _BATCH or len(batch) >= _MOST_PIECES:
                _write(pipe, batch)
                batch, size = [], 0
        _write(pipe, batch)
    except BrokenPipeError:
        return  # its exit status and its words tell why
    except BaseException:
        _damage(pipe)
        raise


def _write(pipe: int, batch: list[Piece]) -> None:
    if not batch:
        return
    written = os.writev(pipe, batch)
    if written < sum(map(len, batch)):
        rest = memoryview(b"".join(batch))[written:]
        while rest:
            rest = rest[os.write(pipe, rest) :]


def _damage(pipe: int) -> None:
    try:
        os.write(pipe, DAMAGE)
    except BrokenPipeError:
        return


def _ended(process: subprocess.Popen[bytes]) -> int:
    if process.stdin is not None:
        process.stdin.close()
    return process.wait()
