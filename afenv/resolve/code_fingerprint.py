"""Whether a folder has changed since it was last looked at, from file times alone.

As git's own index does, sizes, times and inode numbers stand for content; and as there, a file that was
changed so recently that a second change could go unseen makes the answer unknown. Besides the files, all
that decides what git says of them counts: HEAD, the index, and the files of ignore rules.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from afenv.layers.own_files import EXEMPT

RACY = 2_000_000_000  # nanoseconds: the coarsest time stamps of file systems in use


class _Racy(Exception):
    """Something changed too recently."""


def quick_fingerprint(folder: Path, prune: frozenset[bytes] = frozenset()) -> str | None:
    """A digest that changes when a file in the folder, or what git says of it, may have changed.

    ``prune`` are folders, relative and with slashes, that are not looked into because git ignores them.
    None if something changed within the last two seconds, or cannot be read.
    """
    digest = hashlib.sha256()
    newest_allowed = time.time_ns() - RACY
    try:
        real = os.path.realpath(os.fsencode(folder))
        digest.update(b"folder\0" + real + b"\0" + b"\0".join(sorted(prune)) + b"\n")
        for line in _walk(real, prune, newest_allowed):
            digest.update(line)
        for line in _git(real, newest_allowed):
            digest.update(line)
    except (OSError, _Racy):
        return None
    return "sha256:" + digest.hexdigest()


def _line(path: bytes, status: os.stat_result, newest_allowed: int) -> bytes:
    if status.st_ctime_ns > newest_allowed:
        raise _Racy
    return b"%s\0%o %d %d %d %d\n" % (
        path,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


def _walk(root: bytes, prune: frozenset[bytes], newest_allowed: int) -> Iterator[bytes]:
    waiting = [b""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root + b"/" + prefix) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            path = prefix + entry.name
            if entry.name == b".git":
                yield path + b"\0git\n"
                if prefix:  # a submodule
                    yield from _repository(Path(os.fsdecode(root + b"/" + prefix)), newest_allowed)
            elif path in EXEMPT or path in prune:
                continue
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path + b"/")
            else:
                yield _line(path, entry.stat(follow_symlinks=False), newest_allowed)


def _git(real: bytes, newest_allowed: int) -> Iterator[bytes]:
    """What git's answer depends on outside the folder; nothing if the folder lies in no checkout."""
    here = Path(os.fsdecode(real))
    for place in (here, *here.parents):
        if os.path.lexists(place / ".git"):
            break
        yield from _status(place / ".gitignore", newest_allowed)
    else:
        return
    yield from _status(place / ".gitignore", newest_allowed)
    yield from _repository(place, newest_allowed)
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git"
    for path in (settings / "config", settings / "ignore", Path.home() / ".gitconfig"):
        yield from _status(path, newest_allowed)


def _repository(place: Path, newest_allowed: int) -> Iterator[bytes]:
    """What git's answer depends on in the repository of a working folder."""
    own = place / ".git"
    if own.is_file():  # a linked working tree
        own = Path(place, own.read_text().removeprefix("gitdir:").strip())
    common = own
    if (own / "commondir").is_file():
        common = Path(own, (own / "commondir").read_text().strip())
    head = (own / "HEAD").read_bytes()
    yield b"HEAD\0" + head
    files = [own / "index", common / "packed-refs", common / "reftable" / "tables.list", common / "config"]
    files.append(common / "info" / "exclude")
    if head.startswith(b"ref:"):
        files.append(common / os.fsdecode(head[4:].strip()))
    for path in files:
        yield from _status(path, newest_allowed)


def _status(path: Path, newest_allowed: int) -> Iterator[bytes]:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield os.fsencode(path) + b"\0none\n"
    else:
        if stat.S_ISREG(status.st_mode):
            yield _line(os.fsencode(path), status, newest_allowed)
