"""The layer writer, with the standard library's tarfile and gzip as oracles."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tarfile
import zlib

import pytest

from afenv.errors import AfenvError
from afenv.layers import gzip_members, tar_header
from afenv.layers.listing import ListingEntry, read_listing, write_listing
from afenv.layers.writer import OWN_MEMBER

MTIME = 315532800
RANDOM = random.Random(1)
PATTERN = bytes(RANDOM.choices(b"abcdefgh\n", k=9973))
LONG_FOLDER = "/".join(["a-long-name-of-a-folder"] * 7)


def deflate(data, level=6):
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def mixed(size):
    """Content that is neither trivial nor random."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def write_deflated(layer, path, data, mode=0o644, **wrong):
    stream = wrong.get("stream", deflate(data))
    size = wrong.get("size", len(data))
    layer.writer.deflated(path, mode, size, wrong.get("crc32", zlib.crc32(data)), memoryview(stream))


def code_of(call, *arguments, **keywords):
    with pytest.raises(AfenvError) as caught:
        call(*arguments, **keywords)
    return caught.value.code


def test_every_kind_of_member_reads_back(layer):
    big = mixed(3_000_000)
    small = mixed(1000)
    writer = layer.writer
    writer.directory("etc", 0o750)
    writer.file("etc/empty", 0o600, b"")
    writer.file("etc/text", 0o644, b"hello\n")
    writer.symlink("lib", "usr/lib")
    writer.file("usr/bin/tool", 0o755, memoryview(b"#!/bin/sh\n"))
    writer.hardlink("usr/bin/same", "usr/bin/tool")
    write_deflated(layer, "usr/lib/big.so", big, 0o755)
    write_deflated(layer, "usr/lib/small.py", small)
    write_deflated(layer, "usr/lib/nothing.py", b"")
    writer.stream("var/stream", 0o640, len(big), [big[:100], memoryview(big)[100:70_000], big[70_000:]])
    assert layer.files() == {
        "etc/empty": (0o600, b""),
        "etc/text": (0o644, b"hello\n"),
        "usr/bin/tool": (0o755, b"#!/bin/sh\n"),
        "usr/lib/big.so": (0o755, big),
        "usr/lib/small.py": (0o644, small),
        "usr/lib/nothing.py": (0o644, b""),
        "var/stream": (0o640, big),
    }
    members = {member.name: member for member in layer.members()}
    assert list(members) == [
        *("etc", "etc/empty", "etc/text", "lib", "usr", "usr/bin", "usr/bin/tool", "usr/bin/same"),
        *("usr/lib", "usr/lib/big.so", "usr/lib/small.py", "usr/lib/nothing.py", "var", "var/stream"),
    ]
    assert members["lib"].issym()
    assert members["lib"].linkname == "usr/lib"
    assert members["usr/bin/same"].islnk()
    assert members["usr/bin/same"].linkname == "usr/bin/tool"
    assert members["etc"].mode == 0o750
    assert members["usr"].mode == 0o755
    for member in members.values():
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", MTIME)
        assert member.pax_headers == {}


@pytest.mark.parametrize(
    ("name", "kind", "target", "size", "mode"),
    [
        ("usr/bin/x", tarfile.REGTYPE, "", 12345, 0o755),
        ("usr/", tarfile.DIRTYPE, "", 0, 0o1777),
        ("lib", tarfile.SYMTYPE, "usr/lib", 0, 0o777),
        ("usr/b", tarfile.LNKTYPE, "usr/a", 0, 0o644),
        ("x" * 100, tarfile.REGTYPE, "", 8**11 - 1, 0o600),
        (LONG_FOLDER[:155].rstrip("/") + "/" + "y" * 100, tarfile.REGTYPE, "", 1, 0o644),
        ("l", tarfile.SYMTYPE, "t" * 100, 0, 0o777),
    ],
)
def test_headers_are_those_of_tarfile(name, kind, target, size, mode):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode, info.mtime = kind, target, size, mode, MTIME
    expected = info.tobuf(tarfile.USTAR_FORMAT)
    assert tar_header.header(name.encode(), mode, MTIME, kind, size, target.encode()) == expected


@pytest.mark.parametrize(
    "path",
    [
        "x" * 101,
        "x" * 300,
        f"{LONG_FOLDER}/{'n' * 101}",
        LONG_FOLDER + "/" + LONG_FOLDER,
        "usr/share/ü",
        "usr/" + "ü" * 90,
        "a" * 99 + "/é",
        "usr/" + b"\xff\xfe".decode("utf-8", "surrogateescape"),
    ],
)
def test_names_that_ustar_cannot_hold(layer, path):
    layer.writer.file(path, 0o644, b"content")
    layer.writer.symlink("link", path)
    members = {member.name: member for member in layer.members()}
    assert path in members
    assert members["link"].linkname == path
    assert layer.files()[path] == (0o644, b"content")


def test_names_around_the_limits_read_back(new_layer):
    for length in (*range(98, 103), *range(153, 158), *range(254, 259)):
        layer = new_layer()
        path = ("d" * 49 + "/") * 10
        path = path[: length - 1].rstrip("/").ljust(length, "e")
        layer.writer.file(path, 0o644, b"x")
        assert path in layer.files()


def test_a_size_beyond_octal_goes_into_a_pax_record():
    size = 8**11
    data = tar_header.header(b"huge", 0o644, MTIME, tar_header.FILE, size)
    with tarfile.open(fileobj=io.BytesIO(data + tar_header.END), mode="r:") as archive:
        assert archive.next().size == size


def test_set_id_bits_are_dropped_and_sticky_stays(layer):
    layer.writer.file("su", 0o4755, b"")
    layer.writer.directory("mail", 0o2775)
    layer.writer.directory("tmp", 0o1777)
    assert {member.name: member.mode for member in layer.members()} == {
        "su": 0o755,
        "mail": 0o775,
        "tmp": 0o1777,
    }


def test_a_folder_given_late_gets_its_mode(layer):
    layer.writer.file("root/x", 0o644, b"")
    layer.writer.directory("root", 0o700)
    layer.writer.directory("root", 0o755)
    modes = [(member.name, member.mode) for member in layer.members()]
    assert modes == [("root", 0o755), ("root/x", 0o644), ("root", 0o700)]
    assert [entry.mode for entry in layer.written.entries if entry.path == "root"] == [0o700]


def test_a_path_written_again(layer):
    writer = layer.writer
    data = mixed(OWN_MEMBER * 20)
    writer.package = "one"
    writer.file("a", 0o644, b"same")
    write_deflated(layer, "big", data)
    writer.symlink("l", "a")
    writer.hardlink("h", "a")
    writer.package = "two"
    writer.file("a", 0o644, b"same")
    write_deflated(layer, "big", data)
    writer.stream("big", 0o644, len(data), [data])
    writer.symlink("l", "a")
    writer.hardlink("h", "a")
    assert code_of(writer.file, "a", 0o644, b"else") == "E401"
    assert code_of(writer.file, "l", 0o644, b"else") == "E401"
    assert code_of(writer.symlink, "l", "b") == "E401"
    assert code_of(writer.directory, "a") == "E401"
    assert code_of(writer.stream, "big", 0o644, 3, [b"abc"]) == "E401"
    assert code_of(writer.file, "a/b", 0o644, b"") == "E401"
    assert code_of(writer.file, "l/b", 0o644, b"") == "E401"
    writer.directory("d")
    assert code_of(writer.file, "d", 0o644, b"") == "E401"
    with pytest.raises(AfenvError, match="one and two"):
        writer.file("a", 0o644, b"other")
    assert len(layer.members()) == 5


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b", ".."])
def test_paths_that_lead_elsewhere(layer, path):
    assert code_of(layer.writer.file, path, 0o644, b"") == "E304"
    assert code_of(layer.writer.symlink, path, "x") == "E304"


def test_a_hard_link_needs_its_target(layer):
    assert code_of(layer.writer.hardlink, "a", "b") == "E303"
    layer.writer.symlink("b", "c")
    assert code_of(layer.writer.hardlink, "a", "b") == "E303"


@pytest.mark.parametrize("size", [100, 200_000, 5_000_000])
def test_damaged_streams(new_layer, size):
    data = mixed(size)
    stream = deflate(data)
    faults = [
        {"crc32": 1},
        {"size": len(data) - 1},
        {"size": len(data) + 1},
        {"stream": stream[:-1]},
        {"stream": stream + b"\0"},
        {"stream": stream + stream},
        {"stream": b"\xff" * len(stream)},
        {"stream": b""},
    ]
    for fault in faults:
        assert code_of(write_deflated, new_layer(), "x", data, **fault) == "E303", fault


def test_a_bomb_is_noticed_before_it_expands(layer):
    bomb = deflate(bytes(50_000_000), 1)
    assert code_of(layer.writer.deflated, "x", 0o644, 1000, 0, memoryview(bomb)) == "E303"
    assert (
        code_of(layer.writer.deflated, "y", 0o644, 1000, 0, memoryview(deflate(bytes(3_000_000)))) == "E303"
    )


@pytest.mark.parametrize("chunks", [[b"ab"], [b"ab", b"cdef"], []])
def test_a_stream_of_the_wrong_length(layer, chunks):
    assert code_of(layer.writer.stream, "x", 0o644, 5, chunks) == "E303"


def test_bytes_do_not_depend_on_how_a_stream_is_cut(new_layer):
    data = mixed(1_500_000)
    results = set()
    for step in (1_500_000, 262_144, 65_537, 4096):
        layer = new_layer()
        layer.writer.file("before", 0o644, b"x" * 700)
        pieces = (data[at : at + step] for at in range(0, len(data), step))
        layer.writer.stream("s", 0o644, len(data), pieces)
        layer.tar()
        results.add(layer.blob.digest())
    layer = new_layer()
    layer.writer.file("before", 0o644, b"x" * 700)
    layer.writer.file("s", 0o644, data)
    layer.tar()
    results.add(layer.blob.digest())
    assert len(results) == 1


def test_a_sizeable_stream_is_copied_and_a_short_one_is_not(layer):
    big = RANDOM.randbytes(OWN_MEMBER)
    short = mixed(2000)
    write_deflated(layer, "big", big)
    write_deflated(layer, "short", short)
    layer.tar()
    assert deflate(big) in layer.blob.data
    assert deflate(short) not in layer.blob.data
    assert layer.blob.data.count(gzip_members.HEADER) == 3


def test_the_blob_is_written_in_bounded_pieces(layer):
    for number in range(300):
        layer.writer.file(f"f{number}", 0o644, RANDOM.randbytes(20_000))
    layer.tar()
    assert layer.blob.longest < 1_000_000


def test_gzip_and_zcat_read_it(layer):
    for number in range(50):
        write_deflated(layer, f"d/{number}", mixed(30_000 + number))
    expected = layer.tar()
    zcat = shutil.which("zcat")
    if zcat is not None:
        assert subprocess.run([zcat], input=bytes(layer.blob.data), capture_output=True).stdout == expected
    assert zlib.decompressobj(31).decompress(bytes(layer.blob.data)).startswith(b"d/")


def test_listing_of_what_was_written(layer, store):
    layer.writer.package = "p"
    layer.writer.file("b/ü", 0o755, b"abc")
    layer.writer.stream("a", 0o644, 3, [b"abc"])
    layer.writer.symlink("l", "b")
    layer.writer.hardlink("h", "a")
    layer.tar()
    digest = write_listing(store, layer.written.entries)
    crc32 = zlib.crc32(b"abc")
    assert list(read_listing(store, digest)) == [
        ListingEntry("a", "f", 0o644, 3, crc32, "", "p"),
        ListingEntry("b", "d", 0o755),
        ListingEntry("b/ü", "f", 0o755, 3, crc32, "", "p"),
        ListingEntry("h", "h", 0o644, 0, None, "a", "p"),
        ListingEntry("l", "l", 0o777, 0, None, "b", "p"),
    ]
    assert write_listing(store, reversed(layer.written.entries)) == digest
    assert list(read_listing(store, write_listing(store, []))) == []
