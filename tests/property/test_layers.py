"""Layers under all kinds of names, sizes and cuts, with the standard library as the oracle."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
import zlib

from hypothesis import given
from hypothesis import strategies as st

from afenv.documents.lock import LockedDeb, LockedEnvironment, LockedFile, LockedWheel
from afenv.errors import AfenvError
from afenv.layers.listing import ListingEntry, decode, encode
from afenv.layers.plan import LIMIT, plan_layers
from afenv.layers.wheel_owners import plan_owners
from afenv.layers.writer import LayerWriter
from afenv.layers.zip_archive import DEFLATED, STORED, ZipArchive, write_zip

NAMES = st.text(
    st.characters(exclude_characters="/\0\n", exclude_categories=("Cs",)), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)
CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.tuples(st.binary(min_size=1, max_size=50), st.integers(1, 20_000)).map(lambda pair: pair[0] * pair[1]),
)
WAYS = st.sampled_from(["file", "deflated", "stream"])


class Blob(io.BytesIO):
    """A blob in memory."""

    @property
    def size(self):
        return len(self.getvalue())

    def digest(self):
        return "sha256:" + hashlib.sha256(self.getvalue()).hexdigest()


def deflate(data):
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@given(st.dictionaries(PATHS, st.tuples(WAYS, st.integers(0, 0o7777), CONTENTS), max_size=8), st.data())
def test_what_is_written_is_what_tarfile_reads(files, data):
    blob = Blob()
    writer = LayerWriter(blob, mtime=1)
    expected = {}
    for path, (way, mode, content) in files.items():
        try:
            if way == "file":
                writer.file(path, mode, content)
            elif way == "deflated":
                writer.deflated(path, mode, len(content), zlib.crc32(content), memoryview(deflate(content)))
            else:
                step = data.draw(st.integers(1, len(content) + 1))
                pieces = [content[at : at + step] for at in range(0, len(content), max(step, 64))]
                pieces = pieces if b"".join(pieces) == content else [content]
                writer.stream(path, mode, len(content), pieces)
        except AfenvError as error:
            assert error.code == "E401"  # one path lies inside another
            continue
        expected[path] = (mode & 0o1777, content)
    written = writer.finish()
    tar = gzip.decompress(blob.getvalue())
    assert written.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        found = {
            member.name: (member.mode, archive.extractfile(member).read())
            for member in archive
            if member.isfile()
        }
    assert found == expected
    assert {entry.path for entry in written.entries if entry.kind == "f"} == expected.keys()


@given(CONTENTS, st.binary(min_size=1, max_size=4), st.integers(0, 1 << 20))
def test_a_changed_stream_is_an_error_or_the_same_content(content, noise, at):
    stream = bytearray(deflate(content))
    at %= len(stream)
    stream[at : at + len(noise)] = noise
    writer = LayerWriter(Blob(), mtime=1)
    try:
        writer.deflated("x", 0o644, len(content), zlib.crc32(content), memoryview(bytes(stream)))
    except AfenvError as error:
        assert error.code == "E303"
    else:
        assert zlib.decompress(bytes(stream), -15) == content


@given(st.dictionaries(NAMES, st.tuples(CONTENTS, st.booleans()), max_size=6))
def test_zip_archives_that_are_written_and_read(files):
    def entries():
        for name, (content, packed) in files.items():
            stored = deflate(content) if packed else content
            yield name, DEFLATED if packed else STORED, len(content), zlib.crc32(content), stored

    data = b"".join(write_zip(entries()))
    archive = ZipArchive(memoryview(data), "test")
    assert {name: archive.read(name) for name in archive.entries} == {
        name: content for name, (content, _) in files.items()
    }
    with zipfile.ZipFile(io.BytesIO(data)) as oracle:
        assert oracle.testzip() is None
        assert len(oracle.namelist()) == len(files)


@given(
    st.dictionaries(NAMES, CONTENTS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_zip_archive_gives_nothing_but_clear_errors(files, damage):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    data = bytearray(buffer.getvalue())
    for at, value in damage:
        data[at % len(data)] = value
    try:
        found = ZipArchive(memoryview(bytes(data)), "test")
        for name in found.entries:
            found.read(name)
    except AfenvError as error:
        assert error.code == "E303"


ENTRIES = st.builds(
    ListingEntry,
    PATHS,
    st.sampled_from("fdlh"),
    st.integers(0, 0o1777),
    st.integers(0, 1 << 40),
    st.none() | st.integers(0, (1 << 32) - 1),
    st.text(max_size=20),
    st.text(max_size=20),
)


@given(st.lists(ENTRIES, max_size=10, unique_by=lambda entry: entry.path))
def test_listings_read_back(entries):
    assert list(decode(encode(entries))) == sorted(entries, key=lambda entry: entry.path)


def _file(size):
    return LockedFile(urls=("https://example.org/x",), size=size, sha256=f"{size:064x}")


SIZES = st.dictionaries(
    st.text("abcdefghijkl-", min_size=1, max_size=12), st.integers(0, 1 << 30), max_size=150
)


@given(SIZES, SIZES)
def test_plans_are_complete_and_within_the_budget(debs, wheels):
    environment = LockedEnvironment(
        request="sha256:0",
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        debs=tuple(
            LockedDeb(name=name, version="1", architecture="all", source=name, file=_file(size))
            for name, size in debs.items()
        ),
        wheels=tuple(LockedWheel(name=name, version="1", file=_file(size)) for name, size in wheels.items()),
    )
    planned = plan_layers(environment, [])
    assert len(planned) <= LIMIT
    assert len({layer.name for layer in planned}) == len(planned)
    assert sorted(deb.name for layer in planned for deb in layer.debs) == sorted(debs)
    assert sorted(wheel.name for layer in planned for wheel in layer.wheels) == sorted(wheels)


TREES = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(
        st.sampled_from(["x", "y", "z", "f/x", "f/y", "f/g/x"]), st.tuples(st.just(1), st.integers(1, 2))
    ),
)


@given(TREES, st.dictionaries(st.sampled_from(["x", "f/x"]), st.sampled_from("abcd")))
def test_each_path_has_one_owner(installed, owners):
    try:
        lost = plan_owners(installed, owners, "")
    except AfenvError as error:
        assert error.code == "E401"
        return
    for path in {path for paths in installed.values() for path in paths}:
        having = [name for name in installed if path in installed[name]]
        left = [name for name in having if path not in lost.get(name, ())]
        assert len(left) == 1
        if owners.get(path) in having:
            assert left == [owners[path]]
        else:
            assert left == [min(having)]
