"""Layers packed for squashfs: their members and their compressed contents, kept in the store.

An image is put together from them without inflating or compressing a layer again, whatever the layers above
it hide. What is kept for a layer is one blob::

    contents    blocks and fragments, one after the other
    members     JSON, compressed with zstd: fragments and members

Its key is made from the digest of the layer's own blob, the level and version of zstd, and :data:`FORM`; the
value is ``[digest, size, where the members begin]``. The bytes do not depend on the host.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci.model import ImageLayer
from afenv.oci.read import OpenedImage
from afenv.oci.squashfs_blocks import unzstd, zstd
from afenv.oci.squashfs_contents import Content, ContentPacker
from afenv.oci.tar_stream import (
    FILES,
    GNU_SPARSE,
    SPARSE_NAME,
    TarMember,
    TarStream,
    chunks_read,
    field_text,
    number,
    owners,
    pax_number,
)
from afenv.store.content import ContentStore
from afenv.store.parallel import for_each
from afenv.store.partial import Stopped

FORM = 1  # of what is kept: another number where the same layer gives other bytes
KIND = "squashfs-layer"
_FATAL = ("E402", "E403", "E510")
_XATTR = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl.")


class PackedMember:
    """A member as squashfs needs it; the ``content`` of a file has its place in ``layer``.

    ``unfit`` is why squashfs is not written here for it, mostly empty.
    """

    __slots__ = (
        *("content", "gid", "kind", "layer", "mode", "mtime", "path", "rdev", "target", "uid", "unfit"),
    )

    def __init__(
        self, path: bytes, kind: bytes, mode: int, uid: int, gid: int, mtime: int, target: bytes = b""
    ) -> None:
        self.path, self.kind, self.target = path, kind, target
        self.mode, self.uid, self.gid, self.mtime = mode, uid, gid, mtime
        self.rdev = 0
        self.unfit = ""
        self.content: Content | None = None
        self.layer: PackedLayer | None = None

    def rename(self, path: bytes) -> None:
        """Give it another path."""
        self.path = path


def plain_member(member: TarMember) -> tuple[PackedMember, int]:
    """A member without its content, and the size of that; E510 if the header cannot be understood."""
    head, records, kind = bytes(member.raw[-1]), member.records, member.kind
    mode, target = number(head[100:108]) & 0o7777, member.target
    if kind == b"2":
        mode, target = 0o777, records.get(b"linkpath") or field_text(head[157:257])
    mtime = pax_number(records, b"mtime", number(head[136:148]))
    made = PackedMember(member.path, kind, mode, *owners(head, records), mtime, target)
    if kind in (b"3", b"4"):
        major, minor = number(head[329:337]), number(head[337:345])
        made.rdev = major << 8 | minor & 0xFF | (minor & ~0xFF) << 12
    for key in records:
        if key.startswith(_XATTR):
            made.unfit = "extended attributes"
        elif key.startswith(SPARSE_NAME[:11]):
            made.unfit = "a sparse file"
    if kind == GNU_SPARSE:
        made.unfit = "a sparse file"
    return made, pax_number(records, b"size", number(head[124:136]))


class PackedLayer:
    """A layer that is packed, in the store.

    ``fragments`` say where each begins and its size as squashfs has it; they are known once members are.
    """

    def __init__(self, path: Path, members_at: int) -> None:
        self._path = path
        self._members_at = members_at
        self.fragments: list[tuple[int, int]] = []
        self.packed: list[PackedMember] | None = None  # its members, where this process has packed it

    def open(self) -> BinaryIO:
        """The blob; places in it are those of the layer's contents and fragments."""
        return self._path.open("rb", buffering=0)

    def members(self) -> list[PackedMember]:
        """All members, in the order of the layer, to be used up: whoever merges them may rename them."""
        if self.packed is not None:
            packed, self.packed = self.packed, None
            return packed
        with self._path.open("rb") as file:
            file.seek(self._members_at)
            value = json.loads(unzstd(file.read()))
        self.fragments = [(at, size) for at, size in value["fragments"]]
        return [self._member(*row) for row in value["members"]]

    def _member(  # as in _row
        self, path: str, kind: str, numbers: list[int], target: str, unfit: str, content: list[Any] | None
    ) -> PackedMember:
        mode, uid, gid, mtime, rdev = numbers
        member = PackedMember(_bytes(path), kind.encode(), mode, uid, gid, mtime, _bytes(target))
        member.rdev, member.unfit, member.layer = rdev, unfit, self
        if content is not None:
            made = member.content = Content(content[0])
            if len(content) == 3:
                made.start, made.sizes = content[1:]
            elif len(content) == 4:
                made.fragment, made.offset = content[1:3]
                made.digest = bytes.fromhex(content[3])
        return member


def _row(member: PackedMember) -> list[Any]:
    numbers = [member.mode, member.uid, member.gid, member.mtime, member.rdev]
    content: list[Any] | None = None
    if (found := member.content) is not None:
        content = [found.size]
        if found.digest:
            content += [found.fragment, found.offset, found.digest.hex()]
        elif found.sizes:
            content += [found.start, found.sizes]
    return [_text(member.path), member.kind.decode(), numbers, _text(member.target), member.unfit, content]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def packed_layers(
    opened: OpenedImage,
    store: ContentStore,
    scratch: Path,
    *,
    level: int,
    threads: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[PackedLayer]:
    """The layers of an image, packed: those that the store has, and the others, which it then has.

    Layers are packed side by side, the largest first. ``advance`` is told the stored size of each that is
    there. Where the store cannot be written, what it lacks goes into the folder ``scratch``. E510 if a layer
    is damaged, E402 or E403 if its place cannot take it.
    """
    into = store if os.access(store.folder, os.W_OK) else ContentStore(scratch)
    layers = opened.image.layers
    found: list[PackedLayer | None] = [None] * len(layers)
    missing: dict[str, list[int]] = {}  # positions by the digest of the layer, as it may be there twice
    for position, layer in enumerate(layers):
        found[position] = _kept(store, layer, level)
        if found[position] is None:
            missing.setdefault(layer.digest, []).append(position)
        else:
            advance(layer.size)
    todo = sorted(missing.values(), key=lambda positions: -layers[positions[0]].size)
    helpers = threads // len(todo) if 0 < len(todo) < threads else 0

    def work(positions: list[int], stop: Event) -> None:
        packed = _pack(opened, positions[0], into, level, helpers, stop)
        for position in positions:
            found[position] = packed
            advance(layers[position].size)

    problems = for_each(todo, work, threads=threads, name="packing", fatal=_FATAL)
    if problems:
        raise AfenvError.many([problems[min(problems)]])
    return [layer for layer in found if layer is not None]


def _key(layer: ImageLayer, level: int) -> str:
    import zstandard

    value = {"layer": layer.digest, "form": FORM, "zstd": list(zstandard.ZSTD_VERSION), "level": level}
    return sha256_bytes(canonical.compact(value))


def _kept(store: ContentStore, layer: ImageLayer, level: int) -> PackedLayer | None:
    value = store.load_key(KIND, _key(layer, level))
    if value is None:
        return None
    digest, size, members_at = value
    return PackedLayer(store.path(digest), members_at) if store.trusted(digest, size) else None


def _pack(
    opened: OpenedImage, position: int, store: ContentStore, level: int, helpers: int, stop: Event
) -> PackedLayer:
    layer = opened.image.layers[position]
    with opened.layer(position, buffered=False) as stream, store.writer(durable=False) as writer:
        packer = ContentPacker(writer.write, level=level, threads=helpers)
        try:
            members = []
            for member in TarStream(chunks_read(stream)).members():
                if stop.is_set():
                    raise Stopped
                made, size = plain_member(member)
                if made.kind in FILES:
                    made.content = packer.add(made.path, size, member.content())
                members.append(made)
            packer.end()
        finally:
            packer.close()
        value = {"fragments": packer.fragments, "members": [_row(member) for member in members]}
        members_at = writer.size
        writer.write(zstd(level)(json.dumps(value, separators=(",", ":")).encode()))
        size = writer.size
        digest = writer.commit()
    store.save_key(KIND, _key(layer, level), [digest, size, members_at])
    packed = PackedLayer(store.path(digest), members_at)
    packed.fragments, packed.packed = packer.fragments, members
    for one in members:
        one.layer = packed
    return packed
