"""Wish lists for DUCC."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from afenv.errors import AfenvError
from afenv.oci.publishing import wishes_target
from afenv.testing import Member, make_foreign_image, make_image
from afenv_builders.cvmfs import CvmfsBuilder

NAME = "registry.example.org/group/analysis:1.0"
PUBLISHER = CvmfsBuilder()


def wish(image, store, path, name: str = NAME, repository: str = "unpacked.example.org"):
    return PUBLISHER.publish(image, store, name, wishes_target(path, repository, "svc"), quiet=True)


def test_a_new_list(store, tmp_path):
    image = make_image(store)
    path = tmp_path / "lists" / "wishes.yaml"
    done = wish(image, store, path)
    assert done.changed and done.path == ""
    assert YAML(typ="safe").load(path) == {
        "version": 1,
        "user": "svc",
        "cvmfs_repo": "unpacked.example.org",
        "output_format": "$(scheme)://$(registry)/$(repository):$(tag)",
        "input": [f"https://{NAME}@{image.manifest_digest}"],
    }
    assert not wish(image, store, path).changed


def test_a_list_that_people_keep(store, tmp_path):
    path = tmp_path / "wishes.yaml"
    path.write_text(
        "# ours\nversion: 1\nuser: other\ncvmfs_repo: unpacked.example.org\noutput_format: ''\n"
        "input:\n  # a comment\n  - 'https://registry.example.org/group/analysis:0.9'\n"
        f"  - 'https://{NAME}'\n  - 'https://docker.io/library/debian:*'\n"
    )
    one, two = make_image(store), make_image(store, [(Member(path="a"),)])
    wish(one, store, path)
    assert wish(two, store, path).changed
    text = path.read_text()
    assert "# ours" in text and "# a comment" in text
    value = YAML(typ="safe").load(text)
    assert value["user"] == "other"
    assert value["input"] == [
        "https://registry.example.org/group/analysis:0.9",
        f"https://{NAME}@{two.manifest_digest}",
        "https://docker.io/library/debian:*",
    ]
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["wishes.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        *("[1, 2]", "version: 2\ninput: []\n", "version: 1\n", "a: [", "\0", "version: 1\ninput: 5\n"),
        "version: 1\ncvmfs_repo: other.example.org\ninput: []\n",
    ],
)
def test_what_is_no_list(store, tmp_path, text):
    path = tmp_path / "wishes.yaml"
    path.write_text(text)
    with pytest.raises(AfenvError) as caught:
        wish(make_image(store), store, path)
    assert caught.value.code == "E538"
    assert path.read_text() == text


def test_images_that_ducc_does_not_convert(store, tmp_path):
    for image in (
        make_foreign_image(store, [[Member(path="a")]], compression="zstd"),
        make_foreign_image(store, [[Member(path="a")]], platform="linux/riscv64"),
    ):
        with pytest.raises(AfenvError) as caught:
            wish(image, store, tmp_path / "wishes.yaml")
        assert caught.value.code == "E538"
    with pytest.raises(AfenvError) as caught:
        wish(make_image(store), store, tmp_path / "wishes.yaml", repository="x")
    assert caught.value.code == "E530"
    assert not (tmp_path / "wishes.yaml").exists()


def test_a_list_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AfenvError) as caught:
        wish(make_image(store), store, tmp_path / "file" / "wishes.yaml")
    assert caught.value.code in ("E001", "E403")
