"""Layers laid on one another."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from afenv.errors import AfenvError
from afenv.oci.files import Entry, lay, merged, read_layer
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.tree import tree_digest, tree_line
from afenv.testing import Member, folder, hardlink, make_image, symlink, tar_of


def tree(*layers, **options) -> dict[str, Entry]:
    below: dict[str, Entry] = {}
    for members in layers:
        lay(below, read_layer(io.BytesIO(tar_of(members)), **options))
    return below


def file(path: str, content: str = "", **more) -> Member:
    return Member(path=path, content=content.encode(), **more)


def test_later_entries_win():
    found = tree([file("a", "old"), file("b", "kept")], [file("a", "new", mode=0o600)])
    assert found["a"].sha256 == hashlib.sha256(b"new").hexdigest()
    assert found["a"].mode == 0o600
    assert set(found) == {"a", "b"}


def test_whiteouts_remove_a_path_and_what_is_in_it():
    below = [folder("d"), file("d/x"), folder("d/e"), file("d/e/y"), file("dd"), file("keep")]
    assert set(tree(below, [file(".wh.d")])) == {"dd", "keep"}
    assert set(tree(below, [file("d/.wh.x")])) == {"d", "d/e", "d/e/y", "dd", "keep"}


def test_a_whiteout_does_not_touch_its_own_layer():
    assert set(tree([file("d/x")], [file("d/new"), file(".wh.d"), folder("d")])) == {"d", "d/new"}


def test_an_opaque_folder_hides_what_is_below():
    below = [folder("d"), file("d/x"), file("d/e/y"), file("z")]
    found = tree(below, [folder("d", 0o700), file("d/new"), file("d/.wh..wh..opq")])
    assert set(found) == {"d", "d/new", "z"}
    assert found["d"].mode == 0o700
    assert set(tree(below, [file(".wh..wh..opq"), file("only")])) == {"only"}


def test_a_folder_is_replaced_by_something_else_and_back():
    assert set(tree([file("d/x")], [symlink("d", "y")])) == {"d"}
    found = tree([file("d", "was a file")], [folder("d"), file("d/x")])
    assert (found["d"].kind, set(found)) == ("d", {"d", "d/x"})
    assert set(tree([file("d/x")], [folder("d", 0o700)])) == {"d", "d/x"}


def test_missing_parents_come_into_being():
    found = tree([file("a/b/c")])
    assert (found["a"].kind, found["a"].mode, found["a/b"].kind) == ("d", 0o755, "d")


def test_hard_links_have_their_targets_content():
    found = tree([file("a", "x", mode=0o755, uid=7), hardlink("b", "a")])
    assert found["b"] == Entry(**{**_fields(found["a"]), "path": "b"})
    below = tree([file("a", "x")], [hardlink("b", "a"), file("a", "changed")])
    assert below["b"].sha256 == hashlib.sha256(b"x").hexdigest()
    removed = tree([file("a", "x")], [hardlink("b", "a"), file(".wh.a")])
    assert set(removed) == {"b"}
    replaced = tree([file("a", "x"), hardlink("b", "a")], [file("b", "own")])
    assert replaced["a"].sha256 != replaced["b"].sha256


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__ if name != "content"}


def test_a_hard_link_to_nothing_is_an_error():
    with pytest.raises(AfenvError, match="b is a hard link to a"):
        tree([hardlink("b", "a")])


@pytest.mark.parametrize("name", ["./a/b", "/a/b", "a//b", "a/./b"])
def test_paths_in_other_spellings(name):
    assert set(tree([file(name)])) == {"a", "a/b"}


def test_paths_that_lead_outside_are_left_out():
    assert set(tree([file("../x"), file("a/../../x"), file("ok")])) == {"ok"}


def test_devices_pipes_and_attributes():
    members = [
        Member(path="null", kind=tarfile.CHRTYPE),
        Member(path="pipe", kind=tarfile.FIFOTYPE),
        symlink("link", "target"),
    ]
    found = tree(members)
    assert (found["null"].kind, found["null"].target) == ("c", "0:0")
    assert found["pipe"].kind == "p"
    assert (found["link"].kind, found["link"].target, found["link"].mode) == ("l", "target", 0o777)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        information = tarfile.TarInfo("ping")
        information.pax_headers = {"SCHILY.xattr.security.capability": "x", "mtime": "12.5"}
        tar.addfile(information)
    stream.seek(0)
    entry = read_layer(stream).entries["ping"]
    assert entry.xattrs == (("security.capability", "x"),)
    assert entry.mtime == 12


def test_contents_are_kept_where_asked():
    found = tree([file("a", "x"), file("b", "y"), hardlink("c", "a")], keep=lambda path: path == "a")
    assert (found["a"].content, found["b"].content, found["c"].content) == (b"x", None, b"x")
    plain = tree([file("a", "x")], contents=False, keep=lambda path: True)
    assert (plain["a"].content, plain["a"].sha256) == (b"x", "")


@pytest.mark.parametrize("cut", [100, 600, 1200])
def test_a_damaged_layer(cut):
    data = tar_of([file("a", "x" * 2000)])
    with pytest.raises(AfenvError) as caught:
        read_layer(io.BytesIO(data[:cut]))
    assert caught.value.code == "E510"


def test_layers_that_were_read_are_used_again(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "layout")
    known: dict = {}
    with open_image(tmp_path / "layout") as opened:
        first = merged(opened, known=known)
        assert set(known) == {layer.diff_id for layer in image.layers}
        for layer in image.layers:
            (tmp_path / "layout" / "blobs" / "sha256" / layer.digest[7:]).unlink()
        assert merged(opened, known=known) == first
    assert list(first) == sorted(first)


def test_a_tree_digest_by_hand():
    found = tree([file("b", "x", uid=1, gid=2), symlink("a", "b"), folder("c", 0o700)])
    sha256 = hashlib.sha256(b"x").hexdigest()
    lines = [
        b'["a","l",511,0,0,0,"b",[]]\n',
        b'["b","f",420,1,2,1,"%s",[]]\n' % sha256.encode(),
        b'["c","d",448,0,0,0,"",[]]\n',
    ]
    assert [tree_line(found[path]) for path in "abc"] == lines
    assert tree_digest(found.values()) == "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


def test_a_tree_digest_does_not_depend_on_the_layers():
    one = tree([file("a", "x"), file("b", "gone"), hardlink("c", "a"), file("d/e", "z")])
    two = tree([file("d/e", "z"), file("c", "x")], [file("b", "gone")], [file("a", "x")])
    assert tree_digest(one.values()) == tree_digest(two.values())


@pytest.mark.parametrize(
    "change",
    [{"content": b"y"}, {"mode": 0o600}, {"uid": 1}, {"gid": 1}, {"path": "b"}, {"kind": tarfile.DIRTYPE}],
)
def test_a_tree_digest_tells_every_change(change):
    values = {"path": "a", "content": b"x"} | change
    assert tree_digest(tree([Member(**values)]).values()) != tree_digest(tree([file("a", "x")]).values())


def test_names_that_are_not_utf8():
    entry = Entry(path="caf\udce9", kind="f", mode=0o644, sha256="0" * 64)
    assert tree_digest([entry]) == tree_digest([entry])
