"""Other people's tools accept our layouts and archives, many-member gzip layers included."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from afenv.oci.archive import write_archive
from afenv.oci.check import check_image
from afenv.oci.diff import diff
from afenv.oci.files import merged
from afenv.oci.image import assemble
from afenv.oci.layout import write_layout
from afenv.oci.model import Image
from afenv.oci.read import open_image
from afenv.oci.tree import tree_digest
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image, make_layer, make_lock

pytestmark = pytest.mark.services

MEMBERS = 5000


@pytest.fixture
def image(store: ContentStore) -> Image:
    """An image whose one layer is a gzip stream of 5,000 members, as wheels make them."""
    files = [folder("data")] + [
        Member(path=f"data/{count:04}.txt", content=b"%06d\n" % count * 100) for count in range(MEMBERS)
    ]
    layers = [
        make_layer(store, files, source="many members", gzip_members=MEMBERS),
        make_layer(store, [Member(path="hello.txt", content=b"hello\n")], source="code"),
    ]
    return assemble(make_lock(), "default", layers, 1735689600, store)


@pytest.fixture
def layout(image: Image, store: ContentStore, tmp_path: Path) -> Path:
    write_layout(image, store, tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture
def archive(image: Image, store: ContentStore, tmp_path: Path) -> Path:
    with (tmp_path / "image.tar").open("wb") as file:
        write_archive(image, store, file)
    return tmp_path / "image.tar"


def test_the_layer_really_has_many_members(image, store):
    assert store.path(image.layers[0].digest).read_bytes().count(b"\x1f\x8b\x08\x00") >= MEMBERS


def test_skopeo_reads_the_layout(call, skopeo, layout, image):
    shown = json.loads(call(skopeo, "inspect", f"oci:{layout}:sample:1.0").stdout)
    assert shown["Digest"] == image.manifest_digest
    assert shown["Labels"]["org.afenv.analysis"] == "sample"


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_copies_the_archive(call, skopeo, archive, image, tmp_path, transport):
    call(skopeo, "copy", "--quiet", f"{transport}:{archive}", f"oci:{tmp_path}/copy:x")
    # a docker-archive has no digests of its layers: skopeo writes the manifest again
    with open_image(tmp_path / "copy") as copied:
        assert [layer.diff_id for layer in copied.image.layers] == [one.diff_id for one in image.layers]
        if transport == "oci-archive":
            assert copied.image.manifest_digest == image.manifest_digest
    check_image(tmp_path / "copy")


def test_umoci_unpacks_the_layout(call, umoci, layout, tmp_path):
    call(umoci, "unpack", "--rootless", "--image", f"{layout}:sample:1.0", tmp_path / "bundle")
    files = sorted((tmp_path / "bundle" / "rootfs" / "data").iterdir())
    assert len(files) == MEMBERS
    assert files[-1].read_bytes() == b"004999\n" * 100


def test_docker_loads_the_archive_and_gives_it_back(call, docker, archive, image, layout, tmp_path):
    name = "afenv-test-load:1"
    try:
        call(docker, "load", "--input", archive)
        call(docker, "tag", image.image_id, name)
        shown = json.loads(call(docker, "image", "inspect", name).stdout)[0]
        assert shown["Id"] == image.image_id
        assert shown["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
        call(docker, "save", "--output", tmp_path / "saved.tar", name)
    finally:
        call(docker, "image", "rm", "--force", image.image_id)
    check_image(tmp_path / "saved.tar")
    assert not diff(layout, tmp_path / "saved.tar").differs
    with open_image(layout) as ours, open_image(tmp_path / "saved.tar") as theirs:
        assert tree_digest(merged(ours).values()) == tree_digest(merged(theirs).values())


@pytest.mark.parametrize("form", ["archive", "layout"])
def test_podman_loads_both(call, podman, archive, layout, image, form):
    command = shlex.split(podman)
    try:
        if form == "archive":
            call(*command, "load", "--input", archive)
        else:
            call(*command, "pull", f"oci:{layout}:sample:1.0")
        shown = json.loads(call(*command, "image", "inspect", image.image_id.removeprefix("sha256:")).stdout)
        assert shown[0]["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
        saved = archive.with_name("saved.tar")
        call(*command, "save", "--format", "oci-archive", "--output", saved, shown[0]["Id"])
    finally:
        call(*command, "image", "rm", "--force", image.image_id.removeprefix("sha256:"))
    assert check_image(saved).image_id == image.image_id


def test_an_image_that_another_tool_has_changed_is_read(call, umoci, skopeo, store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "layout", reference="one")
    call(umoci, "unpack", "--rootless", "--image", f"{tmp_path}/layout:one", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    (root / "hello.txt").unlink()
    (root / "etc" / "new").write_text("new\n")
    call(umoci, "repack", "--image", f"{tmp_path}/layout:two", tmp_path / "bundle")
    with open_image(tmp_path / "layout", reference="two") as opened:
        files = merged(opened)
    assert "hello.txt" not in files
    assert files["etc/new"].size == 4
    for compression in ("zstd", "gzip"):
        target = f"oci:{tmp_path}/{compression}:x"
        call(
            *(skopeo, "copy", "--quiet", "--dest-compress-format", compression, "--dest-compress"),
            *(f"oci:{tmp_path}/layout:two", target),
        )
        with open_image(tmp_path / compression) as opened:
            assert tree_digest(merged(opened).values()) == tree_digest(files.values())
