"""Putting the parts of a plan in a folder: each is made beside, then all are renamed, the name last.

::

    ROOT/.afenv-staging-…/    what is being made; removed at the end, or by the next publication

While a folder is written to, its own lock is held. If anything fails, what was put in place is taken back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from afenv.layers.tar_header import FOLDER, SYMBOLIC_LINK
from afenv.oci.merge import Index, TarLayers, with_indexes
from afenv.oci.read import OpenedImage
from afenv.store.content import write_error
from afenv.store.trees import remove_tree
from afenv_builders.cvmfs.names import FLAT, LAYERS, METADATA
from afenv_builders.cvmfs.plan import Part
from afenv_builders.cvmfs.repository import OWNER, owner_text
from afenv_builders.cvmfs.writing import write_tree

MOST_WORKERS = 8
STAGING = ".afenv-staging-"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a folder alone; what a killed process was making there is removed. E402, E403."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left_over in root.glob(f"{STAGING}*"):
                remove_tree(left_over)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_error(error, root) from error


def place(parts: tuple[Part, ...], opened: OpenedImage, root: Path) -> None:
    """Write the parts below ``root``, all or none. OSError, and what making their nodes raises."""
    undo: list[Callable[[], None]] = []
    staging = Path(tempfile.mkdtemp(dir=root, prefix=STAGING))
    try:
        (staging / OWNER).write_bytes(owner_text())
        made = _all_made(parts, opened, staging)
        for part, path in zip(parts, made, strict=True):
            _put(path, root / part.path, staging, undo)
    except BaseException:
        for step in reversed(undo):
            with contextlib.suppress(OSError):
                step()
        raise
    finally:
        with contextlib.suppress(OSError):
            remove_tree(staging)
    folders = {parent for part in parts for parent in Path(part.path).parents if parent != Path()}
    for folder in folders:
        with contextlib.suppress(OSError):  # somebody else's
            os.utime(root / folder, (0, 0))


def settle(root: Path) -> None:
    """Give the folders that publications share one time, whatever has been put into them and taken out."""
    folders = [path for name in (FLAT, LAYERS) for path in (root / name, *(root / name).glob("??"))]
    folders += [path for one in (root / LAYERS).glob("??/*") for path in (one, one / METADATA)]
    for place, inside, _ in os.walk(root):
        if Path(place) == root:
            inside[:] = [name for name in inside if not name.startswith(".") or name == METADATA]
        else:
            folders.append(Path(place))
    for folder in folders:
        with contextlib.suppress(OSError):  # somebody else's, or not there
            if folder.stat().st_mtime:
                os.utime(folder, (0, 0))


def _all_made(parts: tuple[Part, ...], opened: OpenedImage, staging: Path) -> list[Path]:
    """All parts, made in ``staging``: several at a time, as making files is mostly waiting for the disk."""
    workers = min(MOST_WORKERS, 2 * len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(_made, part, opened, staging / str(count)) for count, part in enumerate(parts)]
        try:
            return [one.result() for one in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _made(part: Part, opened: OpenedImage, path: Path) -> Path:
    """The part, made at ``path``."""

    def attempt(indexes: dict[int, Index]) -> None:
        if path.exists():
            remove_tree(path)
        write_tree(path, part.nodes(indexes), part.mtime)

    if part.tree:
        with_indexes(TarLayers(opened), attempt)  # type: ignore[arg-type]
        return path
    (node,) = part.nodes({})
    if node.kind == FOLDER:
        path.mkdir()
        path.chmod(node.mode)
    elif node.kind == SYMBOLIC_LINK:
        path.symlink_to(os.fsdecode(node.target))
    else:
        path.write_bytes(b"".join(node.data()))
        path.chmod(node.mode)
    os.utime(path, (node.mtime, node.mtime), follow_symlinks=False)
    return path


def _put(made: Path, path: Path, staging: Path, undo: list[Callable[[], None]]) -> None:
    """Rename what was made to where it belongs; how to take it back goes to ``undo``."""
    if made.is_dir() and not made.is_symlink():
        if path.is_dir() and not path.is_symlink():  # what an ingest that was killed has left of a tree
            aside = staging / f"{made.name}-old"
            path.rename(aside)
            undo.append(partial(os.rename, aside, path))
        mode = made.stat().st_mode & 0o7777
        made.rename(path)
        undo.append(partial(remove_tree, path))
        path.chmod(mode)
        return
    if os.path.lexists(path):
        aside = staging / f"{made.name}-old"
        os.link(path, aside, follow_symlinks=False)
        undo.append(partial(os.replace, aside, path))
    else:
        undo.append(partial(os.unlink, path))
    made.replace(path)
