"""Packing files into squashfs without other programs: with zstd, by :mod:`afenv.oci.squashfs_write`.

The files are those of :func:`afenv.oci.merge.merged_members`. Extended attributes and sparse files are not
written here: :class:`NotPackedError` says so, and one of the host's tools has to do it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from afenv.oci.squashfs_inodes import BLOCK_DEVICE, DEVICE, FILE, FOLDER, LINK, PIPE, Node
from afenv.oci.squashfs_write import SquashfsWriter
from afenv.oci.tar_stream import (
    FILES,
    GNU_LINK,
    GNU_SPARSE,
    PAX,
    SPARSE_NAME,
    TarMember,
    field_text,
    number,
    pax_records,
)
from afenv_builders.apptainer.packing import Packing

_KINDS = {b"2": LINK, b"3": DEVICE, b"4": BLOCK_DEVICE, b"5": FOLDER, b"6": PIPE}
_XATTR = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl.")


class NotPackedError(Exception):
    """The image has something that is not written here; the argument says what."""


def pack_members(members: Iterable[TarMember], output: Path, offset: int, packing: Packing) -> None:
    """Pack files into squashfs in ``output``, ``offset`` bytes from its start; nothing is there before.

    No file is later than the time of ``packing``; where that is still to come, all have it. Raises
    NotPackedError, OSError, and what the stream of members does.
    """
    time, ahead = packing.time, packing.ahead()
    with output.open("x+b", buffering=1 << 20) as file:
        file.seek(offset)
        writer = SquashfsWriter(file, level=packing.level, threads=packing.threads, time=time)
        try:
            for member in members:
                _add(writer, member, time, ahead)
            writer.finish()
        finally:
            writer.close()


def _add(writer: SquashfsWriter, member: TarMember, time: int, ahead: bool) -> None:
    head = bytes(member.raw[-1])
    kind = member.kind
    if kind == b"1":
        writer.add_link(member.path, member.target)
        return
    size, uid, gid = number(head[124:136]), number(head[108:116]), number(head[116:124])
    mtime = number(head[136:148])
    target = field_text(head[157:257]) if kind == b"2" else b""
    if len(member.raw) > 1:
        records, target = _records(member, target)
        size, uid, gid = (
            int(records.get(key, one)) for key, one in ((b"size", size), (b"uid", uid), (b"gid", gid))
        )
        mtime = int(float(records.get(b"mtime", mtime)))
        if kind == b"2":
            target = records.get(b"linkpath", target)
    node = Node(
        FILE if kind in FILES else _KINDS[kind],
        number(head[100:108]) & 0o7777 if kind != b"2" else 0o777,
        uid,
        gid,
        time if ahead else max(0, min(mtime, time)),
    )
    if kind in FILES:
        if kind == GNU_SPARSE:
            raise NotPackedError("a sparse file")
        writer.add_file(member.path, node, size, member.content())
        return
    node.target = target
    if kind in (b"3", b"4"):
        major, minor = number(head[329:337]), number(head[337:345])
        node.rdev = major << 8 | minor & 0xFF | (minor & ~0xFF) << 12
    writer.add(member.path, node)


def _records(member: TarMember, target: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """What stands before a member's own header, and the target of a link."""
    found: dict[bytes, bytes] = {}
    for before, body in zip(member.raw[:-1:2], member.raw[1::2], strict=True):
        kind, content = bytes(before[156:157]), bytes(body[: number(bytes(before[124:136]))])
        if kind == PAX:
            found |= pax_records(content)
        elif kind == GNU_LINK:
            target = field_text(content)
    for key in found:
        if key.startswith(_XATTR):
            raise NotPackedError("extended attributes")
        if key.startswith(SPARSE_NAME[:11]):
            raise NotPackedError("a sparse file")
    return found, target
