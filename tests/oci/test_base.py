"""An image in the store as the base of another one."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.layers.base_tree import parse_tree
from afenv.oci import media
from afenv.oci.base import base_of_image, check_layers, open_base
from afenv.oci.model import Image
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, make_foreign_image, symlink, tar_of

LIBC = b"\x7fELF...GNU C Library (GNU libc) stable release version 2.34.\nCopyright"
SYSTEM = [
    folder("usr"),
    folder("usr/lib64"),
    symlink("lib64", "usr/lib64"),
    Member(path="usr/lib64/libc.so.6", content=LIBC, mode=0o755),
    folder("etc"),
    Member(path="etc/os-release", content=b'ID="almalinux"\nVERSION_ID="9.4"\nID_LIKE="rhel centos"\n'),
    Member(path="etc/passwd", content=b"root:x:0:0:root:/root:/bin/bash\n"),
    folder("usr/bin"),
    symlink("bin", "usr/bin"),
    Member(path="usr/bin/bash", content=b"bash", mode=0o755),
    hardlink("usr/bin/sh", "usr/bin/bash"),
    folder("srv", uid=12, gid=34, mode=0o2775),
]
REFERENCE = "registry.example.org/base:1"


def locked(image: Image, store: ContentStore, platform: str = "linux/amd64") -> Any:
    return base_of_image(image, store, reference=REFERENCE, platform=platform)


@pytest.mark.parametrize(
    ("compression", "docker"), [("gzip", False), ("zstd", False), ("", False), ("gzip", True), ("", True)]
)
def test_what_the_lock_holds(store: ContentStore, compression: str, docker: bool) -> None:
    image = make_foreign_image(store, [SYSTEM, [folder("opt")]], compression=compression, docker=docker)
    base, _ = locked(image, store)
    assert (base.reference, base.digest, base.size) == (REFERENCE, image.manifest_digest, len(image.manifest))
    assert (base.config, base.config_size) == (image.image_id, len(image.config))
    assert base.media_type == (media.DOCKER_MANIFEST if docker else media.IMAGE_MANIFEST)
    assert [layer.diff_id for layer in base.layers] == [layer.diff_id for layer in image.layers]
    assert [layer.digest for layer in base.layers] == [layer.digest for layer in image.layers]
    wanted = {"gzip": media.LAYER_GZIP, "zstd": media.LAYER_ZSTD, "": media.LAYER_TAR}[compression]
    assert {layer.media_type for layer in base.layers} == {wanted}
    assert (base.system, base.glibc, base.shell) == ("almalinux 9.4", "2.34", "/bin/bash")
    assert (base.user, base.home, base.merged_usr, base.index) == (None, None, True, None)


def test_the_tree_is_that_of_all_layers(store: ContentStore) -> None:
    above = [
        Member(path="usr/bin/.wh.bash"),
        folder("etc"),
        Member(path="etc/.wh..wh..opq"),
        Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n", mode=0o600),
    ]
    _, opened = locked(make_foreign_image(store, [SYSTEM, above]), store)
    tree = opened.tree
    assert not tree.exists("usr/bin/bash")
    assert tree.is_file("bin/sh")
    assert tree.read("etc/os-release") is None
    assert tree.read("etc/passwd") == b"root:x:0:0::/root:/bin/sh\n"
    assert tree.kept["etc/passwd"].mode == 0o600
    assert tree.folders["srv"] == (0o2775, 12, 34)
    assert opened.contents(["usr/bin/sh"]) == {"usr/bin/sh": b"bash"}
    assert parse_tree(tree.dump()) == tree


def test_a_layer_is_read_once(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = locked(make_foreign_image(store, [SYSTEM]), store)
    for layer in base.layers:
        store.path(layer.digest).unlink()
    assert open_base(base, store).tree.is_file("lib64/libc.so.6")


def test_user_and_home_are_those_of_the_base(store: ContentStore) -> None:
    accounts = Member(path="etc/passwd", content=b"jovyan:x:1000:100::/home/jovyan:/bin/bash\n")
    image = make_foreign_image(store, [SYSTEM, [accounts]], settings={"User": "jovyan:users"})
    base, _ = locked(image, store)
    assert (base.user, base.home) == ("jovyan:users", "/home/jovyan")
    for user in ("", "root", "0", "0:0", "root:root"):
        assert locked(make_foreign_image(store, [SYSTEM], settings={"User": user}), store)[0].user is None


def _codes(store: ContentStore, image: Image, **more: Any) -> tuple[str, str]:
    with pytest.raises(AfenvError) as caught:
        locked(image, store, **more)
    return caught.value.code, caught.value.problems[0].message


def test_another_platform(store: ContentStore) -> None:
    code, message = _codes(store, make_foreign_image(store, [SYSTEM], platform="linux/arm64"))
    assert (code, message) == ("E112", "the image is for linux/arm64, and the environment for linux/amd64")
    assert _codes(store, make_foreign_image(store, [SYSTEM], platform="windows/amd64"))[0] == "E112"


def test_a_config_that_lies_about_a_layer(store: ContentStore) -> None:
    lie = "sha256:" + "0" * 64
    image = make_foreign_image(store, [SYSTEM], rootfs={"type": "layers", "diff_ids": [lie]})
    code, message = _codes(store, image)
    assert code == "E301"
    assert lie in message
    assert _codes(store, image)[0] == "E301"  # nothing was remembered of it


def test_what_follows_the_archive_belongs_to_the_layer(store: ContentStore) -> None:
    image = make_foreign_image(store, [tar_of(SYSTEM) + b"more" * 5000])
    assert locked(image, store)[0].layers[0].diff_id == image.layers[0].diff_id


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_a_layer_that_is_no_tar(store: ContentStore, compression: str) -> None:
    image = make_foreign_image(store, [b"this is no archive" * 100], compression=compression)
    assert _codes(store, image)[0] == "E510"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_layer_that_ends_too_early(store: ContentStore, compression: str) -> None:
    image = make_foreign_image(store, [SYSTEM], compression=compression)
    damaged = store.path(image.layers[0].digest)
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert _codes(store, image)[0] in ("E301", "E510")


@pytest.mark.parametrize(
    "layer",
    [
        {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
        {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
        {"mediaType": media.LAYER_GZIP, "urls": ["https://example.org/layer"]},
        {"mediaType": "application/vnd.example.layer"},
    ],
)
def test_layers_that_cannot_be_part_of_another_image(layer: dict[str, Any]) -> None:
    with pytest.raises(AfenvError) as caught:
        check_layers({"layers": [{"mediaType": media.LAYER_TAR}, layer]}, REFERENCE)
    assert caught.value.code == "E112"
    assert caught.value.problems[0].place == f"{REFERENCE}, layer 2"


def test_an_image_without_layers() -> None:
    for manifest in ({}, {"layers": []}):
        with pytest.raises(AfenvError, match="no layers"):
            check_layers(manifest, REFERENCE)


def test_a_config_that_is_no_object(store: ContentStore) -> None:
    image = make_foreign_image(store, [SYSTEM])
    broken = Image(config=b"[]", manifest=image.manifest, layers=image.layers)
    assert _codes(store, broken)[0] == "E510"


def test_paths_out_of_the_root_are_not_seen(store: ContentStore) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../etc/passwd"))
        tar.addfile(tarfile.TarInfo("./etc/./shells"))
    _, opened = locked(make_foreign_image(store, [stream.getvalue()]), store)
    assert list(opened.tree.files) == ["etc/shells"]


def test_a_damaged_tree_is_read_again(store: ContentStore) -> None:
    base, opened = locked(make_foreign_image(store, [SYSTEM]), store)
    for path in (store.folder / "keys" / "base-tree").rglob("*.json"):
        digest = json.loads(path.read_bytes())
        store.path(digest).chmod(0o644)
        store.path(digest).write_bytes(b"damaged")
    assert open_base(base, store).tree == opened.tree
