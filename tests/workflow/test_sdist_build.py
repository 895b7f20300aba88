"""Unpacking source archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.workflow.sdist_build import unpack_sdist


def archive(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_source_archive_is_unpacked(tmp_path):
    (tmp_path / "out").mkdir()
    folder = unpack_sdist(archive(tmp_path / "x.tar.gz", **{"old-1__a__b.py": "b"}), tmp_path / "out")
    assert folder == tmp_path / "out/old-1"
    assert (folder / "a/b.py").read_text() == "b"


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("old-1/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("old-1/link/x"))
    with pytest.raises(AfenvError, match="E304"):
        unpack_sdist(tmp_path / "x.tar.gz", tmp_path / "out")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"..__x": "x"}, "E304"),
        ({"a__..__..__x": "x"}, "E304"),
        ({"a__x": "x", "b__x": "x"}, "E303"),
        ({"x": "x"}, "E303"),
        ({}, "E303"),
    ],
)
def test_a_bad_source_archive_is_refused(tmp_path, files, code):
    (tmp_path / "out").mkdir()
    with pytest.raises(AfenvError, match=code):
        unpack_sdist(archive(tmp_path / "x.tar.gz", **files), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "x.tar.gz"}


def test_what_is_no_archive(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(AfenvError, match="E303"):
        unpack_sdist(tmp_path / "x.tar.gz", tmp_path)
