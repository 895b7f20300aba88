"""Choosing a source archive, reading what it wants, and the fixed form of a wheel."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime

import pytest

from afenv.errors import AfenvError
from afenv.resolve.pypi_sdist import build_system, choose_sdist, different_members, fixed_wheel
from afenv.resolve.pypi_target import target_of

TARGET = target_of("3.11.2", (2, 36), "linux/amd64")
AS_OF = datetime(2025, 1, 1, tzinfo=UTC)
URL = "https://index.example.org/simple/old/"


def page(*names: str, **more: object) -> bytes:
    files = [{"filename": name, "url": f"../../f/{name}", "hashes": {"sha256": "a" * 64}} for name in names]
    return json.dumps({"files": [{**file, **more} for file in files]}).encode()


def choose(data: bytes, *requirements: str) -> str | None:
    found = choose_sdist(data, URL, "old", requirements, TARGET, AS_OF)
    return found.version if found else None


def test_the_newest_that_fits_is_taken():
    data = page("old-1.0.tar.gz", "old-1.10.tar.gz", "old-1.9.tar.gz", "old-2.0rc1.tar.gz")
    assert choose(data) == "1.10"
    assert choose(data, "old<1.10") == "1.9"
    assert choose(data, "old<1.10", "old!=1.9") == "1.0"
    found = choose_sdist(data, URL, "old", (), TARGET, AS_OF)
    assert found is not None
    assert (found.url, found.size) == ("https://index.example.org/f/old-1.10.tar.gz", None)


def test_a_wheel_that_fits_is_as_good():
    assert choose(page("old-1.0.tar.gz", "old-1.0-py3-none-any.whl")) is None
    assert choose(page("old-1.1.tar.gz", "old-1.0-py3-none-any.whl")) == "1.1"
    assert choose(page("old-1.0.tar.gz", "old-1.0-cp39-cp39-win_amd64.whl")) == "1.0"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (page("old-1.0.zip"), "E101"),
        (page("old-1.0.tar.gz", yanked=True), "E101"),
        (page("old-1.0.tar.gz", **{"upload-time": "2025-01-02T00:00:00Z"}), "E101"),
        (page("old-1.0.tar.gz", **{"requires-python": ">=3.12"}), "E101"),
        (page("old-1.0.tar.gz", hashes={}), "E202"),
        (b"<html>", "E202"),
        (b"[]", "E202"),
    ],
)
def test_what_cannot_be_taken(data, code):
    with pytest.raises(AfenvError, match=code):
        choose(data)


def test_what_source_wants(tmp_path):
    text = '[build-system]\nrequires = ["a"]\nbuild-backend = "a.b:c"\nbackend-path = ["."]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    system = build_system(tmp_path, "x")
    assert (system.requires, system.backend, system.path) == (("a",), "a.b:c", (".",))
    (tmp_path / "pyproject.toml").write_text("[tool.x]\n")
    assert build_system(tmp_path, "x").backend == "setuptools.build_meta:__legacy__"
    (tmp_path / "pyproject.toml").unlink()
    assert build_system(tmp_path, "x").requires == ("setuptools>=40.8.0",)
    for wrong in ("[build-system]\n", "build-system = 1\n", "x = ", "[build-system]\nrequires = 1\n"):
        (tmp_path / "pyproject.toml").write_text(wrong)
        with pytest.raises(AfenvError, match="E303"):
            build_system(tmp_path, "x")


def wheel(*names: str, year: int, compression: int) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", compression) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, (year, 2, 3, 4, 5, 6))
            entry.external_attr = (0o700 if name.endswith(".sh") else 0o600) << 16
            archive.writestr(entry, name * 100)
    return result.getvalue()


def test_a_wheel_has_one_form():
    names = ("a-1.dist-info/RECORD", "b.py", "a/run.sh")
    one = fixed_wheel(wheel(*names, year=2001, compression=zipfile.ZIP_DEFLATED), "x")
    assert one == fixed_wheel(wheel(*names[::-1], year=2024, compression=zipfile.ZIP_STORED), "x")
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert archive.namelist() == ["a/run.sh", "b.py", "a-1.dist-info/RECORD"]
        assert [entry.external_attr >> 16 & 0o777 for entry in archive.infolist()] == [0o755, 0o644, 0o644]
        assert archive.read("b.py") == b"b.py" * 100
    with pytest.raises(AfenvError, match="E303"):
        fixed_wheel(b"no wheel", "x")


def test_what_differs_between_two_wheels():
    one = wheel("a.py", "x.dist-info/RECORD", year=2001, compression=zipfile.ZIP_STORED)
    assert different_members(one, fixed_wheel(one, "x")) == ["a.py"]  # its mode
    assert different_members(one, one) == []
    other = wheel("b.py", "x.dist-info/RECORD", year=2001, compression=zipfile.ZIP_STORED)
    assert different_members(one, other) == ["a.py", "b.py"]
