"""The built-in builder passes the contract that is shipped for third parties."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.oci.check import check_image
from afenv.testing import BuilderContract, make_image
from afenv_builders.oci import OciBuilder


class TestLayout(BuilderContract):
    builder = OciBuilder()
    target = "oci"


class TestArchive(BuilderContract):
    builder = OciBuilder()
    target = "oci-archive"


def test_an_archive_file(store, tmp_path):
    image = make_image(store)
    built = OciBuilder().build(image, store, {"target": "oci-archive", "path": tmp_path / "new" / "a.tar"})
    path = tmp_path / "new" / "a.tar"
    assert check_image(path) == image
    assert path.stat().st_size == built.size
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["a.tar"]


def test_a_name_for_the_layout(store, tmp_path):
    OciBuilder().build(
        make_image(store), store, {"target": "oci", "path": tmp_path / "out", "reference": "latest"}
    )
    assert b'"latest"' in (tmp_path / "out" / "index.json").read_bytes()


def test_failures(store, tmp_path):
    image = make_image(store)
    builder = OciBuilder()

    def code(**options) -> str:
        with pytest.raises(AfenvError) as caught:
            builder.build(image, store, options)
        return caught.value.code

    assert code(target="oci") == "E030"
    assert code(target="oci", path=tmp_path / "out", compressor="gzip") == "E030"
    assert code(target="oci-archive", path=tmp_path) == "E032"
    (tmp_path / "file").write_text("x")
    assert code(target="oci", path=tmp_path / "file") == "E032"
    assert code(target="oci-archive", path=tmp_path / "file" / "a.tar") == "E403"
    store.path(image.layers[0].digest).unlink()
    assert code(target="oci-archive", path=tmp_path / "a.tar") == "E305"
    assert not list(tmp_path.glob("*a.tar*"))
