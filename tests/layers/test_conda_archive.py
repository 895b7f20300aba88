"""Bad packages are refused with one error, and nothing else happens."""

from __future__ import annotations

import bz2
import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile

import pytest
import zstandard

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.conda import write_conda
from afenv.layers.conda_archive import open_conda

FILES = {"bin/tool": b"tool", "lib/data": b"d" * 3000, "lib/link": ("symlink", "data")}
OLD = "/placeholder/" + "p" * 60


@pytest.fixture
def write(new_layer):
    def run(made, *, prefix="/opt/conda", check=True):
        locked, path = made
        environment = LockedEnvironment(
            request="", platform="linux/amd64", as_of="", conda=(locked,), conda_prefix=prefix
        )
        layer = new_layer()
        write_conda(
            [locked],
            {locked.file.sha256: path},
            environment,
            layer.writer,
            compiler=None,
            lost={},
            check=check,
        )
        return layer

    return run


def refused(write, made, code, words, **options):
    with pytest.raises(AfenvError) as caught:
        write(made, **options)
    assert caught.value.code == code, caught.value
    assert words in str(caught.value)


def relock(made, data):
    """The package with other bytes, and a lock that names them."""
    locked, path = made
    path.write_bytes(data)
    file = dataclasses.replace(locked.file, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    return dataclasses.replace(locked, file=file), path


@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
def test_another_digest(make_conda, write, form):
    locked, path = make_conda("x", FILES, form=form)
    path.write_bytes(path.read_bytes() + b" ")
    refused(write, (locked, path), "E301", "the lock names")


@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_truncated(make_conda, write, form, keep):
    made = make_conda("x", {**FILES, "big": bytes(range(256)) * 999}, form=form)
    data = made[1].read_bytes()
    refused(write, relock(made, data[: int(len(data) * keep)]), "E303", "")


@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("../outside", b"x", "E304"),
        ("a/../../outside", b"x", "E304"),
        ("/etc/passwd", b"x", "E304"),
        ("lib/out", ("symlink", "../../outside"), "E304"),
        ("lib/out", ("symlink", "/etc/passwd"), "E304"),
        ("lib/out", ("symlink", "/opt/conda/../../etc"), "E304"),
        ("lib/null", (tarfile.CHRTYPE,), "E304"),
        ("lib/disk", (tarfile.BLKTYPE,), "E304"),
        ("lib/pipe", (tarfile.FIFOTYPE,), "E304"),
        ("conda-meta/other-1-0.json", b"{}", "E304"),
        ("conda-meta/history", b"", "E304"),
    ],
)
def test_unsafe_members(make_conda, write, form, path, content, code):
    def edit(value):
        for entry in value["paths"]:
            entry.pop("sha256", None)
            entry.pop("size_in_bytes", None)
            if entry["path_type"] not in ("hardlink", "softlink", "directory"):
                entry["path_type"] = "hardlink"

    refused(write, make_conda("x", {**FILES, path: content}, form=form, edit=edit), code, "")


def test_hard_links_to_what_is_no_file(make_conda, write):
    def edit(value):
        for entry in value["paths"]:
            entry.pop("sha256", None)

    outside = make_conda("x", {"../outside": b"", "lib/out": ("hardlink", "../outside")}, edit=edit)
    refused(write, outside, "E304", "upwards")
    link = make_conda("x", {**FILES, "lib/out": ("hardlink", "lib/link")}, edit=edit)
    refused(write, link, "E303", "which is not a file")
    itself = make_conda("x", {"a": b"", "b": ("hardlink", "a")}, edit=change("b", sha256="0" * 64))
    refused(write, itself, "E303", "info/paths.json says")


def change(path, **values):
    def edit(value):
        (entry,) = (one for one in value["paths"] if one["_path"] == path)
        entry.update(values)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("lib/data", sha256="0" * 64), "info/paths.json says"),
        (change("lib/data", size_in_bytes=2999), "listed with 2999"),
        (change("lib/data", path_type="softlink"), "is listed as a softlink"),
        (change("lib/link", path_type="hardlink"), "is listed as a hardlink"),
        (change("lib/data", path_type="device"), "not as it has to be"),
        (change("lib/data", sha256="zz"), "not as it has to be"),
        (change("lib/data", size_in_bytes=-1), "not as it has to be"),
        (change("lib/data", size_in_bytes=True), "not as it has to be"),
        (change("lib/data", prefix_placeholder=OLD), "not as it has to be"),
        (change("lib/data", _path=3), "not as it has to be"),
        (change("lib/data", _path="lib/other"), "not in the archive"),
        (change("lib/data", _path="bin/tool"), "twice"),
        (change("lib/data", _path="lib//data"), "normal form"),
        (change("lib/data", _path="lib/\ud800"), "not text"),
        (lambda value: value.update(paths_version=2), "version 1"),
        (lambda value: value.update(paths={}), "version 1"),
        (lambda value: value["paths"].append(7), "not an object"),
    ],
)
def test_wrong_paths(make_conda, write, edit, words):
    refused(write, make_conda("x", FILES, edit=edit), "E303", words)


def test_a_path_of_the_list_that_leads_outside(make_conda, write):
    refused(write, make_conda("x", FILES, edit=change("lib/data", _path="../data")), "E304", "upwards")


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"index.json": b"{}"}, "the package says that it is"),
        ({"index.json": b"["}, "is not JSON"),
        ({"index.json": b"[" * 100_000}, "is not JSON"),
        ({"index.json": b"[]"}, "is not an object"),
        ({"index.json": None}, "no info/index.json"),
        ({"paths.json": None}, "neither info/paths.json nor info/files"),
        ({"paths.json": None, "files": b"\xff"}, "is not UTF-8"),
        ({"paths.json": None, "files": b"bin/tool\n", "has_prefix": b"other\n"}, "which info/files does not"),
        ({"paths.json": None, "files": b"bin/tool\n", "has_prefix": b"a b c d\n"}, "has the line"),
        ({"link.json": b'{"noarch": {"type": "python"}}'}, "does not say so"),
    ],
)
@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
def test_wrong_metadata(make_conda, write, info, words, form):
    refused(write, make_conda("x", FILES, info=info, form=form), "E303", words)


def test_metadata_after_content(make_conda, write):
    """Metadata that decides, after files that it decides about; other orders are read."""
    write(make_conda("y", FILES, form=".tar.bz2", info_first=False)).tar()
    made = make_conda("x", FILES, form=".tar.bz2")
    stream = io.BytesIO(bz2.decompress(made[1].read_bytes()))
    with tarfile.open(fileobj=stream, mode="a") as archive:
        late = tarfile.TarInfo("info/has_prefix")
        archive.addfile(late, io.BytesIO(b""))
    refused(write, relock(made, bz2.compress(stream.getvalue())), "E303", "comes after")


def packed(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_json", ".json").replace("_tar_zst", ".tar.zst"), data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no zip at all", "not a zip archive"),
        (packed(pkg_tar_zst=b""), "metadata.json"),
        (packed(metadata_json=b"{}"), "metadata.json"),
        (packed(metadata_json=b"3"), "metadata.json"),
        (packed(metadata_json=b'{"conda_pkg_format_version": 3}'), "format 3"),
        (packed(metadata_json=b'{"conda_pkg_format_version": 2}'), "0 members info-"),
    ],
)
def test_not_a_package(make_conda, write, data, words):
    refused(write, relock(make_conda("x", FILES), data), "E303", words)


def test_members_compressed_twice(make_conda, write):
    made = make_conda("x", FILES)
    with zipfile.ZipFile(made[1]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    refused(write, relock(made, stream.getvalue()), "E303", "compressed twice")


@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
def test_a_bomb(make_conda, write, monkeypatch, form):
    """Content beyond any plausible ratio is refused while it is read."""
    monkeypatch.setattr("afenv.layers.conda_archive.MIN_LIMIT", 1 << 16)
    monkeypatch.setattr("afenv.layers.conda_archive.MAX_RATIO", 10)
    made = make_conda("x", {**FILES, "zeros": bytes(50_000_000)}, form=form)
    assert made[1].stat().st_size < 20_000
    refused(write, made, "E303", "implausibly large")


def test_a_window_that_no_package_needs(make_conda, write):
    """The decoder would have to hold more than it may."""
    made = make_conda("x", FILES)
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    with zipfile.ZipFile(made[1]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            if name.startswith("pkg-"):
                compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
                data = compressor.compress(zstandard.decompress(data)) + compressor.flush()
            archive.writestr(name, data)
    refused(write, relock(made, stream.getvalue()), "E303", "damaged")


def test_a_prefix_without_room(make_conda, write):
    files = {"lib/x": OLD.encode() + b"\0"}
    made = make_conda("x", files, prefixes={"lib/x": (OLD, "binary")})
    refused(write, made, "E409", "has room for 73", prefix="/" + "x" * 80)
    text = make_conda("x", files, prefixes={"lib/x": (OLD, "text")})
    write(text, prefix="/" + "x" * 80)


def test_a_string_without_end(make_conda, write, monkeypatch):
    monkeypatch.setattr("afenv.layers.conda_prefix.MAX_STRING", 3 << 20)
    made = make_conda("x", {"lib/x": OLD.encode() + b"x" * (5 << 20)}, prefixes={"lib/x": (OLD, "binary")})
    refused(write, made, "E303", "implausibly long")


def test_a_python_package_without_python(make_conda, write):
    made = make_conda("x", {"site-packages/x.py": b""}, noarch="python")
    refused(write, made, "E106", "no conda package python")


@pytest.mark.parametrize(
    ("point", "code"),
    [
        ("x", "E303"),
        ("x = y", "E303"),
        ("../x = y:z", "E304"),
        (" = y:z", "E304"),
        (".. = y:z", "E304"),
        (7, "E303"),
    ],
)
def test_wrong_entry_points(make_conda, write, point, code):
    made = make_conda("x", {"site-packages/x.py": b""}, noarch="python", entry_points=(point,))
    refused(write, made, code, "entry point")


def test_another_kind_of_file(make_conda):
    locked, path = make_conda("x", FILES)
    with pytest.raises(AfenvError, match="neither"):
        open_conda(path, "x.zip")
    with pytest.raises(AfenvError, match="E403"):
        open_conda(path.parent / "missing", "x.conda")
    assert json.loads(open_conda(path, locked.file.file_name).info()["index.json"])["name"] == "x"
