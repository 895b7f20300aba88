"""Unpacked trees in the cache: folders named by what they were made from.

::

    trees/HEX/       the tree, complete or absent
    trees/HEX.json   what it was like when it was made; its modification time is the last use
    trees/.HEX-…     a tree that is being made

A tree is made once and only read from then on. That it is still what was made is told by one walk over
it: each path's change time (``st_ctime``), which no program can set back, must not be later than the
newest one at the end of its making, and the number of paths and of bytes must be the same. Otherwise it
is made again. Whoever uses a tree holds the store (:meth:`~afenv.store.content.ContentStore.in_use`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.store.content import ContentStore, write_error

FOLDER = "trees"


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedTree:
    """A tree as the cache counts it: its last use (seconds since 1970) and its size in bytes."""

    name: str
    used: float
    size: int


def cached_tree(store: ContentStore, key: str, fill: Callable[[Path], None]) -> Path:
    """The folder that ``fill`` makes, from the cache where it is there and unchanged.

    ``key`` is the digest of everything that the tree depends on. ``fill`` gets an empty folder and is
    called by one process at a time. E402, E403.
    """
    name = hex_of(key)
    folder = store.folder / FOLDER / name
    note = folder.with_name(f"{name}.json")
    with store.in_use(), store.lock(f"tree-{name[:16]}"):
        try:
            if _is_unchanged(folder, note):
                with contextlib.suppress(OSError):
                    os.utime(note)
                return folder
            _make(folder, note, fill)
        except OSError as error:
            raise write_error(error, folder) from error
    return folder


def _make(folder: Path, note: Path, fill: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o700)  # a tree may hold set-user-ID programs
    for left_over in folder.parent.glob(f".{folder.name}-*"):
        remove_tree(left_over)
    note.unlink(missing_ok=True)
    if folder.exists():
        remove_tree(folder)
    beside = folder.with_name(f".{folder.name}-{os.urandom(4).hex()}")
    beside.mkdir()
    try:
        fill(beside)
        state = _state(beside)
        mode = stat.S_IMODE(beside.stat().st_mode)
        beside.chmod(mode | 0o300)  # to rename a folder one must be able to write it
        beside.rename(folder)
        folder.chmod(mode)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(beside)
        raise
    note.write_bytes(canonical.compact(state))


def _is_unchanged(folder: Path, note: Path) -> bool:
    try:
        wanted = json.loads(note.read_bytes())
        found = _state(folder)
        same = all(found[key] == wanted[key] for key in ("paths", "bytes"))
        return same and bool(found["changed"] <= wanted["changed"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _state(folder: Path) -> dict[str, int]:
    """Number of paths, bytes of the files, and the newest change in ns; the folder itself left out."""
    paths = size = changed = 0
    for entry in _walk(str(folder)):
        status = entry.stat(follow_symlinks=False)
        paths += 1
        changed = max(changed, status.st_ctime_ns)
        if stat.S_ISREG(status.st_mode):
            size += status.st_size
    return {"paths": paths, "bytes": size, "changed": changed}


def _walk(folder: str) -> Iterator[os.DirEntry[str]]:
    todo = [folder]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def remove_tree(folder: Path) -> None:
    """Remove a tree, also where its folders' modes do not allow it. Raises OSError."""

    def allow(parent: Path) -> None:
        parent.chmod(0o700)
        for entry in os.scandir(parent):
            if entry.is_dir(follow_symlinks=False):
                allow(Path(entry))

    try:
        shutil.rmtree(folder)
    except PermissionError:
        allow(folder)
        shutil.rmtree(folder)


def trees(store: ContentStore) -> list[CachedTree]:
    """The trees of the cache, by name; those that are half made count as never used."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted((store.folder / FOLDER).iterdir()):
            if not entry.is_dir():
                continue
            note = entry.with_name(f"{entry.name}.json")
            try:
                size = int(json.loads(note.read_bytes())["bytes"])
                found.append(CachedTree(name=entry.name, used=note.stat().st_mtime, size=size))
            except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
                found.append(CachedTree(name=entry.name, used=0.0, size=0))
    return found


def drop_tree(store: ContentStore, name: str) -> None:
    """Remove a tree of the cache; the store must be held alone. E403."""
    folder = store.folder / FOLDER / name
    try:
        folder.with_name(f"{name}.json").unlink(missing_ok=True)
        remove_tree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AfenvError("E403", f"cannot remove: {error.strerror}", place=str(folder)) from error
