"""Layers whose compressed stream or tar is damaged, for all who read them."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from afenv.errors import AfenvError
from afenv.oci.archive import write_archive
from afenv.oci.blobs import decompressed
from afenv.oci.check import layer_problems
from afenv.oci.files import merged
from afenv.oci.merge import TarLayers, merged_members, tar_of
from afenv.oci.read import OpenedImage, open_image
from afenv.oci.unpack import unpack_layers
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image, make_image
from afenv.workflow.check import declared_of
from tests.oci.any_layers import opened


def unpack(image: OpenedImage, folder: Path) -> None:
    root = folder / "root"
    root.mkdir()
    unpack_layers(image.image.layers, image.blobs, root, quiet=True)


READERS: dict[str, Callable[[OpenedImage, Path], object]] = {
    "merged": lambda image, _: merged(image),
    "streamed": lambda image, _: b"".join(tar_of(merged_members(TarLayers(image)))),
    "unpacked": unpack,
    "declared": lambda image, folder: declared_of(image, ContentStore(folder / "store"), True),
}


@pytest.fixture(params=READERS)
def code_of(request, store, tmp_path) -> Callable[[bytes], str]:
    """The code of the error with which a reader refuses a layer, whose blob is given."""

    def code(blob: bytes) -> str:
        image = opened(store, make_foreign_image(store, [blob], compression=""))
        with pytest.raises(AfenvError) as caught:
            READERS[request.param](image, tmp_path)
        return caught.value.code

    return code


def header(kind: bytes, size: int = 0, name: str = "x", **more: bytes) -> bytes:
    information = tarfile.TarInfo(name)
    information.type, information.size = kind, size
    head = bytearray(information.tobuf(tarfile.GNU_FORMAT))
    for at, text in more.items():
        head[int(at[1:]) : int(at[1:]) + len(text)] = text
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def with_record(kind: bytes, body: bytes, *, rest: bytes = b"") -> bytes:
    """A member of an extended kind with its content, then a file and the end."""
    return header(kind, len(body)) + body + bytes(-len(body) % 512) + (rest or header(b"0")) + bytes(1024)


TAR = b"".join(
    header(b"0", 3000, f"file-{number}") + random.Random(number).randbytes(3000).ljust(3072, b"\0")
    for number in range(60)
) + bytes(10240)
FRAMES = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 50]) + data[at + 50 :]


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(gzip.compress(TAR, mtime=0)[:-20], id="gzip, cut"),
        pytest.param(flipped(gzip.compress(TAR, mtime=0)), id="gzip, changed"),
        pytest.param(gzip.compress(TAR, mtime=0)[:10] + b"\xff" * 600, id="gzip, no deflate"),
        pytest.param(FRAMES.compress(TAR)[:30], id="zstd, of which nothing is whole"),
        pytest.param(FRAMES.compress(TAR)[:-2], id="zstd, without its checksum"),
        pytest.param(FRAMES.compress(TAR[:3584]) + FRAMES.compress(TAR)[:9], id="zstd, cut in another frame"),
        pytest.param(flipped(FRAMES.compress(TAR)), id="zstd, changed"),
        pytest.param(FRAMES.compress(TAR) + b"junk, and more of it", id="zstd, followed by something"),
    ],
)
def test_a_damaged_stream(code_of, blob):
    assert code_of(blob) == "E510"


@pytest.mark.parametrize("buffered", [True, False])
def test_every_cut_of_a_zstd_stream_is_noticed(buffered):
    whole = FRAMES.compress(b"one" * 999) + b"\x51\x2a\x4d\x18\x05\0\0\0-----" + FRAMES.compress(b"two")
    ends = {0, len(FRAMES.compress(b"one" * 999)), len(whole) - len(FRAMES.compress(b"two")), len(whole)}
    for length in range(4, len(whole) + 1):
        with decompressed(io.BytesIO(whole[:length]), buffered=buffered) as stream:
            if length in ends:
                assert stream.read().startswith(b"oneone")
            else:
                with pytest.raises((EOFError, zstandard.ZstdError)):
                    while stream.read(1000):
                        pass


@pytest.mark.parametrize(
    "frames",
    [
        [zstandard.compress(TAR)],
        [FRAMES.compress(TAR[:5000]), FRAMES.compress(b""), FRAMES.compress(TAR[5000:])],
        [FRAMES.compress(TAR[:-10240]), zstandard.ZstdCompressor(level=19).compress(TAR[-10240:])],
    ],
)
def test_a_whole_zstd_stream(frames):
    with decompressed(io.BytesIO(b"".join(frames))) as stream:
        assert stream.read() == TAR


@pytest.mark.parametrize("blob", [flipped(gzip.compress(TAR, mtime=0)), flipped(FRAMES.compress(TAR))])
def test_a_layer_that_was_damaged_before_its_digest_was_taken(store, blob):
    image = opened(store, make_foreign_image(store, [blob], compression=""))
    assert {problem.code for problem in layer_problems(image)} == {"E510"}


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), FRAMES.compress])
def test_an_archive_that_is_damaged_as_a_whole(store, tmp_path, pack):
    stream = io.BytesIO()
    write_archive(make_image(store), store, stream)
    packed = pack(stream.getvalue())
    for data in (flipped(packed), packed[: len(packed) // 2]):
        (tmp_path / "image.tar").write_bytes(data)
        with pytest.raises(AfenvError, match="E510"), open_image(tmp_path / "image.tar"):
            pass


@pytest.mark.parametrize(
    "tar",
    [
        pytest.param(with_record(b"x", b"29 GNU.sparse.map=0,5,twelve\n"), id="a map that has words"),
        pytest.param(header(b"S", b386=b"00000000000\0" * 2, b482=b"\1"), id="a map that is cut off"),
        pytest.param(with_record(b"L", b"name\0", rest=header(b"L", 0) * 3000), id="thousands of names"),
    ],
)
@pytest.mark.parametrize("name", ["merged", "unpacked", "declared"])
def test_a_tar_that_has_no_meaning(store, tmp_path, tar, name):
    image = opened(store, make_foreign_image(store, [tar], compression=""))
    with pytest.raises(AfenvError, match="E510"):
        READERS[name](image, tmp_path)


def test_a_link_to_a_name_that_cannot_be(store, tmp_path):
    tar = with_record(b"x", b"16 linkpath=a\0b\n", rest=header(b"2"))
    with pytest.raises(AfenvError, match="E510"):
        unpack(opened(store, make_foreign_image(store, [tar])), tmp_path)


@pytest.mark.parametrize("depth", [600, 2100, 400_000])
def test_a_path_that_linux_has_no_room_for(store, tmp_path, depth):
    image = opened(store, make_foreign_image(store, [with_record(b"L", b"a/" * depth + b"f\0")]))
    for name in ("merged", "streamed", "unpacked"):
        with pytest.raises(AfenvError, match="E510"):
            READERS[name](image, tmp_path)


def test_a_deep_path(store, tmp_path):
    path = "a/" * 500 + "f"
    image = opened(store, make_foreign_image(store, [with_record(b"L", path.encode() + b"\0")]))
    assert path in merged(image)
    READERS["streamed"](image, tmp_path)
    unpack(image, tmp_path)
    assert (tmp_path / "root" / path).is_file()
