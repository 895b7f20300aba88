"""Manifests with all that they name, in memory, in layouts, and as artifacts of files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.artifact import file_graph, files_of, kind_of
from afenv.oci.graph import MANIFESTS, RemoteManifest, checked_member, walk
from afenv.oci.graph_layout import open_graph, write_graph
from afenv.oci.layout import write_layout
from afenv.testing import Member, make_image


def document(value, kind=media.IMAGE_MANIFEST) -> RemoteManifest:
    return RemoteManifest(content=json.dumps(value).encode(), media_type=kind)


def described(manifest: RemoteManifest, **more):
    return {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.content),
        **more,
    }


def index_of(*manifests: RemoteManifest) -> RemoteManifest:
    return document(
        {"schemaVersion": 2, "manifests": [described(one) for one in manifests]}, media.IMAGE_INDEX
    )


def blob(text: str, size: int | None = None):
    data = text.encode()
    return {"mediaType": "x/y", "digest": sha256_bytes(data), "size": len(data) if size is None else size}


def image(*layers: str) -> RemoteManifest:
    return document({"config": blob("config"), "layers": [blob(one) for one in layers]})


def through(*manifests: RemoteManifest):
    known = {one.digest: one for one in manifests}
    return lambda descriptor: known[descriptor["digest"]]


def test_every_manifest_comes_after_what_it_names():
    one, two = image("a", "b"), image("b", "c")
    inner = index_of(one, two)
    root = index_of(inner, one)
    graph = walk(root, through(one, two, inner))
    assert graph.inner == (one, two, inner)
    assert list(graph.manifests().values()) == [one, two, inner, root]
    assert graph.blobs == {blob(name)["digest"]: len(name) for name in ("config", "a", "b", "c")}


def test_an_index_that_contains_itself():
    liar = document({"manifests": [{"digest": "sha256:" + "a" * 64, "size": 1}]}, media.IMAGE_INDEX)
    with pytest.raises(AfenvError) as caught:
        walk(liar, lambda _: liar)
    assert caught.value.code == "E602"


def test_indexes_that_are_too_deep_or_too_many():
    inner = image("a")
    known = [inner]
    for _ in range(6):
        inner = index_of(inner)
        known.append(inner)
    with pytest.raises(AfenvError, match="nested too deeply"):
        walk(inner, through(*known))
    many = [image(str(count)) for count in range(MANIFESTS + 1)]
    with pytest.raises(AfenvError, match="more than"):
        walk(index_of(*many), through(*many))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"config": blob("x"), "layers": [1]},
        {"config": blob("x"), "layers": [blob("a"), blob("a", 7)]},
        {"config": "x"},
        {"schemaVersion": 1, "fsLayers": []},
    ],
)
def test_manifests_that_are_none(value):
    with pytest.raises(AfenvError) as caught:
        walk(document(value), through())
    assert caught.value.code == "E602"


def test_members_are_checked():
    one = image("a")
    assert checked_member(one.content, described(one)) == one
    for content, code in ((one.content + b" ", "E302"), (one.content.swapcase(), "E301")):
        with pytest.raises(AfenvError) as caught:
            checked_member(content, described(one))
        assert caught.value.code == code


@pytest.fixture
def several(store):
    """Two images, as they are in an index, in the store."""
    manifests = []
    for name in ("amd64", "arm64"):
        made = make_image(store, [[Member(path=name)]])
        store.put(made.config)
        store.put(made.manifest)
        manifests.append(RemoteManifest(content=made.manifest, media_type=media.IMAGE_MANIFEST))
    return manifests


def platforms(*manifests):
    names = ("amd64", "arm64")
    return [
        described(one, platform={"os": "linux", "architecture": name})
        for one, name in zip(manifests, names, strict=False)
    ]


def test_a_layout_of_an_index(store, several, tmp_path):
    root = index_of(*several)
    store.put(root.content)
    graph = walk(root, through(*several))
    write_graph(graph, store, tmp_path / "layout", "name:1")
    with open_graph(tmp_path / "layout") as found:
        assert found is not None
        assert found[0] == graph
        for digest in graph.blobs:
            with found[1].open(digest) as file:
                assert sha256_bytes(file.read()) == digest
    with pytest.raises(AfenvError) as caught:
        write_graph(graph, store, tmp_path / "layout", "name:1")
    assert caught.value.code == "E032"


def test_a_layout_that_names_several_platforms_itself(store, several, tmp_path):
    graph = walk(index_of(*several), through(*several))
    store.put(graph.root.content)
    folder = tmp_path / "layout"
    write_graph(graph, store, folder, "x")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": platforms(*several)}))
    with open_graph(folder) as found:
        assert found is not None
        root = found[0].root.document()
        assert root["manifests"] == platforms(*several)
    same = [one | {"platform": {"os": "linux"}} for one in platforms(*several)]
    (folder / "index.json").write_text(json.dumps({"manifests": same}))
    with open_graph(folder) as found:
        assert found is None


def test_a_layout_of_one_image_is_no_graph(store, tmp_path):
    write_layout(make_image(store), store, tmp_path / "layout")
    with open_graph(tmp_path / "layout") as found:
        assert found is None


def test_a_damaged_layout(store, several, tmp_path):
    graph = walk(index_of(*several), through(*several))
    store.put(graph.root.content)
    folder = tmp_path / "layout"
    write_graph(graph, store, folder, "x")
    victim = folder / "blobs" / "sha256" / several[0].digest[7:]
    data = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(data.swapcase())
    with pytest.raises(AfenvError) as caught, open_graph(folder):
        pass
    assert caught.value.code == "E301"
    for text in ("", "[]", '{"manifests": 1}', "x"):
        (folder / "index.json").write_text(text)
        with pytest.raises(AfenvError) as caught, open_graph(folder):
            pass
        assert caught.value.code == "E510"


SIF = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + bytes(100)


def test_files_become_artifacts(tmp_path):
    for name, content, kind in (
        ("one.sif", SIF, media.SIF_LAYER),
        ("afenv.lock", b"{}", media.LOCK),
        ("afenv.yaml", b"afenv: 1", media.ANALYSIS_MANIFEST),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert kind_of(path) == kind
        graph, blobs = file_graph(path, kind)
        value = graph.root.document()
        assert value.get("artifactType", kind) == kind
        (file,) = files_of(graph.root) or ()
        assert (file.title, file.media_type, file.size) == (name, kind, len(content))
        for digest, size in graph.blobs.items():
            with blobs.open(digest) as stream:
                data = stream.read()
            assert (sha256_bytes(data), len(data)) == (digest, size)
    assert kind_of(tmp_path / "one.sif")
    (tmp_path / "other").write_bytes(b"x")
    assert kind_of(tmp_path / "other") is None
    with pytest.raises(AfenvError):
        kind_of(tmp_path / "nothing")


def test_an_image_is_not_files(store):
    made = make_image(store)
    assert files_of(RemoteManifest(content=made.manifest, media_type=media.IMAGE_MANIFEST)) is None


@pytest.mark.parametrize("title", ["../x", "/etc/passwd", "a/b", "..", "."])
def test_titles_that_lead_elsewhere(title):
    layer = blob("a") | {"annotations": {media.TITLE: title}}
    with pytest.raises(AfenvError) as caught:
        files_of(document({"config": blob("x"), "layers": [layer]}))
    assert caught.value.code == "E304"


def test_remote_manifests_are_values():
    one = image("a")
    assert replace(one) == one
    assert one.document()["config"] == blob("config")
