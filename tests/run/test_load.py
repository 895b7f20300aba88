"""Bringing images into engines."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from afenv.errors import AfenvError
from afenv.oci.check import check_image
from afenv.run.engines import Engine
from afenv.run.load import load_from_store, shared_layers
from afenv.testing import Member, make_image

DOCKER = """
case "$1 $2" in
  "image inspect")
    case "$4" in
      *RootFS*) cat "$state/layers" ;;
      *) [ -e "$state/loaded" ] || exit 1 ;;
    esac ;;
  "image ls") [ -e "$state/layers" ] && echo sha256:1 ;;
  load*) n=$(ls "$state" | grep -c '^load[0-9]'); cat > "$state/load$n.tar"; %s ;;
esac
exit 0
"""


@pytest.fixture
def image(store):
    return make_image(store, [[Member(path=name, content=name.encode())] for name in "abc"])


@pytest.fixture
def docker(fake, tmp_path):
    def make(load: str = 'touch "$state/loaded"') -> Engine:
        fake("docker", DOCKER % load)
        return Engine(name="docker", command=(str(tmp_path / "bin" / "docker"),))

    return make


def test_an_image_is_loaded_once(docker, image, store, tmp_path):
    for _ in range(2):
        assert load_from_store(docker(), image, store, quiet=True) == image.image_id
    assert check_image(tmp_path / "load0.tar") == image
    assert not (tmp_path / "load1.tar").exists()


def test_layers_that_are_there_are_left_out(docker, image, store, tmp_path):
    own = [layer.diff_id for layer in image.layers]
    (tmp_path / "layers").write_text(json.dumps(own[:2]) + "\n" + json.dumps(["sha256:x"]) + "\nnull\n")
    load_from_store(docker(), image, store, quiet=True)
    data = (tmp_path / "load0.tar").read_bytes()
    assert [layer.digest[7:].encode() + b"\0" in data for layer in image.layers] == [False, False, True]


def test_an_engine_with_containerds_store_gets_every_blob(docker, image, store, tmp_path):
    (tmp_path / "layers").write_text(json.dumps([image.layers[0].diff_id]) + "\n")
    engine = replace(docker(), containerd=True)
    assert load_from_store(engine, image, store, quiet=True) == image.manifest_digest
    assert check_image(tmp_path / "load0.tar") == image


def test_an_engine_that_wants_everything_gets_it(docker, image, store, tmp_path):
    (tmp_path / "layers").write_text(json.dumps([image.layers[0].diff_id]) + "\n")
    engine = docker('[ $n = 0 ] && { echo "Error: no such file" >&2; exit 1; }; touch "$state/loaded"')
    assert load_from_store(engine, image, store, quiet=True)
    assert check_image(tmp_path / "load1.tar") == image


@pytest.mark.parametrize(
    "load",
    ['echo "Error processing tar file: no space" >&2; exit 1', 'echo "Error: no space" >&2', "exit 3", ":"],
)
def test_an_engine_that_fails(docker, image, store, load):
    with pytest.raises(AfenvError) as caught:
        load_from_store(docker(load), image, store, quiet=True)
    assert caught.value.code == "E502"
    if "no space" in load:
        assert "no space" in str(caught.value)


def test_an_engine_that_does_not_read(fake, store, tmp_path):
    image = make_image(store, [[Member(path="big", content=os.urandom(1 << 20))]])
    fake("docker", '[ "$1" = load ] && echo "it is full" >&2; exit 1')
    engine = Engine(name="docker", command=(str(tmp_path / "bin" / "docker"),))
    with pytest.raises(AfenvError, match="it is full") as caught:
        load_from_store(engine, image, store, quiet=True)
    assert caught.value.code == "E502"


def test_podman_copies_from_a_layout(fake, image, store, tmp_path):
    log = fake(
        "podman",
        """case "$1" in
  image) [ -e "$state/loaded" ] ;;
  pull) cp -r "${3#oci:}" "$state/copy"; touch "$state/loaded" ;;
esac""",
    )
    engine = Engine(name="podman", command=(str(tmp_path / "bin" / "podman"),))
    assert load_from_store(engine, image, store, quiet=True)
    assert check_image(tmp_path / "copy").image_id == image.image_id
    assert f"tag {image.image_id[7:]} localhost/sample:1.0" in log.read_text()
    assert not list(store.temporary_folder().iterdir())


def test_podman_that_fails(fake, image, store, tmp_path):
    fake("podman", '[ "$1" = pull ] && echo "Error: storage is full" >&2; exit 125')
    with pytest.raises(AfenvError, match="storage is full") as caught:
        load_from_store(
            Engine(name="podman", command=(str(tmp_path / "bin" / "podman"),)), image, store, quiet=True
        )
    assert caught.value.code == "E502"
    assert not list(store.temporary_folder().iterdir())


def test_only_a_common_beginning_is_shared(image):
    a, b, c = (layer.diff_id for layer in image.layers)
    assert shared_layers(image, []) == ()
    assert shared_layers(image, [[a, b, "x"], [a]]) == (a, b)
    assert shared_layers(image, [[b, c]]) == ()
    assert shared_layers(image, [[a, b, c, "more"]]) == (a, b, c)
    twice = replace(image, layers=(*image.layers, image.layers[0]))
    assert shared_layers(twice, [[a, b]]) == (b,)  # the first is needed again further up
