"""Reading squashfs: images of a real packer, and damaged ones."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci.squashfs import SUPER, Squashfs, SuperBlock

FOLDER = Path(__file__).with_name("squashfs")
COMPRESSORS = ("gzip", "xz", "zstd", "plain")
TIME = 1_000_000_000


def entries(path: Path, offset: int = 0, size: int | None = None, **options):
    with Squashfs.open(path, offset, size) as image:
        return {entry.path: entry for entry in image.entries(contents=True, **options)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_everything_in_an_image(compressor):
    found = entries(FOLDER / f"{compressor}.squashfs")
    assert len(found) == 12 + 400
    small = found["folder/small"]
    assert (small.kind, small.mode, small.uid, small.gid, small.size) == ("f", 0o640, 1000, 1, 6)
    assert (small.mtime, small.sha256, small.xattrs) == (
        TIME,
        sha256(b"small\n"),
        (("user.note", "a value"),),
    )
    assert found["folder/same"].sha256 == small.sha256
    assert found["folder"].mode == 0o711
    assert found["large"].sha256 == sha256(b"large " * 50_000)
    assert found["zeros"].sha256 == sha256(bytes(300_000))
    assert found["empty"].sha256 == sha256(b"")
    assert (found["link"].kind, found["link"].target, found["link"].mode) == ("l", "../somewhere", 0o777)
    assert [found[name].kind for name in ("pipe", "null", "disk")] == ["p", "c", "b"]
    assert (found["null"].target, found["disk"].target) == ("1:3", "8:300")
    assert found["ü"].uid == 1000


def test_forms_of_one_tree_are_equal():
    first, *rest = (entries(FOLDER / f"{name}.squashfs") for name in COMPRESSORS)
    assert all(found == first for found in rest)


def test_the_root():
    with Squashfs.open(FOLDER / "zstd.squashfs") as image:
        root = image.root()
    assert (root.path, root.kind, root.mode, root.mtime) == ("", "d", 0o755, TIME)


def test_a_folder_comes_before_what_is_in_it():
    with Squashfs.open(FOLDER / "zstd.squashfs") as image:
        paths = [entry.path for entry in image.entries()]
    assert paths.index("folder") < paths.index("folder/small")


def test_contents_that_are_kept():
    found = entries(FOLDER / "zstd.squashfs", keep=lambda path: path in ("large", "folder/small"))
    assert found["folder/small"].content == b"small\n"
    assert found["large"].content == b"large " * 50_000
    assert found["zeros"].content is None


def test_an_image_inside_a_file(tmp_path):
    path = tmp_path / "inside"
    image = (FOLDER / "gzip.squashfs").read_bytes()
    path.write_bytes(b"x" * 777 + image + b"y" * 99)
    assert entries(path, 777, len(image)) == entries(FOLDER / "gzip.squashfs")


def refused(path: Path, **options) -> str:
    with pytest.raises(AfenvError) as caught:
        entries(path, **options)
    assert caught.value.code == "E510"
    return str(caught.value)


def changed(tmp_path: Path, **fields: object) -> Path:
    data = (FOLDER / "zstd.squashfs").read_bytes()
    head = SuperBlock(*SUPER.unpack(data[: SUPER.size]))._replace(**fields)
    path = tmp_path / "changed"
    path.write_bytes(SUPER.pack(*head) + data[SUPER.size :])
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magic": b"sqsh"}, "big-endian"),
        ({"magic": b"what"}, "magic number"),
        ({"major": 3}, "version 3.0"),
        ({"compressor": 3}, "compressed with lzo"),
        ({"compressor": 99}, "compressed with 99"),
        ({"compressor": 1}, "cannot be decompressed"),
        ({"block_log": 40}, "its blocks have"),
        ({"block_size": 1000}, "its blocks have"),
        ({"size": 1 << 40}, "cut off"),
        ({"inode_table": 1 << 50}, "not in order"),
        ({"inode_table": 0}, "not in order"),
        ({"directory_table": 1}, "not in order"),
        ({"id_table": 1 << 60}, "it ends at"),
        ({"ids": 60_000}, "it ends at|no content|ends too early"),
        ({"fragments": 1 << 31}, "has 34359738368 bytes"),
        ({"root": 1 << 40}, "where there is no block"),
        ({"root": 0}, "a folder is in itself, or is no folder"),
    ],
)
def test_super_blocks_that_cannot_be(tmp_path, fields, message):
    import re

    assert re.search(message, refused(changed(tmp_path, **fields)))


@pytest.mark.parametrize("keep", [0, 3, 50, 96, 200, 1000, -1, -8, -100])
def test_images_that_are_cut_off(tmp_path, keep):
    path = tmp_path / "cut"
    path.write_bytes((FOLDER / "zstd.squashfs").read_bytes()[:keep])
    refused(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AfenvError) as caught:
        entries(tmp_path / "none")
    assert caught.value.code == "E001"


def test_a_bomb_is_not_inflated(tmp_path):
    """A metadata block that would become larger than such blocks are."""
    import zlib

    data = bytearray((FOLDER / "gzip.squashfs").read_bytes())
    head = SuperBlock(*SUPER.unpack(data[: SUPER.size]))
    bomb = zlib.compress(bytes(1 << 16), 9)
    at = head.inode_table
    data[at : at + 2 + len(bomb)] = struct.pack("<H", len(bomb)) + bomb
    path = tmp_path / "bomb"
    path.write_bytes(data)
    assert "holds more than it may" in refused(path)


def test_a_block_that_holds_less_than_its_files(tmp_path):
    data = bytearray((FOLDER / "plain.squashfs").read_bytes())
    head = SuperBlock(*SUPER.unpack(data[: SUPER.size]))
    (at,) = struct.unpack_from("<Q", data, head.fragment_table)
    (size,) = struct.unpack_from("<I", data, at + 2 + 8)
    struct.pack_into("<I", data, at + 2 + 8, size - 1)
    path = tmp_path / "short"
    path.write_bytes(data)
    assert "lies beyond its block" in refused(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["zstd", "plain", "plain", "plain"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
def test_any_damage(tmp_path, compressor, changes, tables):
    """Whatever bytes are changed, the image is read or refused in one sentence."""
    data = bytearray((FOLDER / f"{compressor}.squashfs").read_bytes())
    head = SuperBlock(*SUPER.unpack(data[: SUPER.size]))
    start = head.inode_table if tables else 0
    for place, value in changes:
        data[start + int(place * (len(data) - start))] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        entries(path)
    except AfenvError as error:
        assert error.code == "E510"
