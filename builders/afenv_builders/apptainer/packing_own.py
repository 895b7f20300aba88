"""Packing an image into squashfs without other programs: with zstd, from packed layers.

The files are those of :func:`afenv.oci.merge.merged_members`. Extended attributes and sparse files are not
written here: :class:`NotPackedError` says so, and one of the host's tools has to do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from afenv.oci.merge import Index, Present, merged_members, with_indexes
from afenv.oci.squashfs_inodes import BLOCK_DEVICE, DEVICE, FILE, FOLDER, LINK, PIPE, Node
from afenv.oci.squashfs_layers import PackedLayer, PackedMember, plain_member
from afenv.oci.squashfs_write import SquashfsWriter
from afenv.oci.tar_stream import FILES, TarMember
from afenv_builders.apptainer.packing import Packing

_KINDS = {b"2": LINK, b"3": DEVICE, b"4": BLOCK_DEVICE, b"5": FOLDER, b"6": PIPE}


class NotPackedError(Exception):
    """The image has something that is not written here; the argument says what."""


class _Layers:
    """The layers of an image, as the merge asks for them."""

    def __init__(self, layers: Sequence[PackedLayer]) -> None:
        self._layers = layers

    def __len__(self) -> int:
        return len(self._layers)

    @contextmanager
    def members(self, position: int) -> Iterator[Iterator[PackedMember]]:
        """The members of a layer."""
        yield iter(self._layers[position].members())


def pack_layers(
    packed: Sequence[PackedLayer],
    output: Path,
    offset: int,
    packing: Packing,
    *,
    first: Mapping[bytes, bytes],
    last: Callable[[Present], Mapping[bytes, bytes]],
) -> None:
    """Put an image together in ``output``, ``offset`` bytes from its start; a file that is there is replaced.

    ``first`` and ``last`` are as for :func:`~afenv.oci.merge.merged_members`. No file is later than the time
    of ``packing``; where that is still to come, all have it. Raises NotPackedError, OSError, and E510 if the
    layers say what has no meaning.
    """
    time, ahead = packing.time, packing.ahead()
    layers = _Layers(packed)

    def attempt(indexes: Mapping[int, Index]) -> None:
        with output.open("w+b") as file:
            file.seek(offset)
            writer = SquashfsWriter(file, level=packing.level, time=time)
            for member in merged_members(layers, first=first, last=last, indexes=indexes):
                _add(writer, member, time, ahead)
            writer.finish()

    with_indexes(layers, attempt)


def _add(writer: SquashfsWriter, member: PackedMember | TarMember, time: int, ahead: bool) -> None:
    kind, path = member.kind, member.path
    if kind == b"1":
        writer.add_link(path, member.target)
        return
    found, size = plain_member(member) if isinstance(member, TarMember) else (member, 0)
    if found.unfit:
        raise NotPackedError(found.unfit)
    mtime = time if ahead else max(0, min(found.mtime, time))
    node = Node(FILE if kind in FILES else _KINDS[kind], found.mode, found.uid, found.gid, mtime)
    if isinstance(member, TarMember):
        if kind in FILES:
            writer.add_file(path, node, size, member.content())
            return
    elif member.content is not None and member.layer is not None:
        writer.add_content(path, node, member.content, member.layer)
        return
    node.target, node.rdev = found.target, found.rdev
    writer.add(path, node)
