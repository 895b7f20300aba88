"""The test channel: reproducible, well-formed, and installed by py-rattler; the server fails as told."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard

PLACEHOLDER_LENGTH = 255


def records(channel: Path) -> dict[str, dict[str, Any]]:
    """Every record of the channel's index by its path."""
    found = {}
    for subdir in ("linux-64", "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_text())
        assert repodata["info"]["subdir"] == subdir
        for section in ("packages", "packages.conda"):
            found |= {f"{subdir}/{name}": record for name, record in repodata[section].items()}
    return found


def tars(path: Path) -> Iterator[tarfile.TarFile]:
    """The tar archives that a package consists of."""
    if path.suffix == ".bz2":
        with tarfile.open(path) as tar:
            yield tar
        return
    with zipfile.ZipFile(path) as outer:
        for name in outer.namelist():
            if name.endswith(".tar.zst"):
                data = zstandard.ZstdDecompressor().decompress(outer.read(name))
                with tarfile.open(fileobj=BytesIO(data)) as tar:
                    yield tar


def contents(path: Path) -> dict[str, bytes]:
    """The files of a package, those of ``info/`` too, by name; second names have the same content."""
    found = {}
    for tar in tars(path):
        for member in tar:
            if member.isfile() or member.islnk():
                found[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("channel", ["hard_channel", "toy_channel"])
def test_index_and_packages_agree(channel: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(channel)
    known = records(folder)
    archives = {str(path.relative_to(folder)) for path in folder.glob("*/*") if "repodata" not in path.name}
    assert known.keys() == archives
    for path, record in known.items():
        data = (folder / path).read_bytes()
        assert (record["size"], record["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        files = contents(folder / path)
        index = json.loads(files["info/index.json"])
        assert {name: record[name] for name in index} == index
        if "info/paths.json" not in files:
            continue
        for entry in json.loads(files["info/paths.json"])["paths"]:
            if entry["path_type"] != "hardlink":
                continue
            content = files[entry["_path"]]
            assert entry["size_in_bytes"] == len(content)
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_packages_are_reproducible(hard_channel: Path, toy_channel: Path, tmp_path: Path) -> None:
    for part, expected in (("hard", hard_channel), ("toy", toy_channel)):
        command = [sys.executable, Path(__file__).with_name("build.py"), tmp_path / part, "--only", part]
        elsewhere = {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
        subprocess.run(command, check=True, env={**os.environ, **elsewhere}, umask=0o077)
        first, second = (
            {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in (expected, tmp_path / part)
        )
        assert first == second


def test_hard_cases_are_what_they_are_meant_to_be(hard_channel: Path) -> None:
    names = {record["name"]: hard_channel / path for path, record in records(hard_channel).items()}
    kinds = {member.name: member.type for tar in tars(names["hard-links"]) for member in tar}
    assert kinds["share/hard-links/second"] == tarfile.LNKTYPE
    assert kinds["share/hard-links/dangling"] == tarfile.SYMTYPE
    assert any(ord(letter) > 255 for tar in tars(names["hard-names"]) for letter in "".join(tar.getnames()))
    entries = json.loads(contents(names["hard-binary"])["info/paths.json"])["paths"]
    assert PLACEHOLDER_LENGTH in {len(entry["prefix_placeholder"]) for entry in entries}
    old = contents(names["hard-old"])
    assert "info/paths.json" not in old
    assert b"share/hard-old/one.txt\n" in old["info/has_prefix"]
    assert names["hard-old"].suffix == ".bz2"
    same, other = (contents(names[f"hard-clobber-{name}"]) for name in "ab")
    assert same["share/hard-clobber/differs.txt"] != other["share/hard-clobber/differs.txt"]


def test_hard_cases_are_installed_by_rattler(hard_channel: Path, tmp_path: Path, rattler: Any) -> None:
    unreadable = {"hard-directories", "hard-short"}  # the latter because the test's prefix is too long
    wanted = sorted({record["name"] for record in records(hard_channel).values()} - unreadable)
    installed = rattler(hard_channel, tmp_path / "env", *wanted)
    assert {package["name"] for package in installed} == set(wanted)
    assert (tmp_path / "env/bin/hard-main").stat().st_mode & stat.S_IXUSR
    assert (tmp_path / "env/share/hard-old/one.txt").read_text() == f"one={tmp_path}/env\n"
    assert rattler(hard_channel, tmp_path / "short", "hard-short", status=1) == []
    assert f"{tmp_path}/env/lib\0".encode() in (tmp_path / "env/bin/hard-one").read_bytes()


def test_variants_versions_and_conflicts(toy_channel: Path, tmp_path: Path, rattler: Any) -> None:
    def solved(*specs: str, **more: Any) -> dict[str, tuple[str, str]]:
        found = rattler(toy_channel, tmp_path / "env", *specs, "--solve-only", **more)
        return {package["name"]: (package["version"], package["build"]) for package in found}

    assert solved("toycudart", "--cuda", "11.8")["toycudart"][0] == "11.8.0"
    assert solved("toycudart", "--cuda", "12.4")["toycudart"][0] == "12.4.1"
    assert solved("toyenv")["toyenv"] == ("1.2", "0")
    assert solved("toyglibc", status=1) == {}
    assert solved("toyconflict", status=1) == {}


@pytest.mark.parametrize("kind", ["missing", "cut", "wrong"])
def test_the_server_fails_as_told(
    kind: str,
    toy_channel: Path,
    tmp_path: Path,
    rattler: Any,
    http_server: Any,
    fault: Any,
    serve_channel: Any,
) -> None:
    url = serve_channel(toy_channel, "/conda-forge")
    assert rattler(url, tmp_path / "good", "toyenv")
    package = "/conda-forge/noarch/toyenv-1.2-0.conda"
    faults = {"missing": fault.status(404), "cut": fault.cut(100), "wrong": fault.wrong()}
    http_server.faults[package] = [faults[kind]] * 20
    assert rattler(url, tmp_path / "bad", "toyenv", status=1) == []
    http_server.faults[package] = [fault.slow(0.001)]
    assert rattler(url, tmp_path / "slow", "toyenv")
