"""Writing the files of an image into a folder."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from afenv.errors import AfenvError
from afenv.oci.files import Entry, merged
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.unpack import unpack_layers, unpacked_root
from afenv.testing import Member, folder, gzip_of, hardlink, make_image, make_layer, symlink, tar_of
from afenv.workflow.cache import cache_prune, cache_summary


def file(path: str, content: str = "", **more) -> Member:
    return Member(path=path, content=content.encode(), **more)


def unpack(tmp_path: Path, store, *layers) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    unpack_layers([make_layer(store, members) for members in layers], store, root, quiet=True)
    return root


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


LAYERS = (
    [
        folder("etc", 0o750),
        file("etc/shadow", "secret", mode=0o600),
        file("usr/bin/tool", "#!/bin/sh\n", mode=0o4755),
        hardlink("usr/bin/other", "usr/bin/tool"),
        symlink("bin", "usr/bin"),
        folder("old"),
        file("old/a"),
        file("old/sub/b"),
        folder("tmp", 0o1777),
        file("kind", "a file"),
        folder("emptied"),
        file("emptied/x"),
        folder("closed", 0o555),
        file("closed/x", "1"),
    ],
    [
        file("old/.wh.sub"),
        file("emptied/.wh..wh..opq"),
        file("emptied/new", "n"),
        folder("kind"),
        file("kind/inside", "x" * 3_000_000),
        file("closed/x", "2", mode=0o444),
        symlink("absolute", "/etc/shadow"),
        hardlink("shadow", "etc/shadow"),
        file(".wh.nothing"),
        symlink("climbing", "../../../../etc/passwd"),
        file("späte/straße"),
    ],
)


def test_the_tree_is_what_the_layers_make_together(tmp_path, store):
    image = make_image(store, LAYERS)
    write_layout(image, store, tmp_path / "layout")
    with open_image(tmp_path / "layout") as opened:
        wanted = merged(opened, contents=False)
    root = unpack(tmp_path, store, *LAYERS)
    found: dict[str, Entry] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else "f"
        name = str(path.relative_to(root))
        found[name] = Entry(
            path=name,
            kind=kind,
            mode=0o777 if kind == "l" else status.st_mode & 0o7777,
            size=status.st_size if kind == "f" else 0,
            target=str(path.readlink()) if kind == "l" else "",
            mtime=0,
        )
    assert found == wanted
    assert (root / "kind" / "inside").read_text() == "x" * 3_000_000
    assert (root / "usr/bin/tool").samefile(root / "usr/bin/other")
    assert (root / "closed/x").read_text() == "2"


def test_times_are_kept(tmp_path, store):
    root = unpack(tmp_path, store, [folder("d"), file("d/x"), symlink("d/l", "x")])
    assert {path.lstat().st_mtime for path in root.rglob("*")} == {0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_are_kept_as_root(tmp_path, store):
    root = unpack(tmp_path, store, [folder("home/a", uid=1000, gid=1001), file("home/a/x", uid=7, gid=8)])
    assert [
        ((root / name).stat().st_uid, (root / name).stat().st_gid) for name in ("home/a", "home/a/x")
    ] == [
        (1000, 1001),
        (7, 8),
    ]


def test_a_link_of_a_lower_layer_is_not_followed(tmp_path, store):
    outside = tmp_path / "outside"
    outside.mkdir()
    root = unpack(tmp_path, store, [symlink("d", str(outside))], [file("d/x")])
    assert list(outside.iterdir()) == []
    assert names(root) == {"d", "d/x"}
    assert not (root / "d").is_symlink()


def test_a_whiteout_leaves_its_own_layer(tmp_path, store):
    root = unpack(
        tmp_path, store, [file("d/x"), file("y")], [file("d/new"), file(".wh.d"), file(".wh..wh..opq")]
    )
    assert names(root) == {"d", "d/new"}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([file("../x")], "E304"),
        ([file("a/../../x")], "E304"),
        ([hardlink("x", "../../etc/passwd")], "E304"),
        ([hardlink("x", "/etc/passwd")], "E510"),
        ([symlink("d", "/"), file("d/x")], "E304"),
        ([symlink("d", "/"), hardlink("x", "d/etc/passwd")], "E510"),
        ([file("d"), file("d/x")], "E304"),
        ([Member(path="sda", kind=tarfile.BLKTYPE)], "E510"),
        ([Member(path="null", kind=tarfile.CHRTYPE)], "E510"),
        ([folder("d"), hardlink("x", "d")], "E510"),
        ([hardlink("x", "missing")], "E510"),
        ([file("d/x"), hardlink("d", "d/x")], "E510"),
    ],
)
def test_what_leads_outside_is_refused(tmp_path, store, members, code):
    root = tmp_path / "inner" / "root"
    root.mkdir(parents=True)
    with pytest.raises(AfenvError) as caught:
        unpack_layers([make_layer(store, members)], store, root, quiet=True)
    assert caught.value.code == code
    assert list((tmp_path / "inner").iterdir()) == [root]


def test_devices_of_dev_are_left_out(tmp_path, store):
    root = unpack(tmp_path, store, [folder("dev"), Member(path="dev/null", kind=tarfile.CHRTYPE)])
    assert names(root) == {"dev"}


def damaged_blobs() -> list[bytes]:
    tar = tar_of([file("x", "y" * 10_000), file("z", "".join(map(str, range(9000))))])
    whole = [gzip_of(tar), zstandard.compress(tar)]
    cut = [data[: len(data) // 2] for data in (*whole, tar)]
    flipped = whole[0][:200] + bytes(byte ^ 255 for byte in whole[0][200:220]) + whole[0][220:]
    return [*cut, flipped, b"no tar" * 100]


@pytest.mark.parametrize("data", damaged_blobs())
def test_a_damaged_layer_is_one_error(tmp_path, store, data):
    layer = replace(make_layer(store, []), digest=store.put(data), size=len(data))
    with pytest.raises(AfenvError) as caught:
        unpack_layers([layer], store, tmp_path, quiet=True)
    assert caught.value.code == "E510"


def test_a_tree_is_made_once_and_again_when_it_was_changed(store):
    layers = [make_layer(store, members) for members in LAYERS]
    root = unpacked_root(layers, store, quiet=True)
    before = root.stat().st_ino
    assert unpacked_root(layers, store, quiet=True) == root
    assert root.stat().st_ino == before
    (root / "old/a").write_text("changed")
    assert unpacked_root(layers, store, quiet=True) == root
    assert (root / "old/a").read_text() == ""
    (root / "old/a").unlink()
    unpacked_root(layers, store, quiet=True)
    assert (root / "old/a").exists()
    assert unpacked_root(layers[:1], store, quiet=True) != root


def test_the_cache_counts_and_prunes_trees(store):
    layers = [make_layer(store, members) for members in LAYERS]
    root = unpacked_root(layers, store, quiet=True)
    (root.parent / ".half-made").mkdir()
    summary = cache_summary(store)
    assert summary.trees == 2
    assert summary.tree_bytes > 3_000_000
    assert cache_prune(store, older_than=1000).removed_trees == 1
    assert root.is_dir()
    result = cache_prune(store, keep_bytes=0)
    assert result.removed_trees == 1
    assert (result.kept_bytes, list(root.parent.iterdir())) == (0, [])
    assert result.freed_bytes > 3_000_000
