"""Reading layouts and archives of every kind."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile

import pytest
import zstandard

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.archive import write_archive
from afenv.oci.attached import Attachment, artifact_manifest, attachment_from, read_attachments
from afenv.oci.blobs import FolderBlobs
from afenv.oci.check import check_image
from afenv.oci.files import merged
from afenv.oci.inspect import inspect_image
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.tree import tree_digest
from afenv.testing import Member, make_image, tar_of


@pytest.fixture
def image(store):
    return make_image(store)


@pytest.fixture
def layout(image, store, tmp_path):
    write_layout(image, store, tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture
def archive(image, store, tmp_path):
    with (tmp_path / "image.tar").open("wb") as file:
        write_archive(image, store, file)
    return tmp_path / "image.tar"


def code_of(path, **options) -> str:
    with pytest.raises(AfenvError) as caught, open_image(path, **options) as opened:
        merged(opened)
    assert str(path.name) in str(caught.value) or caught.value.code == "E510"
    return caught.value.code


def add_file(tar, name, data):
    information = tarfile.TarInfo(name)
    information.size = len(data)
    tar.addfile(information, io.BytesIO(data))


def test_a_layout_gives_the_image_back(layout, image):
    with open_image(layout) as opened:
        assert opened.image == image


def test_an_archive_gives_the_image_back(archive, image):
    with open_image(archive) as opened:
        assert opened.image == image
        with opened.layer(0) as one, opened.layer(1) as two:  # both at once
            assert len(one.read()) > 1000 < len(two.read())


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_an_archive_that_is_compressed_as_a_whole(archive, image, pack):
    archive.write_bytes(pack(archive.read_bytes()))
    with open_image(archive) as opened:
        assert opened.image == image
    assert check_image(archive) == image


@pytest.mark.parametrize("old", [False, True])
def test_a_docker_archive(store, tmp_path, old):
    """As `docker save` wrote it before version 25: uncompressed layers, repeated ones as links."""
    layers = [tar_of([Member(path="a", content=b"1")]), tar_of([Member(path="b", content=b"2")])]
    layers.append(layers[0])
    config = canonical.compact(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256_bytes(layer) for layer in layers]},
        }
    )
    names = ["l1/layer.tar", "l2/layer.tar", "l3/layer.tar"]
    with tarfile.open(tmp_path / "saved.tar", "w") as tar:
        for name, layer in zip(names[:2], layers, strict=False):
            add_file(tar, name, layer if old else gzip.compress(layer))
        link = tarfile.TarInfo(names[2])
        link.type, link.linkname = tarfile.SYMTYPE, "../l1/layer.tar"
        tar.addfile(link)
        add_file(tar, "c.json", config)
        manifest = [{"Config": "c.json", "RepoTags": ["group/x:1"], "Layers": names}]
        add_file(tar, "manifest.json", json.dumps(manifest).encode())
    with open_image(tmp_path / "saved.tar") as opened:
        assert (opened.image.image_id, opened.image.reference) == (sha256_bytes(config), "group/x:1")
        assert sorted(merged(opened)) == ["a", "b"]
        assert {layer.media_type for layer in opened.image.layers} == {
            media.LAYER_TAR if old else media.LAYER_GZIP
        }
    check_image(tmp_path / "saved.tar")


@pytest.mark.parametrize(
    ("media_type", "pack"),
    [
        (media.LAYER_TAR, bytes),
        (media.LAYER_GZIP, gzip.compress),
        (media.LAYER_ZSTD, lambda data: zstandard.compress(data[:700]) + zstandard.compress(data[700:])),
        ("application/octet-stream", gzip.compress),  # the first bytes decide
    ],
)
def test_layers_of_every_compression(layout, image, media_type, pack):
    with open_image(layout) as opened:
        digest = tree_digest(merged(opened).values())
        blobs = []
        for position in range(2):
            with opened.layer(position) as stream:
                blobs.append(pack(stream.read()))
    manifest = json.loads(image.manifest)
    manifest["layers"] = [
        {"mediaType": media_type, "digest": sha256_bytes(blob), "size": len(blob)} for blob in blobs
    ]
    data = canonical.compact(manifest)
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": sha256_bytes(data), "size": len(data)}
    (layout / "index.json").write_bytes(canonical.compact(index))
    for blob in (*blobs, data):
        (layout / "blobs" / "sha256" / sha256_bytes(blob)[7:]).write_bytes(blob)
    assert check_image(layout).image_id == image.image_id
    with open_image(layout) as opened:
        assert tree_digest(merged(opened).values()) == digest


def several(layout, store, other) -> None:
    """Put a second image, an attestation and a nested index into the layout."""
    index = json.loads((layout / "index.json").read_bytes())
    inner = canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_INDEX,
            "manifests": [
                other.manifest_descriptor().as_json(),
                other.manifest_descriptor().as_json()
                | {"digest": "sha256:" + "0" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
            ],
        }
    )
    for data in (inner, other.manifest, other.config):
        (layout / "blobs" / "sha256" / sha256_bytes(data)[7:]).write_bytes(data)
    for layer in other.layers:
        shutil.copy(store.path(layer.digest), layout / "blobs" / "sha256" / layer.digest[7:])
    index["manifests"].append(
        {
            "mediaType": media.IMAGE_INDEX,
            "digest": sha256_bytes(inner),
            "size": len(inner),
            "annotations": {media.REF_NAME: "other"},
        }
    )
    (layout / "index.json").write_bytes(canonical.compact(index))


def test_one_of_several_images_is_chosen_by_name_or_digest(layout, store, image):
    other = make_image(store, [[Member(path="other")]])
    several(layout, store, other)
    for reference, expected in (
        ("sample:1.0", image),
        ("other", other),
        (other.manifest_digest, other),
    ):
        with open_image(layout, reference=reference) as opened:
            assert opened.image.image_id == expected.image_id
    with pytest.raises(AfenvError, match=r"several images: other, sample:1\.0"), open_image(layout):
        pass
    assert code_of(layout, reference="third") == "E510"


def test_nothing_there(tmp_path):
    assert code_of(tmp_path / "no") == "E001"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello" * 1000, id="text"),
        pytest.param(gzip.compress(b"hello" * 1000, mtime=0), id="gzip of text"),
        pytest.param(gzip.compress(b"x" * 5000, mtime=0)[:-20], id="gzip cut short"),
        pytest.param(b"\x28\xb5\x2f\xfdxx", id="damaged zstd"),
    ],
)
def test_files_that_are_not_images(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert code_of(tmp_path / "file") == "E510"


def test_a_tar_without_an_image(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of([Member(path="a", content=b"a")]))
    assert code_of(tmp_path / "x.tar") == "E510"


def test_a_folder_that_is_not_a_layout(tmp_path):
    assert code_of(tmp_path) == "E510"


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"manifests": null}',
        b'{"manifests": []}',
        b'{"manifests": [{}]}',
        b'{"manifests": [{"digest": "sha256:x"}]}',
        b'{"manifests": [{"digest": "../../etc/passwd"}]}',
        b'{"manifests": [{"digest": 1}]}',
        b'{"manifests": ["x"]}',
        b"\xff\xfe",
    ],
)
def test_damaged_indexes(layout, index):
    (layout / "index.json").write_bytes(index)
    assert code_of(layout) == "E510"


@pytest.mark.parametrize("what", ["config", "manifest"])
def test_a_changed_config_or_manifest_is_noticed(layout, image, what):
    digest = image.image_id if what == "config" else image.manifest_digest
    path = layout / "blobs" / "sha256" / digest[7:]
    path.write_bytes(path.read_bytes() + b" ")
    assert code_of(layout) == "E301"
    path.unlink()
    assert code_of(layout) == "E301"


def change_documents(layout, image, config=None, manifest=None):
    """Change config and manifest, with the digests that lead to them."""
    text = canonical.compact(json.loads(image.config) | config) if isinstance(config, dict) else config
    text = image.config if text is None else text
    document = json.loads(image.manifest) | (manifest or {})
    document["config"] = document["config"] | {"digest": sha256_bytes(text), "size": len(text)}
    data = json.dumps(document).encode()
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": sha256_bytes(data)}
    (layout / "index.json").write_bytes(canonical.compact(index))
    for blob in (text, data):
        (layout / "blobs" / "sha256" / sha256_bytes(blob)[7:]).write_bytes(blob)


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": {"diff_ids": []}},
        {"rootfs": None},
        {"rootfs": {"diff_ids": [1, 2]}},
        {"architecture": ["amd64"]},
        {"created": 5},
        {"history": {}},
        {"config": []},
        {"config": {"Env": True}},
        {"config": {"Env": [1]}},
        {"config": {"Entrypoint": "sh"}},
        {"config": {"Cmd": 5}},
        {"config": {"Labels": ["a"]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"User": {}}},
        b'{"config": ' + b"[" * 100_000,
        b'{"created": "\\ud800"}',
        b'{"created": 1e999}',
    ],
)
def test_a_config_that_is_none(layout, image, change):
    change_documents(layout, image, config=change)
    assert code_of(layout) == "E510"


def test_fields_that_go_writes_as_null(layout, image):
    nothing = dict.fromkeys(("Env", "Entrypoint", "Cmd", "Labels", "User", "WorkingDir", "Volumes"))
    change_documents(layout, image, config={"config": nothing, "created": None, "history": None})
    assert inspect_image(layout).as_text()
    change_documents(layout, image, config={"config": None})
    assert inspect_image(layout).as_json()["environment"] == []


@pytest.mark.parametrize("size", [float("inf"), -1, "many", None])
def test_a_manifest_with_a_size_that_is_none(layout, image, size):
    layers = [layer | {"size": size} for layer in json.loads(image.manifest)["layers"]]
    change_documents(layout, image, manifest={"layers": layers})
    assert code_of(layout) == "E510"


@pytest.mark.parametrize("notes", [True, [1], "text"])
def test_an_index_with_annotations_that_are_none(layout, image, notes):
    index = json.loads((layout / "index.json").read_bytes())
    assert (
        read_attachments(json.dumps(index | {"annotations": notes}).encode(), FolderBlobs(layout), "", "")
        == []
    )


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [{"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": float("inf")}]},
        {"layers": [{"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1, "annotations": [1]}]},
        {"annotations": ["a"]},
        {"config": "text"},
    ],
)
def test_an_attachment_whose_manifest_is_damaged(image, change):
    subject = image.manifest_descriptor()
    attachment = Attachment(artifact_type="a/b", media_type="text/plain", title="a", content=b"a")
    manifest = json.loads(artifact_manifest(subject, attachment))
    attachment_from(json.dumps(manifest).encode(), b"a", subject.digest, "x")
    with pytest.raises(AfenvError, match="E510"):
        attachment_from(json.dumps(manifest | change).encode(), b"a", subject.digest, "x")


def test_an_archive_cut_short(archive):
    data = archive.read_bytes()
    for length in range(0, len(data) - 1024, 997):
        archive.write_bytes(data[:length])
        try:
            check_image(archive)
        except AfenvError as error:
            assert error.code in ("E510", "E301", "E302")
