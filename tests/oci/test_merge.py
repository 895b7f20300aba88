"""Layers as one tar stream: the same files as when they are laid on one another in memory."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings

from afenv.errors import AfenvError
from afenv.oci.files import lay, merged, read_layer
from afenv.oci.merge import TarLayers, merged_members, tar_of, with_indexes
from afenv.oci.model import ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.oci.tree import tree_line
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, make_image, symlink
from tests.oci.any_layers import any_layers, assume_only_folders_hold, assume_sensible
from tests.oci.any_layers import opened as any_opened


def file(path: str, content: str = "x", mode: int = 0o644) -> Member:
    return Member(path=path, content=content.encode(), mode=mode)


def opened(store: ContentStore, *layers: list[Member]) -> OpenedImage:
    return any_opened(store, make_image(store, layers))


def stream(image: OpenedImage, **options) -> bytes:
    made = []
    layers = TarLayers(image)

    def attempt(indexes) -> None:
        made.append(b"".join(map(bytes, tar_of(merged_members(layers, indexes=indexes, **options)))))

    with_indexes(layers, attempt)
    return made[-1]


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        return found.getnames()


def lines(tar: bytes) -> list[bytes]:
    """What a packer sees, one line per path; every path occurs once, and links have their targets."""
    found = names(tar)
    assert len(found) == len(set(found))
    tree: dict = {}
    lay(tree, read_layer(io.BytesIO(tar)))
    return sorted(tree_line(entry) for entry in tree.values())


def expected(image: OpenedImage) -> list[bytes]:
    return sorted(tree_line(entry) for entry in merged(image).values())


def same(store: ContentStore, *layers: list[Member]) -> bytes:
    image = opened(store, *layers)
    tar = stream(image)
    assert lines(tar) == expected(image)
    return tar


def test_the_topmost_wins(store):
    tar = same(store, [folder("d", 0o700), file("d/a", "1"), file("b")], [file("d/a", "2"), file("c")])
    assert names(tar) == ["d/a", "c", "d", "b"]


def test_folders_have_the_metadata_of_the_topmost_layer(store):
    same(store, [folder("d", 0o700, 1, 2), file("d/a")], [folder("d", 0o711, 3, 4)], [file("d/b")])


def test_folders_that_no_layer_has(store):
    tar = same(store, [file("a/b/c")])
    assert names(tar) == ["a/b/c", "a", "a/b"]


@pytest.mark.parametrize(
    "above",
    [
        [file(".wh.d")],
        [file("d/.wh.a")],
        [file("d/.wh..wh..opq")],
        [file(".wh..wh..opq"), file("z")],
        [folder("d"), file("d/.wh..wh..opq"), file("d/new")],
        [file("d", "not a folder any more")],
        [symlink("d", "b")],
        [file("d/.wh.a"), file("d/a", "anew")],
        [file(".wh.none")],
    ],
)
def test_what_layers_remove(store, above):
    same(store, [folder("d"), file("d/a"), folder("d/e"), file("d/e/f"), file("b")], above)


def test_something_else_becomes_a_folder(store):
    same(store, [symlink("d", "b"), file("b")], [folder("d"), file("d/a")])


def test_a_hard_link_within_a_layer(store):
    tar = same(store, [file("a", "content"), hardlink("b", "a"), hardlink("c", "b")])
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        assert [member.linkname for member in found] == ["", "a", "a"]


def test_a_hard_link_into_a_lower_layer(store):
    same(store, [file("a", "content")], [hardlink("b", "a")], [hardlink("c", "a")])


def test_a_hard_link_whose_target_is_replaced_above(store):
    same(store, [file("a", "old", 0o755), hardlink("b", "a")], [file("a", "new")])


def test_a_hard_link_whose_target_is_removed_above(store):
    tar = same(store, [file("a", "old"), hardlink("b", "a"), hardlink("c", "a")], [file(".wh.a")])
    assert names(tar) == ["b", "c"]


def test_a_hard_link_into_a_lower_layer_to_what_is_replaced_above(store):
    same(store, [file("a", "old")], [hardlink("b", "a"), hardlink("c", "b")], [file("a", "new")])


def test_a_hard_link_that_replaces_its_target(store):
    """As an overlay shows a file that was renamed."""
    same(store, [file("a", "content")], [file(".wh.a"), hardlink("b", "a")])


def test_a_hard_link_to_a_link_in_a_lower_layer(store):
    same(store, [symlink("a", "x"), file("x")], [hardlink("b", "a")], [file("a", "new")])


def test_a_hard_link_through_layers(store):
    same(store, [file("a", "1")], [hardlink("b", "a")], [file(".wh.a"), hardlink("c", "b")], [file("b", "2")])


def test_a_path_twice_in_one_layer(store):
    same(store, [file("a", "1"), folder("d", 0o700), file("a", "2"), folder("d", 0o755), hardlink("b", "a")])


def test_a_path_twice_with_a_hard_link_to_the_first(store):
    same(store, [file("a", "1"), hardlink("b", "a"), file("a", "2")], [file("c")])


def test_names_that_ustar_cannot_hold(store):
    long = "long/" + "x" * 120 + "/" + "y" * 120
    layer = [
        file(long, "1"),
        file("ü", "2"),
        symlink("absolute", "/" + "é" * 3),
        symlink("far", "../../" + "z" * 150),
        hardlink("to-long", long),
    ]
    same(store, layer, [file(long, "3"), file("w/" + "v" * 200)])


def test_devices_and_owners(store):
    device = Member(path="null", kind=tarfile.CHRTYPE)
    pipe = Member(path="pipe", kind=tarfile.FIFOTYPE, uid=5, gid=6)
    same(store, [device, pipe, file("large")], [Member(path="a", uid=3_000_000, gid=7)])


def test_extended_attributes_stay(store):
    stream_ = io.BytesIO()
    with tarfile.open(fileobj=stream_, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"SCHILY.xattr.user.x": "y"}
        tar.addfile(member)
        link = tarfile.TarInfo("b")
        link.type, link.linkname = tarfile.LNKTYPE, "a"
        tar.addfile(link)
    entries = read_layer(io.BytesIO(stream_.getvalue())).entries
    image = raw(store, stream_.getvalue(), [file("a", "new")])
    (found,) = [
        entry for entry in read_layer(io.BytesIO(stream(image))).entries.values() if entry.path == "b"
    ]
    assert found.xattrs == entries["a"].xattrs == (("user.x", "y"),)


def raw(store: ContentStore, tar: bytes, *above: list[Member]) -> OpenedImage:
    """An image whose lowest layer is this tar."""
    from dataclasses import replace

    image = make_image(store, [[], *above])
    first = replace(image.layers[0], digest=store.put(tar), size=len(tar))
    image = replace(image, layers=(first, *image.layers[1:]))
    return OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=store), path=store.folder)


def test_gnu_tar(store):
    """Long names, large numbers and a folder without its type."""
    stream_ = io.BytesIO()
    with tarfile.open(fileobj=stream_, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, target in (("x" * 150, ""), ("link", "/" + "y" * 150), ("./d/", "")):
            member = tarfile.TarInfo(name)
            member.uid = 3_000_000_000
            if target:
                member.type, member.linkname = tarfile.SYMTYPE, target
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            tar.addfile(member)
    image = raw(store, stream_.getvalue(), [hardlink("z", "x" * 150), file("x" * 150, "new")])
    assert lines(stream(image)) == expected(image)


def test_what_comes_first_and_last(store):
    from afenv.layers.tar_header import FILE, header

    image = opened(store, [file("a", "theirs"), file("b")])
    seen = {}

    def last(present):
        seen.update(present)
        return {b"c": header(b"c", 0o600, 0, FILE)}

    tar = stream(image, first={b"a": header(b"a", 0o600, 0, FILE)}, last=last)
    assert names(tar) == ["a", "b", "c"]
    assert seen == {b"a": b"0", b"b": b"0"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([[hardlink("a", "none")]], "a is a hard link to none, which does not exist"),
        ([[file("t")], [file(".wh.t")], [hardlink("a", "t")]], "which does not exist"),
        ([[file("d/t")], [file("d", "no folder")], [hardlink("a", "d/t")]], "which does not exist"),
        ([[folder("t")], [hardlink("a", "t")]], "a is a hard link to the folder t"),
        ([[symlink("lib", "usr/lib")], [file("lib/x")]], "lib has files in it"),
        ([[symlink("lib", "usr/lib"), file("lib/x")]], "lib has files in it"),
        ([[Member(path="a", kind=b"9")]], "unknown type"),
    ],
)
def test_layers_that_make_no_sense(store, layers, message):
    with pytest.raises(AfenvError, match=message) as caught:
        stream(opened(store, *layers))
    assert caught.value.code == "E510"


@pytest.mark.parametrize("cut", [100, 512, 700, 1024])
def test_a_layer_that_is_cut_off(store, cut):
    from afenv.testing import tar_of

    whole = tar_of([file("a", "x" * 600), Member(path="ü" * 300, content=b"y")])
    with pytest.raises(AfenvError) as caught:
        stream(raw(store, whole[:cut]))
    assert caught.value.code == "E510"


@pytest.mark.parametrize("damage", [b"\xff" * 512, b"not a tar at all" * 64])
def test_a_layer_that_is_no_tar(store, damage):
    with pytest.raises(AfenvError) as caught:
        stream(raw(store, damage))
    assert caught.value.code == "E510"


def test_a_damaged_gzip(store):
    image = opened(store, [file("a", "x" * 100_000)])
    data = bytearray(store.read(image.image.layers[0].digest))
    data[len(data) // 2] ^= 0xFF
    digest = store.put(bytes(data))
    from dataclasses import replace

    layer = replace(image.image.layers[0], digest=digest)
    with pytest.raises(AfenvError) as caught:
        stream(replace(image, image=replace(image.image, layers=(layer,))))
    assert caught.value.code == "E510"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(any_layers(b"1", b"22", b"x" * 600))
def test_any_layers(store, layers):
    """The stream has the files that laying layers on one another gives, or the layers make no sense.

    A hard link to nothing is no error of the stream where a layer above hides it. Files in what is no
    folder are kept when layers are laid on one another in memory.
    """
    assume_sensible(layers)
    image = opened(store, *layers)
    try:
        tar, wanted = stream(image), expected(image)
    except AfenvError as error:
        assert error.code == "E510"
        return
    assume_only_folders_hold({path: entry.kind for path, entry in merged(image).items()}, "d")
    assert tar == stream(image)
    assert lines(tar) == wanted


def test_content_that_nobody_reads_is_passed_over(store):
    """That of a member as it came, and that of one which goes out under the path of a link."""
    image = opened(
        store,
        [file("a", "1" * 900), file("c", "3")],
        [hardlink("b", "a")],
        [file("a", "2" * 5000), file("d")],
    )
    found = [(member.path, member.kind, member.size) for member in merged_members(TarLayers(image))]
    assert found == [(b"a", b"0", 5120), (b"d", b"0", 512), (b"b", b"0", 1024), (b"c", b"0", 512)]
