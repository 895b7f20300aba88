"""A CVMFS repository of this host: transactions, and what their failures mean."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from afenv.errors import AfenvError
from afenv.oci.tar_stream import Piece
from afenv_builders.cvmfs import commands
from afenv_builders.cvmfs.commands import Called

OWNER = "owner.json"  # in the folder of half-made things: which process makes them


def check_repository(name: str, mounted: Path) -> None:
    """See that the repository can be read at ``mounted``; E535."""
    commands.server()
    if not mounted.is_dir():
        raise AfenvError("E535", f"{name} is not a repository of this host", place=str(mounted))


@contextlib.contextmanager
def transaction(name: str, mounted: Path, message: str) -> Iterator[None]:
    """What is written below ``mounted`` meanwhile is published at the end, or dropped if anything fails.

    A transaction that a process of ours left open when it was killed is dropped first. E532 if another one
    is open, E531 if a command fails, E534 if the new revision is signed and not mounted.
    """
    began = commands.call(commands.transaction(name))
    if began.status == commands.OPEN and _left_open(mounted):
        _abort(name, AfenvError("E532", "a transaction was left open"))
        began = commands.call(commands.transaction(name))
    if began.status == commands.OPEN:
        raise AfenvError("E532", f"a transaction of {name} is open already", place=str(mounted))
    if began.status != 0:
        raise AfenvError("E531", f"cvmfs_server transaction {name}: {began.words}")
    try:
        yield
    except BaseException as error:
        _abort(name, error)
        raise
    done = commands.call(commands.publish(name, message))
    if done.status == commands.NOT_MOUNTED:
        raise _not_mounted(name, done)
    if done.status != 0:
        failed = AfenvError("E531", f"cvmfs_server publish {name}: {done.words}")
        _abort(name, failed)
        raise failed


def ingest(name: str, pieces: Iterable[Piece]) -> None:
    """Publish a tar at the root of the repository; errors as for :func:`transaction`."""
    _in_one(name, commands.ingest(name), pieces)


def delete(name: str, paths: Sequence[str]) -> None:
    """Remove paths; where there are very many, in more than one transaction."""
    for start in range(0, len(paths), commands.MOST_DELETED):
        _in_one(name, commands.delete(name, paths[start : start + commands.MOST_DELETED]), None)


def _in_one(name: str, words: list[str], pieces: Iterable[Piece] | None) -> None:
    try:
        done = commands.call(words, pieces)
    except BaseException as error:  # the tar could not be made
        _abort(name, error)
        raise
    if done.status == 0:
        return
    if done.status == commands.NOT_MOUNTED:
        raise _not_mounted(name, done)
    if done.status == commands.OPEN or commands.NOT_BEGUN in done.said.lower():
        raise AfenvError("E532", f"no transaction of {name} could be opened: {done.words}")
    failed = AfenvError("E531", f"cvmfs_server ingest {name}: {done.words}")
    _abort(name, failed)
    raise failed


def _not_mounted(name: str, done: Called) -> AfenvError:
    return AfenvError(
        "E534",
        f"the new revision of {name} is signed, but this host could not mount it: {done.words}",
        remedy=f"The image is published. `cvmfs_server mount {name}` mounts the new revision here.",
    )


def _abort(name: str, reason: BaseException) -> None:
    """Drop the transaction; where that fails too, E539, which says so beside the reason."""
    done = commands.call(commands.abort(name))
    if done.status not in (0, commands.NOT_OPEN):
        why = reason.problems[0].message if isinstance(reason, AfenvError) else repr(reason)
        raise AfenvError(
            "E539",
            f"{why}; then cvmfs_server abort -f {name} failed: {done.words}",
            remedy=f"`cvmfs_server abort -f {name}` drops what was written.",
        ) from reason


def owner_text() -> bytes:
    """Who makes half-made things: host and process, and since when that process runs."""
    return json.dumps([socket.gethostname(), os.getpid(), _started(os.getpid())]).encode()


def _left_open(mounted: Path) -> bool:
    """Whether the open transaction is one of a process of ours on this host that is no more."""
    for note in mounted.glob(f".afenv-staging-*/{OWNER}"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            host, process, started = json.loads(note.read_bytes())
            return bool(host == socket.gethostname() and _started(int(process)) != started)
    return False


def _started(process: int) -> str:
    """When a process was started, in ticks since boot, with the boot's ID; empty if there is none."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + fields[19]
    except OSError:
        return ""
