"""Layout folders and archives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile

import pytest

from afenv.errors import AfenvError
from afenv.oci import layout as module
from afenv.oci.archive import write_archive
from afenv.oci.check import check_image
from afenv.oci.layout import index_bytes, write_layout
from afenv.store.content import ContentStore
from afenv.testing import Member, make_image


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archive_bytes(image, store, **options) -> bytes:
    stream = io.BytesIO()
    write_archive(image, store, stream, **options)
    return stream.getvalue()


def test_a_layout(store, tmp_path):
    image = make_image(store)
    assert write_layout(image, store, tmp_path / "deep" / "out")
    folder = tmp_path / "deep" / "out"
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_bytes())
    (descriptor,) = index["manifests"]
    assert descriptor["digest"] == image.manifest_digest
    assert descriptor["platform"] == {"os": "linux", "architecture": "amd64"}
    assert descriptor["annotations"] == {"org.opencontainers.image.ref.name": "sample:1.0"}
    for blob in (folder / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert len(list((folder / "blobs" / "sha256").iterdir())) == 4
    assert check_image(folder).image_id == image.image_id
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_layers_are_links_into_the_store(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "out")
    digest = image.layers[0].digest
    blob = tmp_path / "out" / "blobs" / "sha256" / digest[7:]
    assert blob.stat().st_ino == store.path(digest).stat().st_ino


def test_nothing_is_written_twice(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "out")
    before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    assert not write_layout(image, store, tmp_path / "out")
    assert {path: path.stat() for path in (tmp_path / "out").rglob("*")} == before


def test_an_older_layout_is_brought_up_to_date(store, tmp_path):
    write_layout(make_image(store), store, tmp_path / "out")
    new = make_image(store, [[Member(path="other")]])
    assert write_layout(new, store, tmp_path / "out")
    write_layout(new, store, tmp_path / "fresh")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "fresh")


def test_another_reference_is_a_change(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "out")
    assert write_layout(image, store, tmp_path / "out", reference="latest")
    assert b'"latest"' in (tmp_path / "out" / "index.json").read_bytes()


def test_an_empty_folder_is_used(store, tmp_path):
    (tmp_path / "out").mkdir()
    write_layout(make_image(store), store, tmp_path / "out")
    check_image(tmp_path / "out")


@pytest.mark.parametrize("what", ["file", "folder", "foreign layout", "file in ours"])
def test_what_is_not_ours_is_left_alone(store, tmp_path, what):
    image = make_image(store)
    out = tmp_path / "out"
    if what == "file":
        out.write_text("precious")
    elif what == "folder":
        out.mkdir()
        (out / "thesis.tex").write_text("precious")
    else:
        write_layout(image, store, out)
        if what == "file in ours":
            (out / "notes.txt").write_text("precious")
        else:
            index = json.loads((out / "index.json").read_bytes())
            del index["annotations"]
            (out / "index.json").write_text(json.dumps(index))
    before = snapshot(tmp_path)
    with pytest.raises(AfenvError) as caught:
        write_layout(make_image(store, [[Member(path="other")]]), store, out)
    assert caught.value.code == "E032"
    after = snapshot(tmp_path)
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("damage", ["gone", "short", "changed", "config", "layout file"])
def test_damage_is_repaired(store, tmp_path, damage):
    image = make_image(store)
    out = tmp_path / "out"
    write_layout(image, store, out)
    whole = snapshot(out)
    blob = out / "blobs" / "sha256" / image.layers[1].digest[7:]
    if damage == "gone":
        blob.unlink()
    elif damage in ("short", "changed"):  # another file: the store's own stays whole
        data = blob.read_bytes()
        blob.unlink()
        blob.write_bytes(data[:-1] if damage == "short" else data[:-1] + b"?")
    elif damage == "config":
        name = out / "blobs" / "sha256" / image.image_id[7:]
        name.write_bytes(name.read_bytes().replace(b"amd64", b"arm64"))
    else:
        (out / "oci-layout").write_text("{}")
    assert write_layout(image, store, out)
    assert snapshot(out) == whole


def test_a_killed_write_leaves_the_old_image_and_the_next_one_cleans_up(store, tmp_path, monkeypatch):
    old = make_image(store)
    out = tmp_path / "out"
    write_layout(old, store, out)
    new = make_image(store, [[Member(path="other")]])
    replace = module._replace

    def killed(target, data):
        if target.name == "index.json":
            (target.parent / ".afenv-left").write_bytes(b"half")
            raise KeyboardInterrupt
        replace(target, data)

    monkeypatch.setattr(module, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_layout(new, store, out)
    assert check_image(out).image_id == old.image_id
    with pytest.raises(KeyboardInterrupt):
        write_layout(new, store, tmp_path / "first")
    assert not (tmp_path / "first").exists()
    monkeypatch.undo()
    (tmp_path / ".first.afenv-killed").mkdir()
    write_layout(new, store, out)
    write_layout(new, store, tmp_path / "first")
    assert snapshot(out) == snapshot(tmp_path / "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "first", "out"]


def test_a_missing_layer_is_an_error_and_nothing_appears(store, tmp_path):
    image = make_image(store)
    store.path(image.layers[0].digest).unlink()
    with pytest.raises(AfenvError) as caught:
        write_layout(image, store, tmp_path / "out")
    assert caught.value.code == "E305"
    assert not (tmp_path / "out").exists()
    with pytest.raises(AfenvError) as caught:
        archive_bytes(image, store)
    assert caught.value.code == "E305"


def test_a_place_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AfenvError) as caught:
        write_layout(make_image(store), store, tmp_path / "file" / "out")
    assert caught.value.code == "E403"


def test_an_archive_is_the_same_everywhere(tmp_path):
    stores = [ContentStore(tmp_path / name) for name in ("one", "two")]
    mask = os.umask(0o077)
    try:
        first, second = (archive_bytes(make_image(store), store) for store in stores)
    finally:
        os.umask(mask)
    assert first == second
    assert len(first) % 10240 == 0


def test_an_archive_is_both_kinds(store):
    image = make_image(store)
    with tarfile.open(fileobj=io.BytesIO(archive_bytes(image, store))) as tar:
        names = [member.name for member in tar if not member.isdir()]
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert member.mode == (0o755 if member.isdir() else 0o444)
        folders = [member.name for member in tar if member.isdir()]
        assert folders == ["blobs", "blobs/sha256"]
        manifest = json.loads(tar.extractfile("manifest.json").read())
        assert tar.extractfile("index.json").read() == index_bytes(image)
        assert tar.extractfile("oci-layout").read() == module.OCI_LAYOUT
    assert manifest == [
        {
            "Config": f"blobs/sha256/{image.image_id[7:]}",
            "RepoTags": ["sample:1.0"],
            "Layers": [f"blobs/sha256/{layer.digest[7:]}" for layer in image.layers],
        }
    ]
    assert len(names) == len(set(names)) == 7


def test_layers_may_be_left_out_of_an_archive(store):
    image = make_image(store)
    with tarfile.open(fileobj=io.BytesIO(archive_bytes(image, store, omit={image.layers[0].diff_id}))) as tar:
        names = tar.getnames()
    assert f"blobs/sha256/{image.layers[0].digest[7:]}" not in names
    assert f"blobs/sha256/{image.layers[1].digest[7:]}" in names


def test_a_layer_that_occurs_twice_is_written_once(store, tmp_path):
    image = make_image(store, [[Member(path="a")], [Member(path="b")], [Member(path="a")]])
    write_layout(image, store, tmp_path / "out")
    assert len(check_image(tmp_path / "out").layers) == 3
    (tmp_path / "a.tar").write_bytes(archive_bytes(image, store))
    assert len(check_image(tmp_path / "a.tar").layers) == 3


def test_progress_counts_every_byte(store):
    image = make_image(store)
    seen: list[int] = []
    data = archive_bytes(image, store, advance=seen.append)
    assert sum(seen) == len(data)


@pytest.mark.parametrize("index", [b'{"annotations": null}', b'{"annotations": 5}', b"{}", b"[" * 100_000])
def test_a_layout_with_an_index_that_is_not_ours(store, tmp_path, index):
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "index.json").write_bytes(index)
    with pytest.raises(AfenvError, match="E032"):
        write_layout(make_image(store), store, tmp_path / "layout")
