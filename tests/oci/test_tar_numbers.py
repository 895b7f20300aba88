"""Numbers in the headers of members that other tools wrote, for all who read them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.oci.files import merged
from afenv.oci.squashfs import Squashfs
from afenv.oci.squashfs_layers import plain_member
from afenv.oci.tar_node import node_of
from afenv.oci.tar_stream import TarStream
from afenv.oci.unpack import unpack_layers
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image
from afenv_builders.apptainer import ApptainerBuilder
from tests.oci.any_layers import opened


def tar_with(*, everywhere: Mapping[str, str] = {}, pax: Mapping[str, str] = {}, **header: int) -> bytes:
    """A tar of one file, whose pax records and header say this."""
    stream = io.BytesIO()
    form = tarfile.PAX_FORMAT if pax or everywhere else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=stream, mode="w", format=form, pax_headers=dict(everywhere)) as tar:
        information = tarfile.TarInfo("tool")
        information.size = 3
        information.pax_headers = dict(pax)
        for name, value in header.items():
            setattr(information, name, value)
        tar.addfile(information, io.BytesIO(b"abc"))
    return stream.getvalue()


def streamed(data: bytes) -> object:
    return next(TarStream(iter([data])).members())


def packed(data: bytes, folder: Path) -> tuple[int, int, int, int]:
    store = ContentStore(folder / "store")
    image = make_foreign_image(store, [data])
    ApptainerBuilder().build(
        image, store, {"target": "squashfs", "path": folder / "x.squashfs", "quiet": True}
    )
    with Squashfs.open(folder / "x.squashfs") as found:
        (entry,) = (entry for entry in found.entries(contents=True) if entry.path == "tool")
    member, _ = plain_member(streamed(data))  # all times of an image are one
    return entry.uid, entry.gid, member.mtime, entry.size


def unpacked(data: bytes, folder: Path) -> tuple[int, int, int, int]:
    store = ContentStore(folder / "store")
    unpack_layers(make_foreign_image(store, [data]).layers, store, folder, quiet=True)
    status = (folder / "tool").stat()
    return status.st_uid, status.st_gid, int(status.st_mtime), status.st_size


def listed(data: bytes, folder: Path) -> tuple[int, int, int, int]:
    store = ContentStore(folder / "store")
    entry = merged(opened(store, make_foreign_image(store, [data])))["tool"]
    return entry.uid, entry.gid, entry.mtime, entry.size


def as_node(data: bytes, folder: Path) -> tuple[int, int, int, int]:
    node = node_of(streamed(data))
    return node.uid, node.gid, node.mtime, node.size


READERS = (packed, unpacked, listed, as_node)
Reader = Callable[[bytes, Path], tuple[int, int, int, int]]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (tar_with(uid=7, gid=8, mtime=9), (7, 8, 9, 3)),
        (tar_with(uid=0xFFFFFFFE, gid=1 << 31, mtime=1 << 31), (0xFFFFFFFE, 1 << 31, 1 << 31, 3)),
        (tar_with(pax={"uid": "7", "gid": "8", "mtime": "9.75"}), (7, 8, 9, 3)),
        (tar_with(everywhere={"mtime": "9"}), (0, 0, 9, 3)),
        (tar_with(pax={"uid": "", "mtime": ""}), (0, 0, 0, 3)),
    ],
)
def test_what_they_say(tmp_path: Path, read: Reader, data: bytes, wanted: tuple[int, ...]) -> None:
    if read is unpacked and os.geteuid():
        wanted = (os.geteuid(), os.getegid(), *wanted[2:])
    assert read(data, tmp_path) == wanted


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        tar_with(pax={"uid": str(1 << 33)}),
        tar_with(pax={"gid": str(0xFFFFFFFF)}),
        tar_with(uid=1 << 33),
        tar_with(pax={"size": "-3"}),
        tar_with(pax={"mtime": "nan"}),
        tar_with(pax={"mtime": "inf"}),
    ],
)
def test_what_linux_does_not_have(tmp_path: Path, read: Reader, data: bytes) -> None:
    with pytest.raises(AfenvError) as caught:
        read(data, tmp_path)
    assert caught.value.code == "E510"


@pytest.mark.parametrize("read", [packed, as_node])
@pytest.mark.parametrize("key", ["uid", "gid", "size", "mtime"])
@pytest.mark.parametrize("value", ["many", "1_0", "0x1", " ", "9" * 5000])
def test_what_is_no_number(tmp_path: Path, read: Reader, key: str, value: str) -> None:
    with pytest.raises(AfenvError) as caught:
        read(tar_with(pax={key: value}), tmp_path)
    assert caught.value.code == "E510"
    assert f"the {key} in a pax record is" in str(caught.value)
    assert len(str(caught.value)) < 400
