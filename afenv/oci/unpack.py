"""The files of an image in a folder, without root.

Layers are laid on one another as OCI's image-spec (layer.md) says: later entries win, ``.wh.NAME`` removes
NAME of the layers below, ``.wh..wh..opq`` empties a folder of them. The folder is empty at first and
nobody else writes to it, so what was written is known, and no symbolic link in it is ever followed. Modes
and modification times are kept; owners where the process may give files away, which is as root. Extended
attributes are not kept. Devices below ``/dev``, where every runtime puts its own, are left out.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci.blobs import decompressed, read_to_end, stream_errors
from afenv.oci.files import OPAQUE, WHITEOUT, check_numbers, check_path
from afenv.oci.model import Blobs
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error
from afenv.store.trees import cached_tree, remove_tree

_CHUNK = 1 << 20
_FORM = 1  # of the trees in the cache; counted up when unpacking changes


class _Unpacked(Protocol):
    """What is needed of a layer: the layers of :mod:`afenv.oci.model` and :mod:`afenv.layers.model` do."""

    @property
    def diff_id(self) -> str: ...  # pragma: no cover
    @property
    def digest(self) -> str: ...  # pragma: no cover
    @property
    def size(self) -> int: ...  # pragma: no cover


def unpacked_root(
    layers: Sequence[_Unpacked], store: ContentStore, *, quiet: bool = False, owners: bool = True
) -> Path:
    """The folder, in the cache, with the files of an image whose layers are in ``store``.

    Without ``owners`` all files belong to this process's user, also for root.
    It is only to be read; :meth:`~afenv.store.content.ContentStore.in_use` is to be held as long as it is
    used. E305 if a layer is missing, and what :func:`unpack_layers` raises.
    """
    owners = owners and os.geteuid() == 0
    key = ["tree", _FORM, owners, [layer.diff_id for layer in layers]]

    def fill(folder: Path) -> None:
        for layer in layers:
            if not store.trusted(layer.digest, layer.size):
                raise AfenvError("E305", f"the store lacks {layer.digest}", place=str(store.folder))
        unpack_layers(layers, store, folder, quiet=quiet, owners=owners)

    return cached_tree(store, sha256_bytes(canonical.compact(key)), fill)


def unpack_layers(
    layers: Sequence[_Unpacked],
    blobs: Blobs,
    folder: Path,
    *,
    quiet: bool = False,
    owners: bool = True,
) -> None:
    """Write the files of an image into ``folder``, which is empty; ``layers`` come from the lowest up.

    E304 for a path that leads outside, E510 for a device or a layer that cannot be read, E402 and E403 if
    the folder cannot be written.
    """
    total = sum(layer.size for layer in layers)
    tree = _Tree(str(folder), owners=owners and os.geteuid() == 0)
    with Progress("Unpacking", total, quiet=quiet) as progress:
        for layer in layers:
            tree.next_layer()
            with blobs.open(layer.digest) as file, decompressed(file) as stream:
                _unpack_layer(stream, tree, layer.digest)
            progress.advance(layer.size)
    tree.finish()


def unpack_tar(stream: BinaryIO, folder: Path, place: str) -> None:
    """Write the files of one tar archive into ``folder``, which is empty; ``place`` names it in errors.

    All files belong to this process's user. E304, E510, E402 and E403 as :func:`unpack_layers`.
    """
    tree = _Tree(str(folder), owners=False)
    tree.next_layer()
    _unpack_layer(stream, tree, place)
    tree.finish()


def _unpack_layer(stream: BinaryIO, tree: _Tree, place: str) -> None:
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16) as tar:
            for member in tar:
                _take(tree, tar, member, place)
                tar.members = []  # type: ignore[attr-defined]  # else they pile up
        read_to_end(stream)
    except stream_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:  # else a damaged gzip stream
            raise write_error(error, Path(tree.root)) from error
        raise AfenvError("E510", f"a layer cannot be read: {error}", place=place) from None


def _path(name: str, place: str) -> str:
    """A member's name as a path below the root; a leading slash counts from there."""
    if name[:1] in (".", "/") or name.endswith("/") or "//" in name or "/." in name:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise AfenvError("E304", f"the path {name!r} leads upwards", place=place)
        name = "/".join(parts)
    if "\0" in name:
        raise AfenvError("E304", f"the path {name!r} holds a NUL", place=place)
    check_path(name, place)
    return name


def _take(tree: _Tree, tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
    path = _path(member.name, place)
    check_numbers(member, place)
    parent, _, name = path.rpartition("/")
    if name.startswith(WHITEOUT):
        if name == OPAQUE:
            tree.empty(parent)
        elif (hidden := name[len(WHITEOUT) :]) not in ("", ".", ".."):
            tree.remove(f"{parent}/{hidden}" if parent else hidden)
        return
    if not path:
        if member.isdir():
            tree.note_folder("", member)
        return
    if member.isdir():
        tree.folder(path, member)
    elif member.isreg():
        tree.file(path, member, tar)
    elif member.issym():
        tree.make_room(path)
        os.symlink(member.linkname, tree.at(path))  # noqa: PTH211
        tree.put(path, member, "l")
    elif member.islnk():
        tree.hardlink(path, _path(member.linkname, place), place)
    elif member.isfifo():
        tree.make_room(path)
        os.mkfifo(tree.at(path), 0o600)
        tree.put(path, member, "p")
    elif path.startswith("dev/"):
        return
    else:
        raise AfenvError("E510", f"{path!r} is a device, or of an unknown type", place=place)


class _Tree:
    """A folder that is being filled: what was written, of which kind, and by which layer."""

    def __init__(self, root: str, *, owners: bool) -> None:
        self.root = root
        self._layer = 0
        self._known: dict[str, tuple[str, int]] = {}  # path → kind, number of the layer
        self._folders: dict[str, tuple[int, float, int, int]] = {}  # mode, mtime, uid, gid: set at the end
        self._owners = owners

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def next_layer(self) -> None:
        self._layer += 1

    def make_room(self, path: str) -> None:
        """See to it that the parent folder is there, and nothing at ``path``."""
        parent = path.rpartition("/")[0]
        if parent and self._known.get(parent, ("", 0))[0] != "d":
            self._parents(parent)
        if path in self._known:
            self._delete(path)

    def _parents(self, path: str) -> None:
        """Folders that no member of the layer has named so far, in the place of what a lower one has."""
        missing = []
        while path and self._known.get(path, ("", 0))[0] != "d":
            missing.append(path)
            path = path.rpartition("/")[0]
        for path in reversed(missing):
            kind, layer = self._known.get(path, ("", 0))
            if kind and layer == self._layer:
                raise AfenvError("E304", f"a path leads through {path!r}, which is not a folder")
            if kind:
                self._delete(path)
            os.mkdir(self.at(path), 0o700)  # noqa: PTH102
            self._known[path] = ("d", self._layer)
            self._folders[path] = (0o755, 0, 0, 0)

    def folder(self, path: str, member: tarfile.TarInfo) -> None:
        if self._known.get(path, ("", 0))[0] == "d":
            self._known[path] = ("d", self._layer)
        else:
            self.make_room(path)
            os.mkdir(self.at(path), 0o700)  # noqa: PTH102
            self._known[path] = ("d", self._layer)
        self.note_folder(path, member)

    def note_folder(self, path: str, member: tarfile.TarInfo) -> None:
        self._folders[path] = (member.mode & 0o7777, member.mtime, member.uid, member.gid)

    def file(self, path: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        self.make_room(path)
        self._known[path] = ("f", self._layer)
        if member.issparse():
            content = tar.extractfile(member)
            assert content is not None  # a regular file has content
            self._write(path, member, iter(lambda: content.read(_CHUNK), b""))
        else:
            self._write(path, member, _pieces(tar, member.size))

    def _write(self, path: str, member: tarfile.TarInfo, content: Iterable[bytes]) -> None:
        descriptor = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            for data in content:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            if self._owners:
                _give(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & 0o7777)
            os.utime(descriptor, (member.mtime, member.mtime))
        finally:
            os.close(descriptor)

    def put(self, path: str, member: tarfile.TarInfo, kind: str) -> None:
        """Owner, mode and time of a link or a pipe that was just made."""
        name = self.at(path)
        if self._owners:
            with contextlib.suppress(PermissionError):
                os.chown(name, member.uid, member.gid, follow_symlinks=False)
        if kind != "l":
            os.chmod(name, member.mode & 0o7777)  # noqa: PTH101
        os.utime(name, (member.mtime, member.mtime), follow_symlinks=False)
        self._known[path] = (kind, self._layer)

    def hardlink(self, path: str, target: str, place: str) -> None:
        kind = self._known.get(target, ("", 0))[0]
        if kind in ("", "d"):
            raise AfenvError("E510", f"{path!r} is a hard link to {target!r}, which is no file", place=place)
        if path == target:
            return
        self.make_room(path)
        if target not in self._known:  # it lay below what was at path
            raise AfenvError("E510", f"{path!r} is a hard link into itself", place=place)
        os.link(self.at(target), self.at(path), follow_symlinks=False)
        self._known[path] = (kind, self._layer)

    def remove(self, path: str) -> None:
        """What a whiteout says: nothing of the layers below is at ``path`` any more."""
        kind, layer = self._known.get(path, ("", 0))
        if kind == "d":
            self.empty(path)
            if layer < self._layer and not os.listdir(self.at(path)):  # noqa: PTH208
                self._delete(path)
        elif kind and layer < self._layer:
            self._delete(path)

    def empty(self, path: str) -> None:
        """What an opaque folder says: nothing of the layers below is in it any more."""
        if path and self._known.get(path, ("", 0))[0] != "d":
            return
        for name in os.listdir(self.at(path)):  # noqa: PTH208
            self.remove(f"{path}/{name}" if path else name)

    def _delete(self, path: str) -> None:
        kind, _ = self._known.pop(path)
        if kind != "d":
            os.unlink(self.at(path))  # noqa: PTH108
            return
        remove_tree(Path(self.at(path)))
        self._folders.pop(path, None)
        start = path + "/"
        for below in [other for other in self._known if other.startswith(start)]:
            del self._known[below]
            self._folders.pop(below, None)

    def finish(self) -> None:
        """Set the folders' modes, owners and times, the innermost first."""
        try:
            for path in sorted(self._folders, key=lambda path: -path.count("/")):
                mode, mtime, uid, gid = self._folders[path]
                name = self.at(path)
                if self._owners:
                    with contextlib.suppress(PermissionError):
                        os.chown(name, uid, gid)
                os.chmod(name, mode)  # noqa: PTH101
                os.utime(name, (mtime, mtime))
        except OSError as error:
            raise write_error(error, Path(self.root)) from error


def _pieces(tar: tarfile.TarFile, size: int) -> Iterator[bytes]:
    """The content of the member that was just read; a stream stands at its first byte."""
    file = tar.fileobj
    assert file is not None
    while size:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise tarfile.ReadError("unexpected end of data")
        size -= len(data)
        yield data


def _give(descriptor: int, uid: int, gid: int) -> None:
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, uid, gid)
