"""SIFs from layers that are kept packed: the same files and the same bytes, whatever was packed before."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from afenv.errors import AfenvError
from afenv.oci.files import merged
from afenv.oci.squashfs import Squashfs
from afenv.oci.squashfs_contents import BLOCK
from afenv.oci.squashfs_layers import KIND, packed_layers
from afenv.oci.tree import tree_line
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, make_foreign_image, make_image, symlink
from afenv_builders.apptainer import ApptainerBuilder
from afenv_builders.apptainer.packing import Packing
from afenv_builders.apptainer.packing_own import pack_layers
from tests.oci.any_layers import any_layers, assume_only_folders_hold, assume_sensible, file, opened

NOISE = random.Random(3).randbytes(3 * BLOCK + 5)  # does not become smaller
TIME = 1_700_000_000


def packed(store: ContentStore, image, path: Path, *, threads: int = 2, packs: ContentStore | None = None):
    """The image as squashfs, without Apptainer's files; what is in it."""
    source = opened(store, image)
    layers = packed_layers(source, packs or store, path.with_name("scratch"), level=3, threads=threads)
    packing = Packing(compressor="zstd", level=3, threads=threads, time=TIME)
    pack_layers(layers, path, 0, packing, first={}, last=lambda _: {})
    with Squashfs.open(path) as found:
        return sorted(tree_line(entry) for entry in found.entries(contents=True))


def expected(store: ContentStore, image) -> list[bytes]:
    return sorted(tree_line(entry) for entry in merged(opened(store, image)).values())


def build(image, store: ContentStore, path: Path, **options):
    return ApptainerBuilder().build(image, store, {"target": "sif", "path": path, "quiet": True, **options})


HARD = (
    [
        folder("d", 0o700, 5, 6),
        file("d/large", NOISE),
        file("d/hole", NOISE[:BLOCK] + bytes(2 * BLOCK) + b"end"),
        file("d/zeros", bytes(3 * BLOCK)),
        file("small", b"small"),
        file("gone", b"secret" * 100),
        Member(path="device", kind=tarfile.CHRTYPE),
        file("ü" * 120, b"long name"),
        file("text", b"again and again " * 50_000),
    ],
    [
        hardlink("d/same", "d/large"),
        file("d/copy", NOISE),
        file("d/.wh.zeros"),
        file(".wh.gone"),
        symlink("link", "d/" + "t" * 150),
    ],
    [
        file("small", b"another"),
        file("copy of small", b"small"),
        file("empty", b""),
        file("third", NOISE),
        file("half", NOISE[BLOCK:] + NOISE[:BLOCK]),
        folder("d", 0o711, 7, 8),
    ],
)


def test_the_files_are_those_of_the_layers(store, tmp_path):
    image = make_image(store, HARD)
    assert packed(store, image, tmp_path / "one") == expected(store, image)
    # the noise is there once, though three files have it in three layers, and once with its ends exchanged
    once = len(NOISE)
    assert 2 * once + BLOCK < (tmp_path / "one").stat().st_size < 2 * once + 2 * BLOCK


def test_the_bytes_do_not_depend_on_what_was_packed_before(store, tmp_path):
    image = make_image(store, HARD)
    packed(store, image, tmp_path / "first")
    data = (tmp_path / "first").read_bytes()
    packed(store, image, tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == data
    for number, threads in enumerate((1, 3, 8)):
        other = ContentStore(tmp_path / f"store{number}")
        packed(store, make_image(store, HARD[:2]), tmp_path / "part", packs=other, threads=threads)
        packed(store, image, tmp_path / "third", packs=other, threads=threads)
        assert (tmp_path / "third").read_bytes() == data


def test_a_layer_is_packed_once(store, tmp_path):
    build(make_image(store, HARD[:2]), store, tmp_path / "a.sif")
    image = make_image(store, HARD)
    for layer in image.layers[:2]:  # what is packed is not read again
        store.path(layer.digest).unlink()
    build(image, store, tmp_path / "b.sif")
    build(make_image(store, HARD[:2]), store, tmp_path / "c.sif")
    assert (tmp_path / "a.sif").read_bytes() == (tmp_path / "c.sif").read_bytes()


def test_another_level_is_packed_anew(store, tmp_path):
    chosen = random.Random(4)
    words = [b"%x" % chosen.getrandbits(30) for _ in range(50)]
    image = make_image(store, [[file("text", b" ".join(chosen.choices(words, k=50_000)))]])
    low = build(image, store, tmp_path / "low.sif", level=1).size
    high = build(image, store, tmp_path / "high.sif", level=19).size
    assert high < 0.9 * low


def test_what_was_kept_and_is_damaged_is_packed_anew(store, tmp_path):
    image = make_image(store, HARD)
    good = build(image, store, tmp_path / "a.sif").digest
    kept = list((store.folder / "keys" / KIND).rglob("*.json"))
    assert len(kept) == 3
    for key in kept:
        digest = "sha256:" + key.read_text().split('"')[1].removeprefix("sha256:")
        path = store.path(digest)
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert build(image, store, tmp_path / "b.sif").digest == good


def test_where_the_cache_cannot_be_written(store, tmp_path, monkeypatch):
    image = make_image(store, HARD)
    good = build(image, ContentStore(store.folder), tmp_path / "a.sif").digest
    shutil.rmtree(store.folder / "keys")
    before = sorted(store.folder.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert build(image, store, tmp_path / "b.sif").digest == good
    assert sorted(store.folder.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.glob("*.sif*")) == ["a.sif", "b.sif"]


def test_a_damaged_layer(store, tmp_path):
    image = make_image(store, HARD)
    data = bytearray(store.read(image.layers[1].digest))
    data[len(data) // 2] ^= 0xFF
    layer = replace(image.layers[1], digest=store.put(bytes(data)))
    broken = replace(image, layers=(image.layers[0], layer, image.layers[2]))
    with pytest.raises(AfenvError) as caught:
        packed(store, broken, tmp_path / "one")
    assert caught.value.code == "E510"
    assert not list((store.folder / "tmp").glob("blob-*"))
    assert packed(store, image, tmp_path / "two") == expected(store, image)


def test_a_layer_that_is_there_twice(store, tmp_path):
    image = make_image(store, (HARD[2], [file("small", b"between"), file(".wh.half")], HARD[2]))
    assert packed(store, image, tmp_path / "one") == expected(store, image)


def with_attributes(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        information = tarfile.TarInfo("tool")
        information.size = len(content)
        information.pax_headers = {"SCHILY.xattr.user.note": "a value"}
        tar.addfile(information, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.skipif(not shutil.which("mksquashfs"), reason="squashfs-tools are not here")
def test_extended_attributes_need_another_program(store, tmp_path):
    """And only where a file that has some can be seen."""
    image = make_foreign_image(store, [with_attributes(b"tool")])
    assert "mksquashfs" in build(image, store, tmp_path / "a.sif").annotations["org.afenv.packed-by"]
    hidden = make_foreign_image(store, [with_attributes(b"tool"), [file("tool", b"another")]])
    assert "afenv" in build(hidden, store, tmp_path / "b.sif").annotations["org.afenv.packed-by"]


CONTENTS = (b"", b"1", b"22", NOISE[:3000], NOISE[: BLOCK + 1], bytes(BLOCK))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(any_layers(*CONTENTS))
def test_any_layers(store, tmp_path, layers):
    """As for the stream of merged tars: the files of the layers, or the layers make no sense."""
    assume_sensible(layers)
    image = make_image(store, layers)
    try:
        found, wanted = packed(store, image, tmp_path / "image"), expected(store, image)
    except AfenvError as error:
        assert error.code == "E510"
        return
    assume_only_folders_hold({path: entry.kind for path, entry in merged(opened(store, image)).items()}, "d")
    digest = hashlib.sha256((tmp_path / "image").read_bytes()).hexdigest()
    assert found == wanted
    assert packed(store, image, tmp_path / "image") == wanted
    assert hashlib.sha256((tmp_path / "image").read_bytes()).hexdigest() == digest
