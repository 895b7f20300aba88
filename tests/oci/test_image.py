"""Config and manifest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from afenv import canonical
from afenv.documents.lock import LockedCode, LockedDeb, LockedFile, LockedPython, LockedWheel
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.image import assemble, inputs_digest, local_name, local_tag, split_platform
from afenv.specs import specs_folder
from afenv.testing import Member, make_image, make_layer, make_lock


def deb(name: str, sha256: str = "a") -> LockedDeb:
    file = LockedFile(urls=("http://example.org/x.deb",), size=1, sha256=sha256 * 64)
    return LockedDeb(name=name, version="1", architecture="amd64", source=name, file=file)


CODE = LockedCode(
    into="/work",
    tree="1" * 40,
    swhid="swh:1:dir:" + "1" * 40,
    git="https://example.org/x.git",
    commit="2" * 40,
)
PYTHON = LockedPython(
    version="3.11.2",
    executable="/usr/bin/python3.11",
    site_packages="/opt/python/site-packages",
    scripts="/opt/python/bin",
)


def config_of(image):
    return json.loads(image.config)


def test_a_whole_config(store):
    lock = replace(
        make_lock(debs=(deb("bash"),), variables={"Z": "1", "A": "2", "LANG": "de_DE.UTF-8"}, python=PYTHON),
        code=(CODE,),
        metadata={
            "title": "Z → μμ",
            "license": "MIT",
            "authors": [{"name": "Ada", "orcid": "0000-0001-2345-6789"}, {"name": "Bob"}],
            "url": "https://example.org",
        },
    )
    layers = [make_layer(store, [Member(path=name)], source=name) for name in ("one", "two")]
    image = assemble(lock, "default", layers, 1700000000, store)
    assert config_of(image) == {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "User": "1000:1000",
            "Env": [
                "A=2",
                "LANG=de_DE.UTF-8",
                "PATH=/opt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "Z=1",
            ],
            "Cmd": ["/bin/bash"],
            "WorkingDir": "/work",
            "Labels": {
                "org.opencontainers.image.title": "Z → μμ",
                "org.opencontainers.image.version": "1.0",
                "org.opencontainers.image.licenses": "MIT",
                "org.opencontainers.image.authors": "Ada, Bob",
                "org.opencontainers.image.url": "https://example.org",
                "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
                "org.opencontainers.image.revision": "2" * 40,
                "org.opencontainers.image.source": "https://example.org/x.git",
                "org.afenv.analysis": "sample",
                "org.afenv.environment": "default",
                "org.afenv.assembly-version": "1",
                "org.afenv.inputs": inputs_digest(lock, lock.environments["default"]),
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {"created": "2023-11-14T22:13:20Z", "created_by": "afenv: one"},
            {"created": "2023-11-14T22:13:20Z", "created_by": "afenv: two"},
        ],
    }
    assert image.config == canonical.compact(config_of(image))
    assert store.read(image.image_id) == image.config
    assert store.read(image.manifest_digest) == image.manifest
    assert image.reference == "sample:1.0"


def test_the_manifest_names_config_and_layers(store):
    image = make_image(store)
    manifest = json.loads(image.manifest)
    assert manifest["config"] == {
        "mediaType": media.IMAGE_CONFIG,
        "digest": image.image_id,
        "size": len(image.config),
    }
    assert [layer["digest"] for layer in manifest["layers"]] == [layer.digest for layer in image.layers]
    assert manifest["annotations"][media.REQUEST] == "sha256:" + "0" * 64
    assert media.REQUEST not in config_of(image)["config"]["Labels"]


def test_the_image_id_does_not_depend_on_the_compressor(store):
    members = [Member(path="a", content=b"a" * 1000)]
    one, many = (make_layer(store, members, gzip_members=count) for count in (1, 7))
    assert one.digest != many.digest
    images = [assemble(make_lock(), "default", [layer], 0, store) for layer in (one, many)]
    assert images[0].image_id == images[1].image_id
    assert images[0].manifest_digest != images[1].manifest_digest


def test_a_shell_without_bash_and_an_entry_point(store):
    assert config_of(make_image(store))["config"]["Cmd"] == ["/bin/sh"]
    config = config_of(make_image(store, entrypoint=("python3", "-m", "x"), workdir="/data"))["config"]
    assert config["Entrypoint"] == ["python3", "-m", "x"]
    assert config["WorkingDir"] == "/data"
    assert "Cmd" not in config
    assert config_of(make_image(store))["config"]["WorkingDir"] == "/home/analyst"


def test_platforms(store):
    assert config_of(make_image(store, platform="linux/arm64"))["variant"] == "v8"
    assert make_image(store, platform="linux/arm64").platform() == {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
    }
    assert split_platform("linux/arm/v7") == {"os": "linux", "architecture": "arm", "variant": "v7"}
    for bad in ("linux", "linux/", "a/b/c/d"):
        with pytest.raises(AfenvError) as caught:
            split_platform(bad)
        assert caught.value.code == "E013"


def test_the_inputs_digest_ignores_times_and_urls_and_nothing_else():
    lock = replace(make_lock(debs=(deb("a"),)), code=(CODE,))

    def digest(code=CODE, **changes):
        environment = replace(lock.environments["default"], **changes)
        return inputs_digest(replace(lock, code=(code,)), environment)

    first = digest()
    assert digest(as_of="2026-01-01T00:00:00Z") == first
    assert digest(request="sha256:" + "1" * 64) == first
    moved = replace(deb("a"), file=replace(deb("a").file, urls=("http://mirror.example.org/x.deb",)))
    assert digest(debs=(moved,)) == first
    assert digest(replace(CODE, commit="3" * 40)) == first
    others = [
        digest(debs=(deb("a", "b"),)),
        digest(debs=()),
        digest(wheels=(LockedWheel(name="w", version="1", file=deb("w").file),)),
        digest(replace(CODE, tree="4" * 40)),
        digest(replace(CODE, into="/elsewhere")),
        digest(variables={"A": "1"}),
        digest(platform="linux/arm64"),
        digest(bytecode=False),
        digest(python=PYTHON),
        digest(entrypoint=("x",)),
        digest(workdir="/x"),
        digest(owners={"a": "b"}),
        inputs_digest(replace(lock, assembly_version=2), lock.environments["default"]),
    ]
    assert len({first, *others}) == len(others) + 1


def test_an_environment_that_is_not_there(store):
    with pytest.raises(AfenvError) as caught:
        assemble(make_lock(), "gpu", [], 0, store)
    assert caught.value.code == "E031"
    assert "default" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "environment", "local"),
    [
        ("dimuon", "default", "dimuon"),
        ("My Analysis_2", "GPU", "my-analysis-2-gpu"),
        ("μ", "default", "analysis"),
    ],
)
def test_names_for_engines(name, environment, local):
    assert local_name(name, environment) == local


def test_tags_for_engines():
    assert local_tag("1.0+dirty") == "1.0-dirty"
    assert local_tag("-.x") == "x"
    assert local_tag("") == "latest"
    assert len(local_tag("1" * 200)) == 128


def test_media_types_are_those_of_the_specification():
    import tomllib

    table = tomllib.loads((specs_folder() / "media-types.toml").read_text())
    values = {value for name, value in vars(media).items() if name.isupper()}
    named = {*table["media_types"].values(), *table["media_types_read"].values(), *table["annotations"]}
    assert named <= values
    assert values - named == {media.OCI_PREFIX, media.REF_NAME, media.TITLE}


def test_annotations_stand_where_the_specification_says(store):
    import tomllib

    from afenv.oci.layout import index_bytes

    image = make_image(store)
    places = {
        "label": config_of(image)["config"]["Labels"],
        "manifest": json.loads(image.manifest)["annotations"],
        "index": json.loads(index_bytes(image))["annotations"],
    }
    table = tomllib.loads((specs_folder() / "media-types.toml").read_text())["annotations"]
    for place, found in places.items():
        ours = {key for key in found if key.startswith("org.afenv.")}
        of_others = {media.BUILDER, media.REPRODUCIBLE}  # on images of other tools: see test_builder.py
        of_others |= {media.CVMFS, media.CVMFS_REVISIONS}  # where it is mounted: workflow/test_cvmfs.py
        assert ours == {key for key, value in table.items() if place in value["where"]} - of_others
