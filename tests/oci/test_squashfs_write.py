"""Squashfs as it is written here, read back by the reader, which takes nothing on trust."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci.squashfs import Squashfs
from afenv.oci.squashfs_blocks import Compressor
from afenv.oci.squashfs_contents import ContentPacker
from afenv.oci.squashfs_inodes import BLOCK_DEVICE, DEVICE, FILE, FOLDER, LINK, PIPE, Node
from afenv.oci.squashfs_write import BLOCK, SquashfsWriter

TIME = 1_700_000_000
NOISE = random.Random(1).randbytes(3 * BLOCK + 17)  # does not become smaller


def node(kind: int, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 5) -> Node:
    return Node(kind, mode, uid, gid, mtime)


def written(path: Path, files: dict[bytes, bytes], *, offset: int = 0) -> SquashfsWriter:
    """An image of folders (what ends with a slash) and files."""
    with path.open("w+b") as file:
        file.seek(offset)
        writer = SquashfsWriter(file, level=3, time=TIME)
        for name, content in files.items():
            if name.endswith(b"/"):
                writer.add(name[:-1], node(FOLDER, 0o755))
            else:
                pieces = (memoryview(content)[at : at + 70_000] for at in range(0, len(content), 70_000))
                writer.add_file(name, node(FILE), len(content), pieces)
        writer.finish()
    return writer


def read(path: Path, offset: int = 0) -> dict[bytes, str]:
    with Squashfs.open(path, offset) as image:
        return {
            entry.path.encode("utf-8", "surrogateescape"): entry.sha256
            for entry in image.entries(contents=True)
            if entry.kind == "f"
        }


def digests(files: dict[bytes, bytes]) -> dict[bytes, str]:
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if not name.endswith(b"/")
    }


SIZES = (0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 17)


def hard_files() -> dict[bytes, bytes]:
    """Files of all sizes, that compress and do not, with holes, with one content, in large folders."""
    files: dict[bytes, bytes] = {b"deep/": b""}
    for size in SIZES:
        files[b"noise%d" % size] = NOISE[:size]
        files[b"text%d" % size] = (b"some text, again and again\n" * 20_000)[:size]
        files[b"zero%d" % size] = bytes(size)
    files[b"hole"] = NOISE[:BLOCK] + bytes(2 * BLOCK) + NOISE[:5]
    files[b"ends with a hole"] = NOISE[:BLOCK] + bytes(BLOCK)
    files[b"large"] = NOISE * 8
    files[b"again"] = NOISE[: 3 * BLOCK + 17]
    files["ünïcode \udcff".encode("utf-8", "surrogateescape")] = b"name"
    files[b"x" * 255] = b"long"
    path = b""
    for depth in range(60):
        path += b"%s%d" % (b"/" if path else b"", depth)
        files[b"deep/" + path + b"/"] = b""
    files[b"deep/" + path + b"/file"] = b"down here"
    files[b"many/"] = b""
    for number in range(3000):
        files[b"many/a long enough name to fill the listing %05d" % number] = b"%d" % (number % 7)
    return files


def test_files_of_all_kinds_come_back(tmp_path: Path) -> None:
    files = hard_files()
    written(tmp_path / "one", files)
    assert read(tmp_path / "one") == digests(files)
    written(tmp_path / "moved", files, offset=4096)
    assert (tmp_path / "moved").read_bytes()[4096:] == (tmp_path / "one").read_bytes()
    assert read(tmp_path / "moved", 4096) == digests(files)
    # a content that is there already costs no more than its name
    written(tmp_path / "more", {**files, b"once more": files[b"again"], b"and": files[b"text%d" % BLOCK]})
    assert (tmp_path / "more").stat().st_size - (tmp_path / "one").stat().st_size <= 4096


def test_contents_do_not_depend_on_the_threads() -> None:
    files = {name: content for name, content in hard_files().items() if not name.endswith(b"/")}
    packed = []
    for threads in (0, 1, 5):
        data: list[bytes] = []
        packer = ContentPacker(lambda block, data=data: data.append(bytes(block)), level=3, threads=threads)
        contents = [packer.add(name, len(content), [memoryview(content)]) for name, content in files.items()]
        packer.end()
        packer.close()
        places = [(one.start, one.sizes, one.fragment, one.offset, one.digest) for one in contents]
        packed.append((b"".join(data), packer.fragments, places))
    assert packed[0] == packed[1] == packed[2]


def test_one_copy_of_equal_content(tmp_path: Path) -> None:
    other = NOISE[BLOCK:] + NOISE[:BLOCK]  # blocks of the same sizes, as none becomes smaller
    files = {
        b"small": NOISE[:1000],
        b"small again": NOISE[:1000],
        b"large": NOISE,
        b"other": other,
        b"between": b"text",
        b"again": NOISE,
        b"hole": bytes(2 * BLOCK) + NOISE,
        b"other end": NOISE[:-1] + b"!",
        b"hole again": bytes(2 * BLOCK) + NOISE,
        b"after": b"text",
        b"last": NOISE,  # longer than all tables
    }
    image = tmp_path / "image"
    written(image, files)
    assert read(image) == digests(files)
    once = len(NOISE)
    assert 4 * once < image.stat().st_size < 4 * once + 10_000
    written(tmp_path / "moved", files, offset=8192)
    assert (tmp_path / "moved").read_bytes()[8192:] == image.read_bytes()


@pytest.mark.skipif(not shutil.which("unsquashfs"), reason="squashfs-tools are not here")
def test_another_reader_sees_the_same(tmp_path: Path) -> None:
    files = hard_files()
    written(tmp_path / "image", files)
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-no-xattrs", "-d", tmp_path / "out", tmp_path / "image"],
        check=True,
        capture_output=True,
    )
    found = {}
    for place, _, names in os.walk(os.fsencode(tmp_path / "out")):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - bytes
            with open(path, "rb") as file:  # noqa: PTH123
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[os.path.relpath(path, os.fsencode(tmp_path / "out"))] = digest
    assert found == digests(files)


def test_what_is_no_file(tmp_path: Path) -> None:
    with (tmp_path / "image").open("w+b") as file:
        writer = SquashfsWriter(file, level=3, time=TIME)
        writer.add_file(b"bin/tool", node(FILE, 0o4755, 7, 8), 4, [memoryview(b"tool" + bytes(508))])
        writer.add_link(b"bin/same", b"bin/tool")
        link = node(LINK, 0o777)
        link.target = "où/est".encode()
        writer.add(b"link", link)
        for name, kind, number in ((b"dev/null", DEVICE, 0x103), (b"dev/disk", BLOCK_DEVICE, 0x100812)):
            device = node(kind, 0o666)
            device.rdev = number
            writer.add(name, device)
        writer.add(b"pipe", node(PIPE, 0o600))
        writer.add(b"bin", node(FOLDER, 0o1777, 3, 4, 9))  # what is in it was there before
        writer.finish()
    with Squashfs.open(tmp_path / "image") as image:
        found = {entry.path: entry for entry in image.entries(contents=True)}
        root = image.root()
    assert (root.mode, root.mtime) == (0o755, TIME)
    assert sorted(found) == ["bin", "bin/same", "bin/tool", "dev", "dev/disk", "dev/null", "link", "pipe"]
    tool = found["bin/tool"]
    assert (tool.mode, tool.uid, tool.gid, tool.size, tool.mtime) == (0o4755, 7, 8, 4, 5)
    assert found["bin/same"].sha256 == tool.sha256
    assert (found["bin"].mode, found["bin"].uid, found["bin"].mtime) == (0o1777, 3, 9)
    assert found["link"].target == "où/est"
    assert (found["dev/null"].kind, found["dev/null"].target) == ("c", "1:3")
    assert (found["dev/disk"].kind, found["dev/disk"].target) == ("b", "8:274")
    assert (found["pipe"].kind, found["pipe"].mode) == ("p", 0o600)


def test_what_cannot_be_in_an_image(tmp_path: Path) -> None:
    with (tmp_path / "image").open("w+b") as file:
        writer = SquashfsWriter(file, level=3, time=TIME)
        writer.add_file(b"file", node(FILE), 1, [memoryview(b"x")])
        for path in (b"file", b"file/below", b"n" * 257):
            with pytest.raises(AfenvError) as caught:
                writer.add(path, node(PIPE))
            assert caught.value.code == "E510"
        for size in (10, BLOCK, 3 * BLOCK):
            with pytest.raises(AfenvError, match="ends too early"):
                writer.add_file(b"cut%d" % size, node(FILE), size, [memoryview(b"only this")])


def test_a_compressor_that_fails_says_so() -> None:
    compressor = Compressor(3, 1)
    compressor.give("no bytes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        compressor.take()
    compressor.close()


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, 47} and name not in (b".", b"..")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=20), st.integers(0, 3))
def test_any_names_and_contents(tmp_path: Path, files: dict[bytes, bytes], depth: int) -> None:
    folder = b"/".join(b"%d" % number for number in range(depth))
    placed = {(folder + b"/" if folder else b"") + b"_" + name: content for name, content in files.items()}
    written(tmp_path / "image", placed)
    assert read(tmp_path / "image") == digests(placed)
