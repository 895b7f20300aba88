"""Reading and writing the lock, and what a lock answers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from afenv.documents.lock import Lock, LockedDeb, LockedEnvironment, LockedFile, LockedWheel
from afenv.documents.lockfile import dump_lock, environment_json, parse_lock, read_lock, write_lock
from afenv.documents.manifest import AnalysisManifest, DebianBase, Environment, PypiSection
from afenv.documents.request import request_digest
from afenv.errors import AfenvError


def _wheel(name: str, version: str = "1") -> LockedWheel:
    file = LockedFile(
        urls=(f"https://example.org/{name}-{version}-py3-none-any.whl",), size=1, sha256="0" * 64
    )
    return LockedWheel(name=name, version=version, file=file)


def _lock(*wheels: LockedWheel) -> Lock:
    environment = LockedEnvironment(
        request="sha256:" + "1" * 64, platform="linux/amd64", as_of="2026-01-31T12:00:00Z", wheels=wheels
    )
    return Lock(name="a", version="1", environments={"default": environment})


def test_packages_are_sorted_by_name_then_version() -> None:
    mixed = _lock(_wheel("b"), _wheel("a", "2"), _wheel("a", "1"))
    assert dump_lock(mixed) == dump_lock(_lock(_wheel("a", "1"), _wheel("a", "2"), _wheel("b")))
    assert [wheel.version for wheel in parse_lock(dump_lock(mixed), "x").environments["default"].wheels] == [
        "1",
        "2",
        "1",
    ]


def test_debian_packages_are_sorted_too() -> None:
    file = LockedFile(urls=("https://example.org/a.deb",), size=1, sha256="0" * 64)
    debs = [
        LockedDeb(name=name, version=version, architecture="all", source="a", file=file)
        for name, version in (("b", "1"), ("a", "2"), ("a", "1"))
    ]
    environment = replace(_lock().environments["default"], debs=tuple(debs))
    written = environment_json(environment)["debs"]
    assert [(deb["name"], deb["version"]) for deb in written] == [("a", "1"), ("a", "2"), ("b", "1")]


def test_defaults_are_left_out() -> None:
    assert sorted(environment_json(_lock().environments["default"])) == ["as-of", "platform", "request"]


def test_unknown_keys_cannot_shadow_known_ones() -> None:
    lock = replace(_lock(), extra={"afenv-lock": 7, "new": 1})
    assert parse_lock(dump_lock(lock), "x").extra == {"new": 1}


def test_spacing_and_order_do_not_matter() -> None:
    import json

    lock = _lock(_wheel("a"))
    tree = json.loads(dump_lock(lock))
    assert parse_lock(json.dumps(dict(reversed(tree.items()))).encode(), "x") == lock


def test_half_a_surrogate_pair() -> None:
    data = dump_lock(_lock()).replace(b'"name": "a"', b'"name": "\\ud800"')
    with pytest.raises(AfenvError, match="E022"):
        parse_lock(data, "x")


def test_deep_nesting() -> None:
    with pytest.raises(AfenvError, match="E022"):
        parse_lock(b"[" * 100_000, "x")


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "afenv.lock"
    with pytest.raises(AfenvError, match="E020"):
        read_lock(path)
    with pytest.raises(AfenvError, match="E022"):
        read_lock(tmp_path)
    before = os.umask(0o027)
    try:
        write_lock(path, _lock(_wheel("a")))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_lock(path) == _lock(_wheel("a"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["afenv.lock"]


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "E402"), (errno.EIO, "E403")])
def test_a_failed_write_leaves_the_old_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    path = tmp_path / "afenv.lock"
    write_lock(path, _lock())
    old = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AfenvError) as caught:
        write_lock(path, _lock(_wheel("a")))
    assert caught.value.code == code
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["afenv.lock"]


def test_write_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AfenvError, match="E403"):
        write_lock(tmp_path / "no" / "afenv.lock", _lock())


ENVIRONMENT = Environment(
    debian=DebianBase(suite="bookworm", packages=("python3", "git")),
    pypi=PypiSection(file="requirements.txt", dependencies=("hist",)),
)


def _digest(folder: Path, environment: Environment, name: str = "a", version: str = "0") -> str:
    manifest = AnalysisManifest(name=name, version=version, environments={"e": environment})
    return request_digest(manifest, "e", folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "requirements.txt").write_text("uproot\n-r sub/more.txt  # more\n--constraint=c.txt\n")
    (tmp_path / "sub" / "more.txt").write_text("awkward\n-r ../requirements.txt\n-c deep.txt\n")
    (tmp_path / "sub" / "deep.txt").write_text("numpy<3\n")
    (tmp_path / "c.txt").write_text("numpy<3\n")
    return tmp_path


def _pypi(**changes: object) -> Callable[[Environment], Environment]:
    return lambda old: replace(old, pypi=replace(old.pypi or PypiSection(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda old: replace(old, platform="linux/arm64"),
        lambda old: replace(old, debian=DebianBase(suite="trixie", packages=("python3", "git"))),
        lambda old: replace(old, debian=DebianBase(suite="bookworm", packages=("python3",))),
        lambda old: replace(old, pypi=None),
        lambda old: replace(old, bytecode=False),
        lambda old: replace(old, variables={"A": "1"}),
        lambda old: replace(old, entrypoint=("sh",)),
        lambda old: replace(old, workdir="/w"),
        _pypi(dependencies=("hist>2",)),
        _pypi(extras=("a",)),
        _pypi(groups=("a",)),
        _pypi(owners={"a": "b"}),
        _pypi(file=None),
    ],
)
def test_request_changes_with_the_environment(
    folder: Path, change: Callable[[Environment], Environment]
) -> None:
    assert _digest(folder, change(ENVIRONMENT)) != _digest(folder, ENVIRONMENT)


@pytest.mark.parametrize("name", ["requirements.txt", "sub/more.txt", "sub/deep.txt", "c.txt"])
def test_request_changes_with_the_files_it_refers_to(folder: Path, name: str) -> None:
    before = _digest(folder, ENVIRONMENT)
    (folder / name).write_text((folder / name).read_text() + "scipy\n")
    assert _digest(folder, ENVIRONMENT) != before


def test_request_does_not_depend_on_the_rest(folder: Path) -> None:
    other = replace(ENVIRONMENT, debian=DebianBase(suite="bookworm", packages=("git", "python3")))
    assert _digest(folder, other, name="b", version="9") == _digest(folder, ENVIRONMENT)


def test_request_of_a_missing_file(folder: Path) -> None:
    (folder / "sub" / "deep.txt").unlink()
    with pytest.raises(AfenvError) as caught:
        _digest(folder, ENVIRONMENT)
    assert caught.value.code == "E001"
    assert "deep.txt" in str(caught.value)
