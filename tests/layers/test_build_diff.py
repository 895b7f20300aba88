"""What a command changed, from a copy and from the upper folder of an overlay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.layers.build_diff import changes, write_changes
from afenv.layers.writer import LayerWriter


def make(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def found(changed: Path, *lowers: Path, overlay: bool = False) -> list[tuple[str, str]]:
    return [(change.path, change.kind) for change in changes(changed, lowers, overlay=overlay)]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "changed").mkdir()
    (tmp_path / "lower").mkdir()
    return make(tmp_path / "lower", usr__bin__tool="tool", usr__share__doc="doc", etc__hosts="hosts")


@pytest.fixture
def copy(tmp_path: Path, lower: Path) -> Path:
    return make(tmp_path / "changed", usr__bin__tool="tool", usr__share__doc="doc", etc__hosts="hosts")


def test_nothing_has_changed(copy, lower):
    os.utime(copy / "etc/hosts")
    assert found(copy, lower) == []


def test_files_are_added_changed_and_removed(copy, lower):
    make(copy, usr__new="new", etc__hosts="other")
    (copy / "usr/share/doc").unlink()
    assert found(copy, lower) == [
        ("etc", "d"),
        ("etc/hosts", "f"),
        ("usr", "d"),
        ("usr/new", "f"),
        ("usr/share", "d"),
        ("usr/share/doc", "removed"),
    ]


def test_a_mode_counts_and_a_parent_keeps_its_own(copy, lower):
    (copy / "usr/bin/tool").chmod(0o755)
    (copy / "usr/bin").chmod(0o750)
    (lower / "usr/bin").chmod(0o750)
    got = {change.path: change.mode for change in changes(copy, [lower], overlay=False)}
    assert got == {"usr": 0o755, "usr/bin": 0o750, "usr/bin/tool": 0o755}


def test_a_folder_becomes_a_link_and_a_file_a_folder(copy, lower):
    (copy / "usr/share/doc").unlink()
    (copy / "usr/share").rmdir()
    (copy / "usr/share").symlink_to("bin")
    (copy / "etc/hosts").unlink()
    make(copy, etc__hosts__a="a")
    assert found(copy, lower) == [
        ("etc", "d"),
        ("etc/hosts", "d"),
        ("etc/hosts/a", "f"),
        ("usr", "d"),
        ("usr/share", "l"),
    ]


def test_what_no_layer_holds_is_left_out(copy, lower):
    os.mkfifo(copy / "pipe")
    (copy / "etc/hosts").unlink()
    os.mkfifo(copy / "etc/hosts")
    assert found(copy, lower) == [("etc", "d"), ("etc/hosts", "removed")]


def test_the_upper_folder_of_an_overlay(tmp_path, lower):
    upper = make(tmp_path / "changed", usr__share__new="new", etc__hosts="hosts")
    assert found(upper, lower, overlay=True) == [("usr", "d"), ("usr/share", "d"), ("usr/share/new", "f")]
    try:
        os.setxattr(upper / "usr/share", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    assert ("usr/share/doc", "removed") in found(upper, lower, overlay=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_whiteout_of_an_overlay(tmp_path, lower):
    upper = make(tmp_path / "changed", etc__new="new")
    os.mknod(upper / "etc/hosts", 0o020000)
    os.mknod(upper / "etc/never", 0o020000)
    assert found(upper, lower, overlay=True) == [("etc", "d"), ("etc/hosts", "removed"), ("etc/new", "f")]


def test_several_lowers_are_one_tree(tmp_path, lower):
    code = make(tmp_path / "code", analysis__fit="fit", etc__hosts="of the code")
    copy = make(
        tmp_path / "changed",
        usr__bin__tool="tool",
        usr__share__doc="doc",
        etc__hosts="hosts",
        analysis__fit="fit",
    )
    assert found(copy, code, lower) == [("etc", "d"), ("etc/hosts", "f")]
    assert found(copy, lower, code) == []
    hiding = make(tmp_path / "hiding", usr="a file")
    assert ("usr/bin/tool", "f") in found(copy, hiding, lower)


class Memory:
    """A blob in memory."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def digest(self) -> str:
        return "sha256:" + "0" * 64


def test_the_layer_has_whiteouts_and_hard_links(copy, lower):
    make(copy, a="linked")
    (copy / "b").hardlink_to(copy / "a")
    (copy / "etc/hosts").unlink()
    writer = LayerWriter(Memory(), mtime=0)
    write_changes(changes(copy, [lower], overlay=False), writer)
    got = [(entry.path, entry.kind, entry.target) for entry in writer.finish().entries]
    assert got == [("a", "f", ""), ("b", "h", "a"), ("etc", "d", ""), ("etc/.wh.hosts", "f", "")]


def test_a_name_that_means_a_removal_is_refused(copy, lower):
    make(copy, **{"etc__.wh.hosts": ""})
    with pytest.raises(AfenvError) as caught:
        write_changes(changes(copy, [lower], overlay=False), LayerWriter(Memory(), mtime=0))
    assert caught.value.code == "E304"


def test_what_cannot_be_read_by_mode_is_read(copy, lower):
    make(copy, secret__x="x")
    (copy / "secret/x").chmod(0)
    (copy / "secret").chmod(0)
    writer = LayerWriter(Memory(), mtime=0)
    write_changes(changes(copy, [lower], overlay=False), writer)
    assert [(entry.path, entry.mode) for entry in writer.finish().entries] == [("secret", 0), ("secret/x", 0)]
