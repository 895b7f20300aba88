"""What a command in the sandbox changed, as the content of a layer.

It is read from the upper folder of an overlay (whiteouts are devices 0:0, ``user.overlay.opaque`` marks a
folder that hides the one below; Linux, Documentation/filesystems/overlayfs.rst) or from a changed copy, and
is the same from both. A path that was written and is as before does not count. Times, owners and
extended attributes are no part of it, nor are sockets, pipes and devices.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from afenv.errors import AfenvError
from afenv.layers.writer import MODE_MASK, LayerWriter

Kind = Literal["f", "d", "l", "removed"]

_WHITEOUT = ".wh."
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One path, relative to the root: what is there now, and where its content is."""

    path: str
    kind: Kind
    mode: int = 0
    place: str = ""  # the file with the content
    target: str = ""  # of a symbolic link
    linked: tuple[int, int] | None = None  # device and inode of a file with several names


def changes(changed: Path, lowers: Sequence[Path], *, overlay: bool) -> tuple[Change, ...]:
    """What is different from ``lowers`` (the highest first), sorted by path, with all parent folders.

    Raises OSError.
    """
    found: dict[str, Change] = {}
    _compare(changed, "", Lower(tuple(map(str, lowers))), overlay, found)
    return tuple(found[path] for path in sorted(found, key=os.fsencode))


@dataclass(frozen=True, slots=True)
class Lower:
    """The folders below, as one tree."""

    roots: tuple[str, ...]

    def find(self, path: str) -> tuple[str, os.stat_result] | None:
        """Where the path is, and its status; None if there is nothing."""
        for root in self.roots:
            place = f"{root}/{path}"
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return place, os.lstat(place)
            if self._hides(root, path):
                return None
        return None

    @staticmethod
    def _hides(root: str, path: str) -> bool:
        """Whether a parent of the path is something else than a folder in this root."""
        while path := path.rpartition("/")[0]:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return not stat.S_ISDIR(os.lstat(f"{root}/{path}").st_mode)
        return False

    def names(self, path: str) -> set[str]:
        """The names in a folder."""
        found: set[str] = set()
        for root in self.roots:
            place = f"{root}/{path}"
            try:
                if not stat.S_ISDIR(os.lstat(place).st_mode):
                    return found
            except (FileNotFoundError, NotADirectoryError):
                if self._hides(root, path):
                    return found
                continue
            found |= set(os.listdir(place))  # noqa: PTH208
        return found


def _compare(folder: Path, path: str, lower: Lower, overlay: bool, found: dict[str, Change]) -> None:
    """Note what is different in a folder that is one below as well."""
    _readable(str(folder))
    whole = not overlay or _is_opaque(str(folder))
    gone = lower.names(path) if whole else set()
    with os.scandir(folder) as entries:
        for entry in entries:
            gone.discard(entry.name)
            _compare_entry(entry, f"{path}/{entry.name}" if path else entry.name, lower, overlay, found)
    for name in gone:
        one = f"{path}/{name}" if path else name
        found[one] = Change(path=one, kind="removed")


def _compare_entry(
    entry: os.DirEntry[str], path: str, lower: Lower, overlay: bool, found: dict[str, Change]
) -> None:
    status = entry.stat(follow_symlinks=False)
    below = lower.find(path)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 and overlay:
        if below:
            found[path] = Change(path=path, kind="removed")
        return
    change = _change(entry.path, path, status)
    if change is None:
        if below:  # something that is no part of a layer took its place
            found[path] = Change(path=path, kind="removed")
    elif change.kind == "d":
        if below and stat.S_ISDIR(below[1].st_mode):
            before = len(found)
            _compare(Path(entry.path), path, lower, overlay, found)
            if len(found) > before or stat.S_IMODE(below[1].st_mode) & MODE_MASK != change.mode:
                found[path] = change
        else:
            found[path] = change
            _compare(Path(entry.path), path, Lower(()), overlay, found)
    elif not (below and _is_same(change, status, *below)):
        found[path] = change


def _change(place: str, path: str, status: os.stat_result) -> Change | None:
    mode = stat.S_IMODE(status.st_mode) & MODE_MASK
    if stat.S_ISREG(status.st_mode):
        linked = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
        return Change(path=path, kind="f", mode=mode, place=place, linked=linked)
    if stat.S_ISLNK(status.st_mode):
        return Change(path=path, kind="l", target=os.readlink(place))  # noqa: PTH115
    return Change(path=path, kind="d", mode=mode) if stat.S_ISDIR(status.st_mode) else None


def _is_same(change: Change, status: os.stat_result, place: str, below: os.stat_result) -> bool:
    if stat.S_IFMT(below.st_mode) != stat.S_IFMT(status.st_mode):
        return False
    if change.kind == "l":
        return os.readlink(place) == change.target  # noqa: PTH115
    if stat.S_IMODE(below.st_mode) & MODE_MASK != change.mode or below.st_size != status.st_size:
        return False
    _readable(change.place)
    try:
        return filecmp.cmp(place, change.place, shallow=False)
    except PermissionError:  # below, where nothing may be altered
        return False


def _is_opaque(folder: str) -> bool:
    for name in ("user.overlay.opaque", "trusted.overlay.opaque"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"y":
                return True
    return False


def _readable(place: str) -> None:
    """Let an ordinary user read what is their own, whatever mode it was given."""
    if not os.access(place, os.R_OK):
        with contextlib.suppress(OSError):
            mode = os.lstat(place).st_mode
            os.chmod(place, stat.S_IMODE(mode) | (0o700 if stat.S_ISDIR(mode) else 0o400))  # noqa: PTH101


def write_changes(found: Sequence[Change], writer: LayerWriter) -> None:
    """Write the changes, in their order.

    E304 for a name that means a removal in layers; what :class:`~afenv.layers.writer.LayerWriter` raises;
    OSError.
    """
    first: dict[tuple[int, int], Change] = {}
    for change in found:
        if change.path.rpartition("/")[2].startswith(_WHITEOUT):
            raise AfenvError("E304", f"/{change.path}: no layer can hold a name that begins with {_WHITEOUT}")
        if change.kind == "removed":
            parent, _, name = change.path.rpartition("/")
            writer.file(f"{parent}/{_WHITEOUT}{name}" if parent else _WHITEOUT + name, 0o644, b"")
        elif change.kind == "d":
            writer.directory(change.path, change.mode)
        elif change.kind == "l":
            writer.symlink(change.path, change.target)
        elif change.linked in first:
            writer.hardlink(change.path, first[change.linked].path)
        else:
            if change.linked is not None:
                first[change.linked] = change
            _readable(change.place)
            with open(change.place, "rb") as file:  # noqa: PTH123
                size = os.fstat(file.fileno()).st_size
                writer.stream(change.path, change.mode, size, iter(lambda: file.read(_CHUNK), b""))
