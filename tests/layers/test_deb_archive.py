"""The reader of Debian packages: against tarfile as an oracle, and against archives that lie."""

from __future__ import annotations

import io
import lzma
import tarfile

import pytest

from afenv.errors import AfenvError
from afenv.layers.deb_archive import open_deb
from afenv.layers.deb_tar import read_tar

LONG = "usr/share/" + "/".join(["a-folder-with-a-long-name"] * 8)
MEMBERS = [
    ("./", "directory", None),
    ("./usr/", "directory", None),
    ("./usr/bin/", "directory 1777", None),
    ("./usr/bin/tool", "file 4755", b"#!/bin/sh\n"),
    ("./usr/bin/empty", "file", b""),
    ("./usr/bin/block", "file", b"x" * 512),
    ("./usr/bin/.hidden", "file", b"h"),
    ("./usr/bin/large", "file", bytes(range(256)) * 12_000),
    ("./usr/bin/after", "file", b"after"),
    ("./usr/bin/link", "symlink", "../share/x"),
    ("./usr/bin/absolute", "symlink", "/etc/x"),
    ("./usr/bin/same", "hardlink", "./usr/bin/tool"),
    (f"./{LONG}", "file", b"long name"),
    ("./usr/short", "symlink", "/" + LONG),
    ("./usr/ümläut", "file", b"u"),
]


def contents(path, sha256=None):
    with open_deb(path, sha256=sha256) as archive:
        return [(*member[:5], b"".join(member.chunks)) for member in archive.members()]


def by_tarfile(data):
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.DIRTYPE: "directory",
        tarfile.SYMTYPE: "symlink",
        tarfile.LNKTYPE: "hardlink",
    }
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            kind = kinds[info.type]
            file = tar.extractfile(info) if kind == "file" else None
            link = info.linkname.removeprefix("./") if kind == "hardlink" else info.linkname
            path = info.name.removeprefix(".").removeprefix("/")
            yield path, kind, info.mode, info.size, link, file.read() if file else b""


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".zst", ".bz2", ".lzma"])
def test_members_are_those_that_tarfile_sees(make_deb, compression):
    deb, path = make_deb("sample", MEMBERS, compression=compression)
    assert contents(path, deb.file.sha256) == list(by_tarfile(make_deb.tar(MEMBERS)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece", [1, 100, 512, 4096, 1 << 20])
def test_every_form_of_tar_in_pieces_of_any_size(form, piece):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for number, name in enumerate(["a", "b" * 90 + "/" + "c" * 80, "d/ü"]):
            info = tarfile.TarInfo(name)
            info.size = number * 700
            info.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(b"z" * info.size))
        link = tarfile.TarInfo("l")
        link.type = tarfile.SYMTYPE
        link.linkname = "t" * (100 if form == tarfile.USTAR_FORMAT else 140)
        tar.addfile(link)
    data = buffer.getvalue()
    chunks = [data[start : start + piece] for start in range(0, len(data), piece)]
    found = [(*member[:5], b"".join(member.chunks)) for member in read_tar(chunks, "here")]
    assert found == list(by_tarfile(data))


def test_content_may_be_left_unread(make_deb):
    _, path = make_deb("sample", MEMBERS)
    with open_deb(path) as archive:
        assert [member.path for member in archive.members()][-1] == "usr/ümläut"


def test_control_files(make_deb):
    _, path = make_deb("sample", control={"conffiles": "/etc/x\n", "postinst": "#!/bin/sh\n"})
    with open_deb(path) as archive:
        files = archive.control_files()
    assert files["conffiles"] == b"/etc/x\n"
    assert set(files) == {"control", "conffiles", "postinst"}


def test_several_streams_and_padding_count_as_one(make_deb):
    data = make_deb.tar(MEMBERS)
    xz = lzma.compress(data[:5000], preset=0) + bytes(8) + lzma.compress(data[5000:], preset=0)
    plain = make_deb.archive(compression="")
    head, _, _ = plain.partition(b"data.tar")
    path = make_deb.folder / "x.deb"
    path.write_bytes(head + make_deb.ar([("data.tar.xz", xz)])[8:])
    assert len(contents(path)) == len(MEMBERS)


def test_a_wrong_digest_is_said_whatever_else_is_wrong(make_deb):
    _, path = make_deb("sample", MEMBERS)
    for damaged in (path.read_bytes() + b"x", path.read_bytes()[:-900], b"nothing"):
        path.write_bytes(damaged)
        with pytest.raises(AfenvError) as error:
            contents(path, "0" * 64)
        assert error.value.code == "E301"


def test_the_digest_is_checked_when_the_content_was_not_read(make_deb):
    _, path = make_deb("sample", MEMBERS)
    with pytest.raises(AfenvError) as error, open_deb(path, sha256="0" * 64):
        pass
    assert error.value.code == "E301"


@pytest.mark.parametrize(
    "member",
    [
        ("/etc/passwd", "file", b""),
        ("../etc/passwd", "file", b""),
        ("./usr/../../x", "file", b""),
        ("./usr/..", "directory", None),
        ("./x", "symlink", "../x"),
        ("./a/b", "symlink", "c/../../../x"),
        ("./x", "hardlink", "../x"),
        ("./x", "hardlink", "/etc/passwd"),
        ("./dev/null", "3", None),
        ("./dev/sda", "4", None),
        ("./run/pipe", "6", None),
    ],
)
def test_what_leads_outside_is_refused(make_deb, member):
    _, path = make_deb("sample", [("./usr/", "directory", None), member])
    with pytest.raises(AfenvError) as error:
        contents(path)
    assert error.value.code == "E304"
    assert error.value.problems[0].place == str(path)


@pytest.mark.parametrize(
    "member",
    [("./a/b/link", "symlink", "../../c"), ("./a/link", "symlink", "../b"), ("./l", "symlink", "a/../b")],
)
def test_links_that_stay_inside_are_kept(make_deb, member):
    _, path = make_deb("sample", [member])
    assert contents(path)[0][4] == member[2]


def archive_of(make_deb, data, name="data.tar"):
    plain = make_deb.archive(compression="")
    head, _, _ = plain.partition(b"data.tar")
    path = make_deb.folder / "x.deb"
    path.write_bytes(head + make_deb.ar([(name, data)])[8:])
    return path


def changed(data, offset, new, *, checksum=True):
    """A tar whose first header has other bytes at ``offset``."""
    header = bytearray(data[:512])
    header[offset : offset + len(new)] = new
    if checksum:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda tar: tar[:700],
        lambda tar: tar[:100],
        lambda tar: b"",
        lambda tar: tar[:1024],  # without the end
        lambda tar: changed(tar, 0, b"other", checksum=False),
        lambda tar: changed(tar, 124, b"99999999999"),
        lambda tar: changed(tar, 124, b"-0000000001"),
        lambda tar: changed(tar, 124, b"\xff" * 12),
        lambda tar: changed(tar, 124, b"77777777777"),
        lambda tar: changed(tar, 156, b"S"),
        lambda tar: changed(tar, 156, b"L"),
        lambda tar: changed(tar, 156, b"x"),
        lambda tar: changed(tar, 156, b"5"),
        lambda tar: changed(tar, 0, b"\0\0\0\0\0\0\0\0"),
    ],
)
def test_a_malformed_tar_is_refused(make_deb, damage):
    tar = make_deb.tar([("./x", "file", b"content")])
    with pytest.raises(AfenvError) as error:
        contents(archive_of(make_deb, damage(tar)))
    assert error.value.code == "E303"


@pytest.mark.parametrize(
    "damage",
    [
        lambda deb: deb[:50],
        lambda deb: deb[:-900],
        lambda deb: b"",
        lambda deb: b"PK\x03\x04" + deb,
        lambda deb: deb.replace(b"debian-binary", b"debian-binarx"),
        lambda deb: deb.replace(b"2.0\n", b"3.0\n"),
        lambda deb: deb.replace(b"`\n", b"x\n", 3),
        lambda deb: deb.replace(b"control.tar", b"kontrol.tar"),
        lambda deb: deb.replace(b"data.tar.xz ", b"data.tar.foo"),
        lambda deb: deb.replace(b"data.tar.xz ", b"data.tar.gz "),
        lambda deb: deb.replace(b"data.tar.xz ", b"data.tar.zst"),
    ],
)
def test_a_malformed_package_is_refused(make_deb, damage):
    path = make_deb.folder / "x.deb"
    path.write_bytes(damage(make_deb.archive(MEMBERS)))
    with pytest.raises(AfenvError) as error:
        contents(path)
    assert error.value.code == "E303"


@pytest.mark.parametrize("compression", [".xz", ".gz", ".zst", ".bz2"])
def test_a_bomb_is_refused(make_deb, compression, monkeypatch):
    monkeypatch.setattr("afenv.layers.deb_archive.MIN_LIMIT", 1 << 20)
    monkeypatch.setattr("afenv.layers.deb_archive.MAX_RATIO", 10)
    _, path = make_deb("sample", [("./zeros", "file", bytes(8 << 20))], compression=compression)
    with pytest.raises(AfenvError) as error:
        contents(path)
    assert error.value.code == "E303"
    assert "implausibly large" in str(error.value)


def test_a_bomb_in_the_control_archive_is_refused(make_deb, monkeypatch):
    monkeypatch.setattr("afenv.layers.deb_archive.MAX_CONTROL", 1 << 16)
    _, path = make_deb("sample", control={"md5sums": b"0" * (1 << 20)})
    with pytest.raises(AfenvError) as error:
        contents(path)
    assert error.value.code == "E303"


def test_a_missing_file_is_an_error_of_its_own(tmp_path):
    with pytest.raises(AfenvError) as error, open_deb(tmp_path / "absent.deb"):
        pass
    assert error.value.code == "E403"
