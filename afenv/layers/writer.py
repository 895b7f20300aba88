"""The layer writer: a deterministic tar, its diff_id, and its gzip form, all in one pass.

What a caller writes goes in the order of the calls; the caller sorts. Bytes that have no compressed
form yet (headers, padding, small files, streams) are gathered and deflated in members of one fixed
size, so the result does not depend on how a producer cuts its chunks. A deflate stream of a package
archive is copied as it is (see :mod:`afenv.layers.gzip_members`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from isal.isal_zlib import crc32 as crc32_of

from afenv.errors import AfenvError
from afenv.layers import gzip_members, tar_header
from afenv.layers.listing import Kind, ListingEntry
from afenv.record import record

if TYPE_CHECKING:
    from afenv.layers.base_tree import Ground

# A deflate stream shorter than this is inflated and deflated again with its neighbours: a member of its
# own would cost more than it saves. Part of the assembly version.
OWN_MEMBER = 4096

MODE_MASK = 0o1777  # no set-user-ID, no set-group-ID

_OUTPUT = 1 << 18  # compressed bytes that are gathered before the blob sees them


class Blob(Protocol):
    """Where the compressed layer goes: :class:`afenv.store.content.BlobWriter`, or the like."""

    size: int

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append ``data``."""

    def digest(self) -> str:
        """The digest of what was written so far."""


@record
class WrittenLayer:
    """A finished layer: digests, the size of the blob in bytes, and what it holds, in written order."""

    diff_id: str
    digest: str
    size: int
    entries: tuple[ListingEntry, ...]


class LayerWriter:
    """Writes one layer into ``blob``; members have the modification time ``mtime`` (seconds), which may be
    changed on the way.

    Paths are relative to the root of the image, with no slash at either end. Parent folders that were
    not written come into being with mode 0755. Set-user-ID and set-group-ID bits are dropped. Writing a
    path again does nothing if the content is the same and is E401 if not; a path that leads outside, or
    is not in its normal form, is E304. ``package`` names, in the listing, the owner of what is written
    from then on.

    On a base image (``ground``), links of the base among the parents of a path are followed, and folders
    that the base has keep their mode and owner; a file in the place of such a folder is E401, as is a
    folder in the place of a file.
    """

    def __init__(self, blob: Blob, *, mtime: int, ground: Ground | None = None) -> None:
        self.package = ""
        self._ground = ground
        self._blob = blob
        self.mtime = mtime
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._output = bytearray()
        self._entries: dict[str, ListingEntry] = {}
        self._folders: dict[str, bool] = {"": True}  # path → whether its mode was given

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A folder. Given twice, the first mode counts."""
        mode &= MODE_MASK
        if self._ground is not None:
            path = self._ground.follow(path)
            if self._ground.folder(path) is not None:
                if path not in self._folders:
                    self._parent(path)
                return
        given = self._folders.get(path)
        if given or (given is False and mode == 0o755):
            self._folders[path] = True
            return
        if given is None:
            self._enter(path, ListingEntry(path, "d", mode, package=self.package))
        else:
            self._entries[path] = ListingEntry(path, "d", mode, package=self.package)
        self._folders[path] = True
        self._header(path + "/", mode, tar_header.FOLDER)

    def file(self, path: str, mode: int, data: bytes | memoryview) -> None:
        """A file whose content is at hand."""
        size = len(data)
        mode &= MODE_MASK
        path = self._place(path)
        if self._enter(path, ListingEntry(path, "f", mode, size, crc32_of(data), "", self.package)):
            self._header(path, mode, tar_header.FILE, size)
            self._append(data)
            self._pad(size)

    def deflated(self, path: str, mode: int, size: int, crc32: int, stream: memoryview) -> None:
        """A file whose content is at hand as a raw deflate stream.

        E303 unless the stream inflates to exactly ``size`` bytes with that CRC-32.
        """
        mode &= MODE_MASK
        path = self._place(path)
        if not self._enter(path, ListingEntry(path, "f", mode, size, crc32, "", self.package)):
            return
        self._header(path, mode, tar_header.FILE, size)
        try:
            if len(stream) < OWN_MEMBER:
                self._append(gzip_members.inflate_small(stream, size, crc32))
            else:
                self._flush()
                for piece in gzip_members.inflate(stream, size, crc32):
                    self._hash.update(piece)
                self._write(gzip_members.HEADER, stream, gzip_members.trailer(crc32, size))
        except gzip_members.BadStream as error:
            raise AfenvError("E303", f"the compressed content of {path} is damaged: {error}") from None
        self._pad(size)

    def stream(self, path: str, mode: int, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        """A file whose content comes in chunks; E303 unless they are ``size`` bytes together."""
        mode &= MODE_MASK
        path = self._place(path)
        new = path not in self._entries
        if new:
            self._enter(path, ListingEntry(path, "f", mode, size, 0, "", self.package))
            self._header(path, mode, tar_header.FILE, size)
        left = size
        crc32 = 0
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            crc32 = crc32_of(chunk, crc32)
            if new:
                self._append(chunk)
        if left:
            raise AfenvError("E303", f"{path} does not have the {size} bytes that its archive says")
        entry = ListingEntry(path, "f", mode, size, crc32, "", self.package)
        if new:
            self._entries[path] = entry
            self._pad(size)
        else:
            self._enter(path, entry)

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link, with any target."""
        path = self._place(path)
        if self._enter(path, ListingEntry(path, "l", 0o777, 0, None, target, self.package)):
            self._header(path, 0o777, tar_header.SYMBOLIC_LINK, target=target)

    def hardlink(self, path: str, target: str) -> None:
        """A hard link to a path of the same layer that was written before."""
        path, target = self._place(path), self._place(target)
        known = self._entries.get(target)
        if known is None or known.kind not in "fh":
            raise AfenvError("E303", f"{path} is a hard link to {target}, which is not a file of this layer")
        if self._enter(path, ListingEntry(path, "h", known.mode, 0, None, target, self.package)):
            self._header(path, known.mode, tar_header.HARD_LINK, target=target)

    def is_base_folder(self, path: str) -> bool:
        """Whether the base image has a folder there, which is no link."""
        return self._ground is not None and self._ground.folder(self._ground.place(path)) is not None

    def finish(self) -> WrittenLayer:
        """End the archive. The blob has everything then; committing it is the caller's part."""
        self._append(tar_header.END)
        self._flush()
        if self._output:
            self._blob.write(self._output)
            self._output = bytearray()
        return WrittenLayer(
            diff_id="sha256:" + self._hash.hexdigest(),
            digest=self._blob.digest(),
            size=self._blob.size,
            entries=tuple(self._entries.values()),
        )

    def _place(self, path: str) -> str:
        return path if self._ground is None else self._ground.place(path)

    def _enter(self, path: str, entry: ListingEntry) -> bool:
        """Note a path; False if it is there already with the same content."""
        known = self._entries.get(path)
        if known is not None:
            if _content(known) == _content(entry):
                return False
            owners = sorted({known.package, entry.package} - {""})
            by = f" ({' and '.join(owners)})" if owners else ""
            raise AfenvError("E401", f"{path} would be written twice with different content{by}")
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or path[0] == "/" or "\0" in path:
            raise AfenvError("E304", f"{path!r} is not a path that a layer may hold")
        if parent not in self._folders:
            if parent in self._entries:
                raise AfenvError("E401", f"{path} would lie inside {parent}, which is not a folder")
            self._parent(parent)
        if self._ground is not None:
            if entry.kind != "d" and self._ground.folder(path) is not None:
                raise AfenvError("E401", f"{path} would replace a folder of the base image")
            if entry.kind == "d" and self._ground.holds_file(path):
                raise AfenvError("E401", f"the folder {path} would replace a file of the base image")
        self._entries[path] = entry
        return True

    def _parent(self, path: str) -> None:
        """A folder that has to be there: as the base image has it, or with mode 0755."""
        there = self._ground.folder(path) if self._ground is not None else None
        mode = 0o755 if there is None else there.mode
        self._enter(path, ListingEntry(path, "d", mode))
        self._folders[path] = there is not None
        if there is None or not (there.uid or there.gid):
            self._header(path + "/", mode, tar_header.FOLDER)
        else:
            name = f"{path}/".encode("utf-8", "surrogateescape")
            self._append(tar_header.folder_header(name, mode, self.mtime, there.uid, there.gid))

    def _header(self, path: str, mode: int, kind: bytes, size: int = 0, target: str = "") -> None:
        name = path.encode("utf-8", "surrogateescape")
        link = target.encode("utf-8", "surrogateescape")
        self._append(tar_header.header(name, mode, self.mtime, kind, size, link))

    def _pad(self, size: int) -> None:
        if size % tar_header.BLOCK:
            self._append(tar_header.padding(size))

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        """Add to what is to be deflated, and deflate each member that is full."""
        pending = self._pending
        if len(pending) + len(data) < gzip_members.MEMBER:
            pending += data
            return
        view = memoryview(data)
        while len(pending) + len(view) >= gzip_members.MEMBER:
            room = gzip_members.MEMBER - len(pending)
            if pending:
                pending += view[:room]
                self._flush()
                pending = self._pending
            else:
                self._member(view[:room])
            view = view[room:]
        pending += view

    def _flush(self) -> None:
        if self._pending:
            self._member(self._pending)
            self._pending = bytearray()

    def _member(self, data: bytearray | memoryview) -> None:
        self._hash.update(data)
        stream, crc32 = gzip_members.deflate(data), crc32_of(data)
        self._write(gzip_members.HEADER, stream, gzip_members.trailer(crc32, len(data)))

    def _write(self, *parts: bytes | memoryview) -> None:
        output = self._output
        for part in parts:
            if len(part) >= _OUTPUT:
                self._blob.write(output)
                output.clear()
                self._blob.write(part)
            else:
                output += part
        if len(output) >= _OUTPUT:
            self._blob.write(output)
            output.clear()


def _content(entry: ListingEntry) -> tuple[Kind, int, int | None, str]:
    return entry.kind, entry.size, entry.crc32, entry.target
