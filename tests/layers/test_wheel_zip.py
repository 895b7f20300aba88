"""Zip archives: zipfile as the oracle for good ones, and archives that lie."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from afenv.errors import AfenvError
from afenv.layers import zip_archive
from afenv.layers.zip_archive import DEFLATED, STORED, ZipArchive, map_zip, write_zip


def make(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data, **options)
    return buffer.getvalue()


def read(data):
    return ZipArchive(memoryview(bytes(data)), "test.whl")


def code_of(data):
    with pytest.raises(AfenvError) as caught:
        read(data)
    assert caught.value.problems[0].place == "test.whl"
    return caught.value.code


class NotSeekable(io.RawIOBase):
    """Makes zipfile write data descriptors after the entries."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


FILES = {"a/b.py": b"print()\n" * 500, "empty": b"", "ü.txt": "ü".encode(), "folder/": b""}


def test_reads_what_zipfile_wrote():
    data = make(FILES)
    archive = read(data)
    with zipfile.ZipFile(io.BytesIO(data)) as expected:
        assert {
            info.filename: (info.file_size, info.CRC, info.external_attr >> 16)
            for info in expected.infolist()
            if not info.is_dir()
        } == {entry.name: (entry.size, entry.crc32, entry.mode) for entry in archive.entries.values()}
        for name in archive.entries:
            assert archive.read(name) == expected.read(name)
    assert archive.read("nowhere") is None


def test_stored_entries_and_comments_and_data_descriptors():
    stored = read(make(FILES, compress_type=zipfile.ZIP_STORED))
    assert stored.entries["a/b.py"].method == STORED
    assert bytes(stored.content(stored.entries["a/b.py"])) == FILES["a/b.py"]
    stream = NotSeekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment " * 100
        for name, content in FILES.items():
            archive.writestr(name, content)
    described = read(stream.data)
    assert {name: described.read(name) for name in described.entries} == {
        name: content for name, content in FILES.items() if not name.endswith("/")
    }


def test_zip64(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    data = make({f"{number}/" + "n" * 30: b"x" * number * 200 for number in range(10)})
    assert b"PK\6\6" in data
    archive = read(data)
    assert len(archive.entries) == 10
    for name in archive.entries:
        assert archive.read(name) == b"x" * int(name.split("/")[0]) * 200


def test_more_entries_than_a_short_number_holds():
    data = b"".join(write_zip((f"f{number}", STORED, 0, 0, b"") for number in range(66_000)))
    assert len(read(data).entries) == 66_000
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 66_000


def test_zipfile_reads_what_is_written():
    content = b"some content" * 1000
    compressor = zlib.compressobj(wbits=-15)
    stream = compressor.compress(content) + compressor.flush()
    crc32 = zlib.crc32(content)
    files = [("/a/ü.py", STORED, len(content), crc32, content), ("b", DEFLATED, len(content), crc32, stream)]
    data = b"".join(write_zip(files))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("/a/ü.py") == content
        assert archive.read("b") == content
    assert read(data).read("b") == content


def patched(data, signature, offset, value):
    at = data.index(signature) + offset
    return data[:at] + value + data[at + len(value) :]


CENTRAL = b"PK\1\2"
LOCAL = b"PK\3\4"
END = b"PK\5\6"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"no archive at all", id="something-else"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut"),
        pytest.param(lambda data: data[10:], id="start-missing"),
        pytest.param(lambda data: b"prefix" + data, id="moved"),
        pytest.param(lambda data: patched(data, END, 10, b"\x09\0"), id="count"),
        pytest.param(lambda data: patched(data, END, 16, b"\xff\xff\xff\0"), id="directory-elsewhere"),
        pytest.param(lambda data: patched(data, END, 16, b"\xff\xff\xff\xff"), id="zip64-without-record"),
        pytest.param(lambda data: patched(data, CENTRAL, 0, b"PK\1\3"), id="directory-signature"),
        pytest.param(lambda data: patched(data, CENTRAL, 8, b"\1\0"), id="encrypted"),
        pytest.param(lambda data: patched(data, CENTRAL, 10, b"\x09\0"), id="deflate64"),
        pytest.param(lambda data: patched(data, CENTRAL, 10, b"\0\0"), id="stored-with-two-sizes"),
        pytest.param(lambda data: patched(data, CENTRAL, 20, b"\xff\xff\0\0"), id="overlap"),
        pytest.param(lambda data: patched(data, CENTRAL, 42, b"\xff\0\0\0"), id="local-header-elsewhere"),
        pytest.param(lambda data: patched(data, CENTRAL, 28, b"\xff\xff"), id="long-name"),
        pytest.param(lambda data: patched(data, CENTRAL, 46, b"x"), id="other-name"),
        pytest.param(lambda data: patched(data, LOCAL, 8, b"\0\0"), id="other-method"),
    ],
)
def test_archives_that_lie(damage):
    data = make({"a/b.py": b"print()\n" * 500, "c": b"c" * 100})
    read(data)
    assert code_of(damage(data)) == "E303"


@pytest.mark.parametrize("place", [1 << 63, (1 << 64) - 1])
def test_places_beyond_all_numbers(place):
    data = make({"a": b"content"})
    end = data.rindex(b"PK\5\6")
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)
    assert code_of(data[:end] + locator + data[end:]) == "E303"
    at = data.index(b"PK\1\2")
    directory = bytearray(data[at:end])
    directory[42:46] = b"\xff" * 4  # the offset stands in the extra field
    directory[30:32] = struct.pack("<H", 12)
    directory += struct.pack("<2HQ", 1, 8, place)
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<L", len(directory))
    assert code_of(data[:at] + directory + tail) == "E303"


def test_metadata_that_would_fill_the_memory():
    archive = read(
        make({"RECORD": bytes(zip_archive.LARGEST_READ + 1), "most": bytes(zip_archive.LARGEST_READ)})
    )
    assert len(archive.read("most")) == zip_archive.LARGEST_READ
    with pytest.raises(AfenvError, match="E303"):
        archive.read("RECORD")


def test_names_that_are_not_utf8():
    assert code_of(patched(make({"ü": b""}), CENTRAL, 46, b"\xff\xff")) == "E303"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert code_of(buffer.getvalue()) == "E303"


def test_entries_that_share_content():
    """Two entries on one local header, as bombs have it."""
    data = make({"a": b"x" * 1000})
    start = data.index(CENTRAL)
    record = data[start : data.index(END)]
    end = struct.pack("<4s4H2LH", END, 0, 0, 2, 2, 2 * len(record), start, 0)
    assert code_of(data[:start] + record + record + end) == "E303"


def test_files_on_disk(tmp_path):
    path = tmp_path / "x.whl"
    path.write_bytes(b"")
    for make_error, code in (((), "E303"), (("0" * 64,), "E303")):
        with pytest.raises(AfenvError) as caught:
            map_zip(path, **({"sha256": make_error[0]} if make_error else {}))
        assert caught.value.code == code
    path.write_bytes(b"something else")
    with pytest.raises(AfenvError, match="E301"):
        map_zip(path, sha256="0" * 64)  # the wrong digest is the cause, not what it looks like
    assert zip_archive.STORED == 0
