"""Reading squashfs 4.0: the files of a SIF or of a bare image, without mounting and without other tools.

The format is that of the Linux kernel (fs/squashfs/squashfs_fs.h, Documentation/filesystems/squashfs.rst):
little-endian; a super block of 96 bytes; data and fragment blocks; then tables of inodes, directories,
fragments, ids and extended attributes in metadata blocks of at most 8 KiB. Compressed with gzip, xz or
zstd. Every offset and size is checked before it is used, and no folder is entered twice, so a damaged
image ends in an error (E510) and in bounded memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from afenv.errors import AfenvError
from afenv.oci.files import Entry, Keep, Kind
from afenv.oci.squashfs_content import InodeContent, content_of
from afenv.oci.squashfs_tables import (
    BIG_ENDIAN,
    COMPRESSORS,
    MAGIC,
    MOST_METADATA,
    NONE,
    NUMBER,
    SUPER,
    DamagedError,
    SuperBlock,
    Tables,
    refuse,
)

__all__ = ["BIG_ENDIAN", "COMPRESSORS", "MAGIC", "SUPER", "Squashfs", "SuperBlock"]

_COMMON = struct.Struct("<HHHHII")
_DIRECTORY = struct.Struct("<IIHHI")
_EXT_DIRECTORY = struct.Struct("<IIIIHHI")
_FILE = struct.Struct("<IIII")
_EXT_FILE = struct.Struct("<QQQIIII")
_LINK = struct.Struct("<II")
_DIRECTORY_HEADER = struct.Struct("<III")
_DIRECTORY_ENTRY = struct.Struct("<HhHH")
_KINDS: dict[int, Kind] = {1: "d", 2: "f", 3: "l", 4: "b", 5: "c", 6: "p"}
_SOCKET = 7
_EXTENDED = 7  # added to the type of an inode


class _Inode(NamedTuple):
    kind: int  # of the basic inode
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0  # of a file's content or a folder's listing
    block: int = 0  # of a folder's listing
    offset: int = 0
    target: bytes = b""
    device: int = 0
    content: InodeContent | None = None
    xattr: int = NONE


class Squashfs:
    """An open image; use it as a context manager."""

    def __init__(self, descriptor: int, path: Path, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self.path = path
        try:
            self._tables = Tables(descriptor, offset, size)
        except DamagedError as error:
            raise self._error(error) from None
        self.super = self._tables.super

    @classmethod
    def open(cls, path: Path, offset: int = 0, size: int | None = None) -> Squashfs:
        """Open the image that begins at ``offset`` of a file; E001 if it cannot be read, else E510."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
        try:
            end = os.fstat(descriptor).st_size
            return cls(descriptor, path, offset, max(0, min(end - offset, end if size is None else size)))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> Squashfs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def root(self) -> Entry:
        """The root folder, with an empty path."""
        try:
            return self._entry("", self._inode(self.super.root), contents=False, keep=lambda _: False)
        except DamagedError as error:
            raise self._error(error) from None

    def entries(self, *, contents: bool = False, keep: Keep = lambda _: False) -> Iterator[Entry]:
        """Everything but the root, a folder before what is in it; with ``contents`` files are hashed.

        Files whose path ``keep`` accepts come with their content. Sockets are left out, as an image's
        layers cannot hold them.
        """
        try:
            yield from self._walk(contents, keep)
        except DamagedError as error:
            raise self._error(error) from None

    def _walk(self, contents: bool, keep: Keep) -> Iterator[Entry]:
        todo = [("", self.super.root)]
        entered: set[int] = set()
        listed = 0
        while todo:
            folder, reference = todo.pop()
            inode = self._inode(reference)
            if inode.kind != 1 or reference in entered:
                refuse("a folder is in itself, or is no folder")
            entered.add(reference)
            listed += inode.size
            if listed > len(self._tables.directories.data) + 3 * len(entered):
                refuse("folders share what is in them")
            found = list(self._listing(inode))
            for name, below in found:
                path = f"{folder}/{name}" if folder else name
                one = self._inode(below)
                if one.kind == 1:
                    todo.append((path, below))
                if one.kind != _SOCKET:
                    yield self._entry(path, one, contents=contents, keep=keep)

    def _listing(self, inode: _Inode) -> Iterator[tuple[str, int]]:
        """Names in a folder, with the references of their inodes."""
        left = inode.size - 3  # the kernel counts . and ..
        if left <= 0:
            return
        table = self._tables.directories
        at = table.at(inode.block, inode.offset)
        end = at + left
        while at < end:
            count, block, _ = table.unpack(_DIRECTORY_HEADER, at)
            at += _DIRECTORY_HEADER.size
            if count >= 256:
                refuse("a folder's listing cannot be understood")
            for _ in range(count + 1):
                offset, _, _, size = table.unpack(_DIRECTORY_ENTRY, at)
                name = table.bytes(at + _DIRECTORY_ENTRY.size, size + 1)
                at += _DIRECTORY_ENTRY.size + size + 1
                if size > 255 or b"/" in name or b"\0" in name or name in (b".", b".."):
                    refuse(f"a file's name is {name!r}")
                yield name.decode("utf-8", "surrogateescape"), block << 16 | offset

    def _entry(self, path: str, inode: _Inode, *, contents: bool, keep: Keep) -> Entry:
        kind = _KINDS[inode.kind]
        target, sha256, content = "", "", None
        if inode.kind == 2:
            assert inode.content is not None
            if contents or keep(path):
                sha256, content = content_of(
                    inode.content,
                    self.super.block_size,
                    self._tables.block,
                    self._tables.fragment,
                    hashing=contents,
                    keep=keep(path),
                )
        elif inode.kind == 3:
            target = inode.target.decode("utf-8", "surrogateescape")
        elif kind in "bc":
            number = inode.device
            target = f"{number >> 8 & 0xFFF}:{number & 0xFF | number >> 12 & 0xFFF00}"
        return Entry(
            path=path,
            kind=kind,
            mode=0o777 if kind == "l" else inode.mode & 0o7777,
            uid=inode.uid,
            gid=inode.gid,
            size=inode.size if kind == "f" else 0,
            mtime=inode.mtime,
            sha256=sha256,
            target=target,
            xattrs=self._tables.xattrs_of(inode.xattr),
            content=content,
        )

    def _inode(self, reference: int) -> _Inode:
        table = self._tables.inodes
        at = table.at(reference >> 16, reference & 0xFFFF)
        number, mode, uid, gid, mtime, _ = table.unpack(_COMMON, at)
        if max(uid, gid) >= len(self._tables.ids):
            refuse("a file has an owner that the image does not have")
        extended = number > _EXTENDED
        kind = number - _EXTENDED if extended else number
        if not 1 <= kind <= _SOCKET:
            refuse(f"an inode is of type {number}")
        common = (kind, mode, self._tables.ids[uid], self._tables.ids[gid], mtime)
        at += _COMMON.size
        if kind == 1:
            if extended:
                _, size, block, _, _, offset, xattr = table.unpack(_EXT_DIRECTORY, at)
            else:
                block, _, size, offset, _ = table.unpack(_DIRECTORY, at)
                xattr = NONE
            return _Inode(*common, size=size, block=block, offset=offset, xattr=xattr)
        if kind == 2:
            return self._file_inode(common, extended, at)
        if kind == 3:
            _, length = table.unpack(_LINK, at)
            at += _LINK.size
            target = table.bytes(at, length)
            xattr = table.unpack(NUMBER, at + length)[0] if extended else NONE
            return _Inode(*common, target=target, xattr=xattr)
        form = _LINK if kind in (4, 5) else NUMBER
        values = table.unpack(form, at)
        xattr = table.unpack(NUMBER, at + form.size)[0] if extended else NONE
        return _Inode(*common, device=values[-1] if kind in (4, 5) else 0, xattr=xattr)

    def _file_inode(self, common: tuple[int, int, int, int, int], extended: bool, at: int) -> _Inode:
        table, block_size = self._tables.inodes, self.super.block_size
        if extended:
            start, size, _, _, fragment, offset, xattr = table.unpack(_EXT_FILE, at)
            at += _EXT_FILE.size
        else:
            start, fragment, offset, size = table.unpack(_FILE, at)
            at += _FILE.size
            xattr = NONE
        count = size // block_size if fragment != NONE else -(-size // block_size)
        sizes = struct.unpack(f"<{count}I", table.bytes(at, 4 * count)) if count <= MOST_METADATA else ()
        if len(sizes) != count:
            refuse(f"a file has {size} bytes")
        content = InodeContent(start, size, sizes, None if fragment == NONE else fragment, offset)
        return _Inode(*common, size=size, content=content, xattr=xattr)

    def _error(self, error: DamagedError) -> AfenvError:
        return AfenvError(
            "E510", f"this is not a squashfs image that can be read: {error}", place=str(self.path)
        )
