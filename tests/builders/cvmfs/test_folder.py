"""Publishing to a folder: the layout, what is in the trees, sharing, removal, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.oci.diff import diff
from afenv.oci.inspect import inspect_image
from afenv.oci.layout import write_layout
from afenv.oci.publishing import Target, find_publisher, folder_target
from afenv.oci.read import open_image
from afenv.testing import (
    BuilderContract,
    Member,
    folder,
    hardlink,
    make_foreign_image,
    make_image,
    symlink,
)
from afenv_builders.cvmfs import CvmfsBuilder

NAME = "registry.example.org/group/analysis:1.0"
PUBLISHER = CvmfsBuilder()


class TestCvmfs(BuilderContract):
    builder = CvmfsBuilder()
    target = "cvmfs"


def publish(image, store, root: Path, name: str = NAME):
    return PUBLISHER.publish(image, store, name, folder_target(root), quiet=True)


def code(*arguments) -> str:
    with pytest.raises(AfenvError) as caught:
        publish(*arguments)
    return caught.value.code


def flat_of(root: Path, image) -> Path:
    name = image.image_id.removeprefix("sha256:")
    return root / ".flat" / name[:2] / name


def layer_of(root: Path, image, number: int) -> Path:
    name = image.layers[number].digest.removeprefix("sha256:")
    return root / ".layers" / name[:2] / name


def test_it_is_found_as_the_publisher():
    assert isinstance(find_publisher(), CvmfsBuilder)


def test_the_layout_is_that_of_unpacked(hard, store, tmp_path):
    root = tmp_path / "out"
    done = publish(hard, store, root)
    flat = flat_of(root, hard)
    assert done.changed and root / done.path == flat
    assert sorted(one.name for one in root.iterdir()) == [
        *(".flat", ".layers", ".metadata", "registry.example.org")
    ]
    link = root / NAME
    name = hard.image_id.removeprefix("sha256:")
    assert str(link.readlink()) == f"../../.flat/{name[:2]}/{name}"
    assert link.resolve() == flat
    marks = {str(path.relative_to(root)) for path in root.rglob(".cvmfscatalog")}
    layers = [f".layers/{layer.digest[7:9]}/{layer.digest[7:]}" for layer in hard.layers]
    assert marks == {
        *(".flat/.cvmfscatalog", f".flat/{name[:2]}/{name}/.cvmfscatalog", ".layers/.cvmfscatalog"),
        *(f"{layer}/layerfs/.cvmfscatalog" for layer in layers),
        *(f"{Path(layer).parent}/.cvmfscatalog" for layer in layers),
    }
    assert not any(path.stat().st_size for path in root.rglob(".cvmfscatalog"))
    assert (root / ".metadata" / NAME / "manifest.json").read_bytes() == hard.manifest
    (note,) = json.loads((layer_of(root, hard, 0) / ".metadata" / "layers.json").read_bytes())
    assert note["id"] == hard.layers[0].diff_id[7:]
    assert note["compressed-diff-digest"] == hard.layers[0].digest
    assert note["diff-digest"] == hard.layers[0].diff_id
    with open_layer(store, hard, 0) as plain:
        data = plain.read()
    assert note["diff-size"] == len(data)
    assert "sha256:" + hashlib.sha256(data).hexdigest() == note["diff-digest"]
    origin = json.loads((layer_of(root, hard, 0) / ".metadata" / "origin.json").read_bytes())
    assert origin == {"origin": [hard.image_id]}


def open_layer(store, image, number):
    from afenv.oci.read import OpenedImage

    return OpenedImage(image=image, blobs=store, path=store.folder).layer(number)


def test_the_flat_tree_is_the_image_apart_from_what_is_documented(hard, store, tmp_path):
    root = tmp_path / "out"
    done = publish(hard, store, root)
    layout = tmp_path / "image.oci"
    write_layout(hard, store, layout)
    found = diff(layout, root / NAME)
    changes = {change.what: (change.old, change.new) for change in found.files}
    assert set(changes) == {"bin/su", "dev/null", "private", "private/readonly", "private/secret"} | (
        {"dev"} & set(changes)
    )
    assert changes["dev/null"][1] is None
    assert [words.split()[1] for words in changes["bin/su"]] == ["4755", "0755"]
    assert [words.split()[1] for words in changes["private"]] == ["0500", "0700"]
    assert [words.split()[1] for words in changes["private/secret"]] == ["0000", "0600"]
    assert [words.split()[1] for words in changes["private/readonly"]] == ["0444", "0644"]
    assert not found.config
    assert set(done.left_out) == {
        "dev/null: a device",
        "bin/su: its set-user-ID or set-group-ID bit",
        ".cvmfscatalog: CVMFS has another use for that name",
        "data/.cvmfscatalog: CVMFS has another use for that name",
    }
    CvmfsBuilder().check(hard, root, store)


def test_an_ordinary_image_has_the_same_tree_digest(store, tmp_path):
    image = make_image(store)
    root, layout = tmp_path / "out", tmp_path / "image.oci"
    assert publish(image, store, root).left_out == ()
    write_layout(image, store, layout)
    found = diff(layout, root / NAME)
    assert not found.differs and found.trees is not None and found.trees[0] == found.trees[1]
    assert inspect_image(root / NAME).as_json()["image_id"] == image.image_id


def test_what_cvmfs_answers_as_attributes_is_not_of_the_image(store, tmp_path):
    image = make_image(store)
    root, layout = tmp_path / "out", tmp_path / "image.oci"
    publish(image, store, root)
    write_layout(image, store, layout)
    try:
        os.setxattr(root / NAME / "hello.txt", "user.hash", b"0")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert diff(layout, root / NAME).differs
    os.setxattr(root, "user.fqrn", b"sw.example.org")
    assert not diff(layout, root / NAME).differs


def test_what_is_in_the_flat_tree(hard, store, tmp_path):
    root = tmp_path / "out"
    publish(hard, store, root)
    flat = root / NAME
    assert (flat / "bin/tool").read_bytes() == b"new"
    assert (flat / "bin/same").read_bytes() == b"tool" * 9000
    assert (flat / "bin/same").stat().st_ino == (flat / "bin/below").stat().st_ino
    assert not (flat / "old").exists()
    assert (flat / "Case").read_bytes() + (flat / "case").read_bytes() == b"12"
    assert stat.S_ISFIFO((flat / "fifo").stat().st_mode)
    assert stat.S_IMODE((flat / "tmp").stat().st_mode) == 0o1777
    assert str((flat / "far").readlink()) == "/".join(["t" * 100] * 3)
    assert str((flat / "abroad").readlink()) == "../../../etc/passwd"
    assert (flat / ("ü" + "x" * 250)).read_bytes() == b"y"
    script = (flat / ".singularity.d/env/10-docker2singularity.sh").read_text()
    assert "export ODD='a b$c\"d'" in script
    run = (flat / ".singularity.d/runscript").read_text()
    assert "'x y$z\"'" in run
    if os.getuid() == 0:
        assert (flat / "bin/tool").stat().st_uid == 3


def test_layers_keep_their_whiteouts_and_resolve_links_below(hard, store, tmp_path):
    root = tmp_path / "out"
    publish(hard, store, root)
    second = layer_of(root, hard, 1) / "layerfs"
    assert (second / ".wh.old").read_bytes() == b""
    assert (second / "bin/below").read_bytes() == b"tool" * 9000
    assert stat.S_IMODE((second / "tmp").stat().st_mode) == 0o1777
    first = layer_of(root, hard, 0) / "layerfs"
    assert (first / "old/a").exists()
    assert (first / "bin/same").stat().st_ino == (first / "bin/tool").stat().st_ino
    assert not (first / "dev/null").exists()


def test_two_publications_are_identical(hard, store, tmp_path, listed):
    publish(hard, store, tmp_path / "one")
    time.sleep(1.1)
    publish(hard, store, tmp_path / "two")
    one, two = listed(tmp_path / "one"), listed(tmp_path / "two")
    assert one == two and len(one) > 60


def test_the_name_that_an_image_has_does_not_change_its_tree(store, tmp_path, listed):
    image = make_image(store)
    write_layout(image, store, tmp_path / "image.oci", reference="other.example.org/x:2")
    publish(image, store, tmp_path / "one")
    with open_image(tmp_path / "image.oci") as opened:
        assert opened.image.reference == "other.example.org/x:2"
        PUBLISHER.publish(opened.image, opened.blobs, NAME, folder_target(tmp_path / "two"), quiet=True)
    assert listed(tmp_path / "one") == listed(tmp_path / "two")


def test_publishing_again_does_nothing(hard, store, tmp_path, listed):
    root = tmp_path / "out"
    publish(hard, store, root)
    before = listed(root), {path: path.lstat().st_ctime_ns for path in root.rglob("*")}
    again = publish(hard, store, root)
    assert not again.changed and again.added == () and len(again.shared) == 3
    assert before == (listed(root), {path: path.lstat().st_ctime_ns for path in root.rglob("*")})


def two_images(store):
    base = (folder("base"), Member(path="base/file", content=b"base"))
    return [make_image(store, [base, (Member(path="own", content=text),)]) for text in (b"1", b"2")]


def test_layers_are_shared(store, tmp_path):
    root = tmp_path / "out"
    one, two = two_images(store)
    publish(one, store, root, "localhost/one:1")
    inode = (layer_of(root, one, 0) / "layerfs/base/file").stat().st_ino
    done = publish(two, store, root, "localhost/two:1")
    assert done.shared == (one.layers[0].digest,) and done.added == (two.layers[1].digest,)
    assert (layer_of(root, two, 0) / "layerfs/base/file").stat().st_ino == inode
    origin = json.loads((layer_of(root, one, 0) / ".metadata/origin.json").read_bytes())["origin"]
    assert origin == sorted((one.image_id, two.image_id))
    assert len(list((root / ".layers").glob("??/*/layerfs"))) == 3
    names = [found.name for found in PUBLISHER.images(folder_target(root))]
    assert names == ["localhost/one:1", "localhost/two:1"]


def test_the_order_of_publications_does_not_matter(store, tmp_path, listed):
    one, two = two_images(store)
    for name, images in (("a", (one, two)), ("b", (two, one))):
        for image in images:
            publish(image, store, tmp_path / name, f"localhost/{'one' if image is one else 'two'}:1")
    assert listed(tmp_path / "a") == listed(tmp_path / "b")


def test_a_tag_moves(store, tmp_path):
    root = tmp_path / "out"
    one, two = two_images(store)
    publish(one, store, root)
    publish(two, store, root)
    assert (root / NAME / "own").read_bytes() == b"2"
    assert PUBLISHER.images(folder_target(root))[0].image_id == two.image_id
    assert flat_of(root, one).exists()
    removed = PUBLISHER.collect(folder_target(root)).paths
    assert len(removed) == 2 and not flat_of(root, one).exists() and not layer_of(root, one, 1).exists()
    origin = json.loads((layer_of(root, one, 0) / ".metadata/origin.json").read_bytes())["origin"]
    assert origin == [two.image_id]


def test_removing_leaves_nothing_but_what_others_use(store, tmp_path, listed):
    one, two = two_images(store)
    publish(one, store, tmp_path / "only", "localhost/one:1")
    root = tmp_path / "out"
    target = folder_target(root)
    publish(one, store, root, "localhost/one:1")
    publish(two, store, root, "localhost/two:1")
    assert PUBLISHER.remove("localhost/two:1", target).paths == (
        *("localhost/two:1", ".metadata/localhost/two:1/manifest.json"),
    )
    assert (flat_of(root, two) / "own").exists()  # for those who run it now
    PUBLISHER.collect(target)
    assert listed(root) == listed(tmp_path / "only")
    assert PUBLISHER.collect(target).paths == ()
    with pytest.raises(AfenvError) as caught:
        PUBLISHER.remove("localhost/two:1", target)
    assert caught.value.code == "E536"
    PUBLISHER.remove("localhost/one:1", target)
    PUBLISHER.collect(target)
    assert list(root.iterdir()) == []


def test_what_others_published_is_left_alone(store, tmp_path):
    root = tmp_path / "out"
    image = make_image(store)
    publish(image, store, root)
    foreign = root / ".flat/ab" / ("ab" + "0" * 62)
    (foreign / ".singularity.d").mkdir(parents=True)
    layer = root / ".layers/ab" / ("ab" + "0" * 62)
    (layer / "layerfs").mkdir(parents=True)
    PUBLISHER.remove(NAME, folder_target(root))
    PUBLISHER.collect(folder_target(root))
    assert foreign.exists() and layer.exists() and not flat_of(root, image).exists()


def test_a_flat_tree_of_another_program_is_kept(store, tmp_path):
    root = tmp_path / "out"
    image = make_image(store)
    flat = flat_of(root, image)
    (flat / ".singularity.d").mkdir(parents=True)
    (flat / "mine").touch()
    publish(image, store, root)
    assert (root / NAME / "mine").exists()


@pytest.mark.parametrize("docker", [True, False])
@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_images_of_other_tools(store, tmp_path, docker, compression):
    if docker and compression == "zstd":
        pytest.skip("Docker's manifests have no zstd")
    layers = [
        [folder("a"), Member(path="a/gone"), Member(path="a/kept", content=b"1")],
        [Member(path="a/.wh.gone"), Member(path="b/.wh..wh..opq"), Member(path="b/new")],
    ]
    image = make_foreign_image(store, layers, docker=docker, compression=compression)
    publish(image, store, tmp_path / "out")
    flat = tmp_path / "out" / NAME
    assert (flat / "a/kept").exists() and not (flat / "a/gone").exists() and (flat / "b/new").exists()
    CvmfsBuilder().check(image, tmp_path / "out", store)


def test_a_path_twice_in_a_layer(store, tmp_path):
    layers = [
        [
            Member(path="a", content=b"1"),
            hardlink("link", "a"),
            Member(path="a", content=b"2"),
            Member(path="c", content=b"3"),
        ]
    ]
    image = make_foreign_image(store, layers)
    publish(image, store, tmp_path / "out")
    for tree in (tmp_path / "out" / NAME, layer_of(tmp_path / "out", image, 0) / "layerfs"):
        assert [(tree / name).read_bytes() for name in ("a", "link", "c")] == [b"2", b"1", b"3"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([Member(path="../outside", content=b"x")], "E304"),
        ([Member(path="a/../../outside", content=b"x")], "E304"),
        ([symlink("a", "/tmp"), Member(path="a/x", content=b"x")], "E304"),
        ([hardlink("a", "../../../etc/passwd")], "E510"),
        ([hardlink("a", "nothing")], "E510"),
        ([folder("a"), hardlink("b", "a")], "E510"),
        ([Member(path="x" * 256)], "E537"),
        ([Member(path="/".join(["y" * 200] * 20))], "E537"),
    ],
)
def test_layers_that_cannot_be_published(store, tmp_path, members, expected):
    assert code(make_foreign_image(store, [members]), store, tmp_path / "out") == expected
    assert [one.name for one in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    "name",
    [
        *("analysis:1.0", "group/analysis:1.0", "registry.example.org", "registry.example.org/", "/a/b:1"),
        *("registry.example.org/../x:1", "registry.example.org/a/./b:1", "registry.example.org/A:1"),
        *(".flat/x:1", "..example/x:1", "localhost/x:1;id", "localhost/x:$(id)", "localhost/x: 1"),
        *(
            "localhost/x:..",
            "localhost/-x:1",
            "-a.b/x:1",
            "localhost/x:1\n",
            "a.b/x@sha256:" + "0" * 64,
        ),
        *("localhost/" + "x" * 260 + ":1", "a..b/x:1", ""),
    ],
)
def test_names_that_cannot_be(store, tmp_path, name):
    assert code(make_image(store), store, tmp_path / "out", name) == "E530"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b__c.d-e:V1.0_x", "localhost:5000/a/b__c.d-e:V1.0_x"),
        ("GHCR.io/x:1", "GHCR.io/x:1"),
    ],
)
def test_names_that_can_be(store, tmp_path, given, name):
    assert publish(make_image(store), store, tmp_path / "out", given).name == name
    assert (tmp_path / "out" / name / "hello.txt").exists()


def test_the_builder_names_an_image_without_registry(store, tmp_path):
    image = make_image(store)
    options = {"target": "cvmfs", "path": tmp_path / "out", "quiet": True}
    built = CvmfsBuilder().build(image, store, options)
    assert built.annotations["org.afenv.published-name"] == f"localhost/{image.reference}"
    assert (tmp_path / "out" / built.annotations["org.afenv.published-path"] / "hello.txt").exists()
    with pytest.raises(AfenvError, match="no option 'compressor'"):
        CvmfsBuilder().build(image, store, {**options, "compressor": "gzip"})
    with pytest.raises(AfenvError, match="needs a path"):
        CvmfsBuilder().build(image, store, {"target": "cvmfs"})


@pytest.mark.parametrize("what", [".flat", ".layers", ".metadata", "registry.example.org", NAME])
@pytest.mark.parametrize("how", ["link", "file"])
def test_something_is_in_the_way(store, tmp_path, what, how, listed):
    root = tmp_path / "out"
    place = root / what
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    if how == "file":
        place.write_text("mine")
    elif what != NAME:
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
    before = listed(root)
    assert code(make_image(store), store, root) == "E533"
    assert listed(root) == before and not list((tmp_path / "elsewhere").iterdir())


def test_a_link_that_is_not_of_an_image_is_in_the_way(store, tmp_path):
    place = tmp_path / "out" / NAME
    place.parent.mkdir(parents=True)
    place.symlink_to("/etc")
    assert code(make_image(store), store, tmp_path / "out") == "E533"
    assert str(place.readlink()) == "/etc"


def test_a_folder_that_is_a_file(store, tmp_path):
    (tmp_path / "out").write_text("")
    assert code(make_image(store), store, tmp_path / "out") == "E403"


def test_a_damaged_layer(store, tmp_path):
    image = make_image(store)
    place = store.path(image.layers[1].digest)
    place.chmod(0o600)
    place.write_bytes(b"x" * image.layers[1].size)
    assert code(image, store, tmp_path / "out") == "E305"
    assert not (tmp_path / "out").exists()


def test_a_damaged_layer_of_a_layout(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "image.oci")
    blob = tmp_path / "image.oci/blobs/sha256" / image.layers[0].digest[7:]
    data = bytearray(blob.read_bytes())
    data[-9] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    with open_image(tmp_path / "image.oci") as opened:
        assert code(opened.image, opened.blobs, tmp_path / "out") == "E301"
    assert not (tmp_path / "out").exists()


def test_a_layer_with_another_content_than_its_diff_id(store, tmp_path):
    from dataclasses import replace

    image = make_image(store)
    wrong = replace(image, layers=(replace(image.layers[0], diff_id="sha256:" + "0" * 64), image.layers[1]))
    assert code(wrong, store, tmp_path / "out") == "E301"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("after", [1, 40, 100])
def test_a_disk_that_is_full_half_way(hard, store, tmp_path, monkeypatch, listed, after):
    root = tmp_path / "out"
    publish(make_image(store), store, root, "localhost/other:1")
    before = listed(root)
    from afenv_builders.cvmfs import writing

    real, count = os.open, [0]

    def failing(path, flags, *rest, **more):
        if flags & os.O_CREAT and b"/out/.afenv-staging" in os.fsencode(path):
            count[0] += 1
            if count[0] > after:
                raise OSError(28, "No space left on device")
        return real(path, flags, *rest, **more)

    if after == 100:  # all are made; the last step fails

        def no(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", no)
    else:
        monkeypatch.setattr(writing.os, "open", failing)
    assert code(hard, store, root) == "E402"
    monkeypatch.undo()
    assert listed(root) == before
    assert publish(hard, store, root).changed


AS_NOBODY = """
import os, sys, tempfile
from pathlib import Path
from afenv.errors import AfenvError
from afenv.oci.publishing import folder_target
from afenv.oci.read import open_image
from afenv_builders.cvmfs import CvmfsBuilder
def publish(folder):
    with open_image(Path(sys.argv[1])) as opened:
        CvmfsBuilder().publish(opened.image, opened.blobs, "localhost/x:1", folder_target(folder), quiet=True)
with tempfile.TemporaryDirectory() as folder:  # everything is imported
    publish(Path(folder, "out"))
sys.path.insert(0, sys.argv[3])
from run_child import become
become(65534, 65534, [])  # keeps the right to read, as the modules may lie where only root looks
try:
    publish(Path(sys.argv[2]))
except AfenvError as error:
    print(error.code)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user is made here")
def test_no_write_access(store, tmp_path):
    image = make_image(store)
    write_layout(image, store, tmp_path / "image.oci")
    root = tmp_path / "out"
    root.mkdir()
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/") and path != Path("/tmp"):
            path.chmod(0o755)
    helpers = Path(__file__).parents[2] / "services"
    words = [sys.executable, "-c", AS_NOBODY, tmp_path / "image.oci", root, helpers]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == "E403\n", done.stderr
    assert not list(root.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from afenv.oci.publishing import folder_target
from afenv.oci.read import open_image
from afenv_builders.cvmfs import CvmfsBuilder, writing, placing
count = [int(sys.argv[3])]
def die(real):
    def step(*words, **more):
        count[0] -= 1
        if count[0] < 0:
            os.kill(os.getpid(), 9)
        return real(*words, **more)
    return step
os.open, os.symlink = die(os.open), die(os.symlink)
Path.rename, Path.replace = die(Path.rename), die(Path.replace)
with open_image(Path(sys.argv[1])) as opened:
    target = folder_target(Path(sys.argv[2]))
    CvmfsBuilder().publish(opened.image, opened.blobs, "localhost/x:1", target, quiet=True)
"""


def test_a_publication_that_is_killed_is_made_good(hard, store, tmp_path, listed):
    write_layout(hard, store, tmp_path / "image.oci")
    publish(hard, store, tmp_path / "whole", "localhost/x:1")
    whole = listed(tmp_path / "whole")
    killed = 0
    for after in (5, 40, 60, 68, 72, 76, 80, 84):
        root = tmp_path / f"out-{after}"
        words = [sys.executable, "-c", KILLED, tmp_path / "image.oci", root, str(after)]
        status = subprocess.run(words, check=False, capture_output=True).returncode
        killed += status == -signal.SIGKILL
        if (root / "localhost/x:1").exists():  # what has a name is complete
            seen = {path: entry for path, entry in listed(root).items() if ".afenv-staging" not in path}
            assert {path for path in whole if path.startswith((".flat", ".layers"))} <= seen.keys()
        publish(hard, store, root, "localhost/x:1")
        assert listed(root) == whole, after
    assert killed >= 5


def test_a_manifest_that_is_damaged(store, tmp_path):
    root = tmp_path / "out"
    publish(make_image(store), store, root)
    (root / ".metadata" / NAME / "manifest.json").write_text("{}")
    for call in (PUBLISHER.images, PUBLISHER.collect):
        with pytest.raises(AfenvError) as caught:
            call(folder_target(root))
        assert caught.value.code == "E533"


def test_check_finds_what_was_changed(store, tmp_path):
    image = make_image(store)
    publish(image, store, tmp_path / "out")
    (tmp_path / "out" / NAME / "hello.txt").write_text("other")
    with pytest.raises(AfenvError) as caught:
        CvmfsBuilder().check(image, tmp_path / "out", store)
    assert caught.value.code == "E406"


def test_there_is_no_such_folder(tmp_path):
    for call in (PUBLISHER.images, PUBLISHER.collect):
        with pytest.raises(AfenvError) as caught:
            call(folder_target(tmp_path / "out"))
        assert caught.value.code == "E001"
    with pytest.raises(AfenvError) as caught:
        PUBLISHER.images(Target(method="wishes", place=tmp_path, repository="a.b"))
    assert caught.value.code == "E030"
