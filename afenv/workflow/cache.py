"""What ``afenv cache`` does: show what the content store holds, prune it, verify it.

The last use of a blob is its access time, which the store itself sets, to about a day, wherever the file
system is mounted; that of a key is its modification time. Nothing is removed while a build or a download
holds the store (:meth:`~afenv.store.content.ContentStore.in_use`): then pruning and repairing raise E407.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error
from afenv.store.trees import drop_tree, trees

STALE = 86_400.0  # seconds after which a temporary file belongs to nobody
_NAME = re.compile(r"[0-9a-f]{64}\Z")
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheSummary:
    """What the store holds; ``keys`` are counts by kind, ``bytes`` those of the files' content.

    ``trees`` are unpacked images, ``clones`` those of git repositories.
    """

    folder: str
    blobs: int
    blob_bytes: int
    keys: Mapping[str, int]
    key_bytes: int
    temporary: int
    temporary_bytes: int
    trees: int
    tree_bytes: int
    clones: int = 0
    clone_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The summary as ``--json`` shows it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CachePruned:
    """What was removed and what is left.

    ``freed_bytes`` leaves out the blobs that another folder, such as an image layout, still shares.
    """

    folder: str
    removed_blobs: int
    removed_keys: int
    removed_temporary: int
    removed_trees: int
    removed_clones: int = 0
    freed_bytes: int
    kept_blobs: int
    kept_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The result as ``--json`` shows it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheVerified:
    """What was read again and what was wrong.

    ``damaged`` are digests of blobs that have another content; ``damaged_keys`` and ``foreign`` are paths
    in the store, of keys that are no JSON and of what is no blob. ``repaired`` says that these
    were removed.
    """

    folder: str
    blobs: int
    blob_bytes: int
    damaged: tuple[str, ...]
    damaged_keys: tuple[str, ...]
    foreign: tuple[str, ...]
    repaired: bool

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.damaged or self.damaged_keys or self.foreign)

    def as_json(self) -> dict[str, Any]:
        """The result as ``--json`` shows it."""
        return asdict(self)


def cache_summary(store: ContentStore) -> CacheSummary:
    """What the store holds; a store that does not exist is empty."""
    blobs = [status for path, status in _files(store.folder / "blobs") if _digest(path, store)]
    keys = list(_files(store.folder / "keys"))
    temporary = [status for _, status in _files(store.folder / "tmp")]
    unpacked = trees(store)
    kinds = Counter(path.relative_to(store.folder / "keys").parts[0] for path, _ in keys)
    return CacheSummary(
        folder=str(store.folder),
        blobs=len(blobs),
        blob_bytes=sum(status.st_size for status in blobs),
        keys=dict(sorted(kinds.items())),
        key_bytes=sum(status.st_size for _, status in keys),
        temporary=len(temporary),
        temporary_bytes=sum(status.st_size for status in temporary),
        trees=len(unpacked),
        tree_bytes=sum(tree.size for tree in unpacked),
        clones=len(_clones(store)),
        clone_bytes=sum(status.st_size for _, status in _files(store.folder / "git")),
    )


def choose_removed(
    blobs: Mapping[str, tuple[float, int]],
    *,
    now: float,
    older_than: float | None = None,
    keep_bytes: int | None = None,
) -> set[str]:
    """Which blobs, given by digest with last use and size, have to go for the limits to hold.

    None that stays was used earlier than one that goes.
    """
    removed: set[str] = set()
    kept = 0
    for digest, (used, size) in sorted(blobs.items(), key=lambda item: (-item[1][0], item[0])):
        too_old = older_than is not None and now - used > older_than
        too_much = keep_bytes is not None and kept + size > keep_bytes
        if removed or too_old or too_much:
            removed.add(digest)
        else:
            kept += size
    return removed


def cache_prune(
    store: ContentStore, *, older_than: float | None = None, keep_bytes: int | None = None
) -> CachePruned:
    """Remove what was not used for ``older_than`` seconds, then the least recently used blobs and trees until
    those left have at most ``keep_bytes``; keys that name a removed blob; and temporary files over a day old.
    Clones of git repositories go by their age alone.

    Without either limit only the temporary files go. Raises E407 if the store is in use, and E403.
    """
    with store.exclusive():
        now = time.time()
        blobs = {}
        for path, status in _files(store.folder / "blobs"):
            if digest := _digest(path, store):
                blobs[digest] = (status.st_atime, status.st_size)
        unpacked = {tree.name: (tree.used, tree.size) for tree in trees(store)}
        chosen = choose_removed(blobs | unpacked, now=now, older_than=older_than, keep_bytes=keep_bytes)
        half_made = {name for name in unpacked if name.startswith(".")}  # nobody makes one: we are alone
        dropped = (chosen | half_made) & unpacked.keys()
        removed = chosen - dropped
        for name in dropped:
            drop_tree(store, name)
        freed = sum(unpacked[name][1] for name in dropped)
        for digest in removed:
            path = store.path(digest)
            freed += path.stat().st_size if path.stat().st_nlink == 1 else 0
            _remove(path)
        keys = 0
        for path, status in _files(store.folder / "keys"):
            too_old = older_than is not None and now - status.st_mtime > older_than
            if too_old or (removed and _names_one_of(path, removed)):
                _remove(path)
                keys += 1
                freed += status.st_size
        clones = _prune_clones(store, now, older_than)
        freed += sum(clones)
        temporary = 0
        for path, status in _files(store.folder / "tmp"):
            if now - status.st_mtime > STALE and _is_free(path):
                _remove(path)
                temporary += 1
                freed += status.st_size
    return CachePruned(
        folder=str(store.folder),
        removed_blobs=len(removed),
        removed_keys=keys,
        removed_temporary=temporary,
        removed_trees=len(dropped),
        removed_clones=len(clones),
        freed_bytes=freed,
        kept_blobs=len(blobs) - len(removed),
        kept_bytes=sum(size for digest, (_, size) in blobs.items() if digest not in removed)
        + sum(size for name, (_, size) in unpacked.items() if name not in dropped),
    )


def cache_verify(store: ContentStore, *, repair: bool = False, quiet: bool = True) -> CacheVerified:
    """Hash every blob again and read every key; with ``repair``, remove what is wrong.

    Keys that name a removed blob are removed as well, so that the next build makes both anew. Raises
    E407 if ``repair`` is asked for while the store is in use, and E403.
    """
    with store.exclusive() if repair else contextlib.nullcontext():
        files = list(_files(store.folder / "blobs"))
        foreign = [path for path, _ in files if not _digest(path, store)]
        foreign += _instead_of_blobs(store)
        blobs = [(path, status.st_size) for path, status in files if _digest(path, store)]
        total = sum(size for _, size in blobs)
        with Progress("Verifying the cache", total, quiet=quiet) as progress:

            def is_sound(item: tuple[Path, int]) -> bool:
                try:
                    return (
                        store.check(_digest(item[0], store)) or not item[0].exists()
                    )  # or it was just removed
                except AfenvError:
                    return False
                finally:
                    progress.advance(item[1])

            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                sound = list(pool.map(is_sound, blobs))
        damaged = {_digest(path, store) for (path, _), good in zip(blobs, sound, strict=True) if not good}
        damaged_keys = [path for path, _ in _files(store.folder / "keys") if not _is_json(path)]
        if repair:
            for digest in damaged:
                _remove(store.path(digest))
            for path in (*foreign, *damaged_keys):
                _remove(path)
            for path, _ in list(_files(store.folder / "keys")) if damaged else ():
                if _names_one_of(path, damaged):
                    _remove(path)
    return CacheVerified(
        folder=str(store.folder),
        blobs=len(blobs),
        blob_bytes=total,
        damaged=tuple(sorted(damaged)),
        damaged_keys=tuple(sorted(str(path.relative_to(store.folder)) for path in damaged_keys)),
        foreign=tuple(sorted(str(path.relative_to(store.folder)) for path in foreign)),
        repaired=repair,
    )


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files and links under a folder, which need not exist, with their status."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()


def _clones(store: ContentStore) -> list[Path]:
    """The clones of git repositories; the modification time of each is that of its last use."""
    folder = store.folder / "git"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _prune_clones(store: ContentStore, now: float, older_than: float | None) -> list[int]:
    """Remove clones that were not used for so many seconds; the bytes of each."""
    freed = []
    for path in _clones(store) if older_than is not None else ():
        if now - path.stat().st_mtime > (older_than or 0):
            freed.append(sum(status.st_size for _, status in _files(path)))
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise write_error(error, path) from error
    return freed


def _digest(path: Path, store: ContentStore) -> str:
    """The digest that a blob's path stands for; nothing if it is no blob's path."""
    digest = f"sha256:{path.name}"
    return digest if _NAME.match(path.name) and store.path(digest) == path else ""


def _instead_of_blobs(store: ContentStore) -> Iterator[Path]:
    """Folders, and links to folders, where a blob would lie."""
    for parent, folders, _ in os.walk(store.folder / "blobs"):
        yield from (path for name in folders if _digest(path := Path(parent) / name, store))


def _names_one_of(path: Path, digests: Collection[str]) -> bool:
    try:
        found = _DIGEST.findall(path.read_bytes())
    except OSError:
        return False
    return any(digest.decode() in digests for digest in found)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return True


def _is_free(path: Path) -> bool:
    """Whether no process holds a temporary file locked, as one that downloads does."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return stat.S_ISLNK(path.lstat().st_mode)
    return True


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, path) from error
