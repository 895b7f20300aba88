"""Nodes as files in a folder that is new, and to which nobody else writes.

What was written is known, so that no symbolic link is ever followed. Owners are kept where the process may
give files away, which is as root.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK
from afenv.oci.tar_node import PIPE, Node

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write_tree(folder: Path, nodes: Iterable[Node], mtime: int = 0) -> None:
    """Make ``folder``, with the nodes in it, of which each path comes once; ``mtime`` is its own time.

    E304 for a path that leads through something other than a folder, E510 for a hard link to nothing, and
    OSError.
    """
    writer = _Writer(os.fsencode(folder), owners=os.geteuid() == 0)
    folder.mkdir()
    for node in nodes:
        writer.write(node)
    writer.finish(mtime)


class _Writer:
    def __init__(self, root: bytes, *, owners: bool) -> None:
        self._root = root + b"/"
        self._owners = owners
        self._folders: dict[bytes, Node | None] = {b"": None}  # None: no member has told of it so far

    def write(self, node: Node) -> None:
        """One node; what a folder is like is set at the end."""
        parent = node.path.rpartition(b"/")[0]
        if parent not in self._folders:
            self._make_folder(parent)
        if node.kind == FOLDER:
            if node.path not in self._folders:
                self._make_folder(node.path)
            self._folders[node.path] = node
            return
        place = self._root + node.path
        if node.kind == FILE:
            self._file(place, node)
        elif node.kind == HARD_LINK:
            self._link(place, node)
        elif node.kind == SYMBOLIC_LINK:
            os.symlink(node.target, place)  # noqa: PTH211
            self._attributes(place, node)
        elif node.kind == PIPE:
            os.mkfifo(place, 0o600)
            self._attributes(place, node)
        else:
            raise AfenvError("E510", f"{_text(node.path)} is of the unknown type {node.kind!r}")

    def _make_folder(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if parent not in self._folders:
            self._make_folder(parent)
        try:
            os.mkdir(self._root + path, 0o700)  # noqa: PTH102
        except FileExistsError:
            raise AfenvError(
                "E304", f"a path leads through {_text(path)}, which is not a folder", place=_text(self._root)
            ) from None
        self._folders[path] = None

    def _file(self, place: bytes, node: Node) -> None:
        descriptor = os.open(place, _NEW, 0o600)
        try:
            for piece in node.data():
                view = piece
                while view:
                    view = view[os.write(descriptor, view) :]
            if self._owners and (node.uid or node.gid):
                os.fchown(descriptor, node.uid, node.gid)
            os.fchmod(descriptor, node.mode)
            os.utime(descriptor, (node.mtime, node.mtime))
        finally:
            os.close(descriptor)

    def _link(self, place: bytes, node: Node) -> None:
        parent = node.target.rpartition(b"/")[0]
        try:
            if parent not in self._folders:
                raise FileNotFoundError
            os.link(self._root + node.target, place, follow_symlinks=False)
        except FileNotFoundError:
            raise AfenvError(
                "E510", f"{_text(node.path)} is a hard link to {_text(node.target)}, which does not exist"
            ) from None

    def _attributes(self, place: bytes, node: Node) -> None:
        if self._owners and (node.uid or node.gid):
            os.chown(place, node.uid, node.gid, follow_symlinks=False)
        if node.kind == PIPE:
            os.chmod(place, node.mode)  # noqa: PTH101
        os.utime(place, (node.mtime, node.mtime), follow_symlinks=False)

    def finish(self, mtime: int) -> None:
        """Set modes, owners and times of the folders, the innermost first."""
        for path in sorted(self._folders, key=lambda path: -path.count(b"/") - bool(path)):
            place = self._root + path
            node = self._folders[path]
            if node is not None and self._owners and (node.uid or node.gid):
                os.chown(place, node.uid, node.gid)
            os.chmod(place, node.mode if node else 0o755)  # noqa: PTH101
            time = node.mtime if node else (0 if path else mtime)
            os.utime(place, (time, time))


def _text(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
