"""Whether an image is whole."""

from __future__ import annotations

import json

import pytest

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci.check import check_image
from afenv.oci.layout import write_layout
from afenv.testing import make_image


@pytest.fixture
def image(store):
    return make_image(store)


@pytest.fixture
def layout(image, store, tmp_path):
    write_layout(image, store, tmp_path / "layout")
    return tmp_path / "layout"


def problems(path):
    with pytest.raises(AfenvError) as caught:
        check_image(path)
    return [(problem.code, problem.place) for problem in caught.value.problems]


def replace_blob(layout, digest, data):
    path = layout / "blobs" / "sha256" / digest[7:]
    path.unlink()
    path.write_bytes(data)


def test_all_damage_is_told_at_once(layout, image):
    first, second = image.layers
    replace_blob(layout, first.digest, b"something else")
    data = (layout / "blobs" / "sha256" / second.digest[7:]).read_bytes()
    replace_blob(layout, second.digest, data[:-1] + bytes([data[-1] ^ 1]))
    assert problems(layout) == [
        ("E302", f"{layout}, layer 1 (layer 1)"),
        ("E301", f"{layout}, layer 1 (layer 1)"),
        ("E301", f"{layout}, layer 2 (layer 2)"),
    ]


def test_a_layer_that_is_missing(layout, image):
    (layout / "blobs" / "sha256" / image.layers[0].digest[7:]).unlink()
    assert problems(layout) == [("E301", f"{layout}, layer 1 (layer 1)")]


def rewrite(layout, image, change_config=lambda config: None, change_manifest=lambda manifest: None):
    """Change config or manifest, with the digests that lead to them."""
    config, manifest = json.loads(image.config), json.loads(image.manifest)
    change_config(config)
    new_config = canonical.compact(config)
    manifest["config"] |= {"digest": sha256_bytes(new_config), "size": len(new_config)}
    change_manifest(manifest)
    new_manifest = canonical.compact(manifest)
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": sha256_bytes(new_manifest), "size": len(new_manifest)}
    (layout / "index.json").write_bytes(canonical.compact(index))
    for data in (new_config, new_manifest):
        (layout / "blobs" / "sha256" / sha256_bytes(data)[7:]).write_bytes(data)


def test_a_diff_id_that_is_not_the_layers(layout, image):
    rewrite(layout, image, lambda config: config["rootfs"]["diff_ids"].reverse())
    assert [code for code, _ in problems(layout)] == ["E301", "E301"]


def test_a_size_that_is_not_the_layers(layout, image):
    rewrite(layout, image, change_manifest=lambda manifest: manifest["layers"][0].update(size=1))
    assert [code for code, _ in problems(layout)] == ["E302"]


def test_a_history_that_tells_of_other_layers(layout, image):
    rewrite(layout, image, lambda config: config["history"].pop())
    assert [code for code, _ in problems(layout)] == ["E510"]


def test_a_config_that_lacks_what_it_needs(layout, image):
    rewrite(layout, image, lambda config: config.pop("architecture"))
    assert [code for code, _ in problems(layout)] == ["E510"]


def test_a_blob_that_cannot_be_inflated(layout, image):
    from afenv.testing import gzip_of

    bad = gzip_of(b"x" * 1000)[:-4]
    (layout / "blobs" / "sha256" / sha256_bytes(bad)[7:]).write_bytes(bad)

    def change(manifest):
        manifest["layers"][0].update(digest=sha256_bytes(bad), size=len(bad))

    rewrite(layout, image, change_manifest=change)
    assert [code for code, _ in problems(layout)] == ["E510"]
