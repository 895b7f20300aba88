"""Publishing to a repository, with a stand-in for cvmfs_server: in one transaction or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from afenv.errors import AfenvError
from afenv.oci.layout import write_layout
from afenv.oci.publishing import folder_target, repository_target
from afenv.testing import Member, folder, make_foreign_image, make_image
from afenv_builders.cvmfs import CvmfsBuilder
from afenv_builders.cvmfs.names import flat_path, layer_path

NAME = "registry.example.org/group/analysis:1.0"
PUBLISHER = CvmfsBuilder()
METHODS = pytest.mark.parametrize("method", ["ingest", "transaction"])
INGEST = ["ingest", "-t", "-", "-b", "/", "sw.example.org"]
TRANSACTION = ["transaction", "sw.example.org"]
PUBLISH = ["publish", "-m", f"afenv: {NAME}", "sw.example.org"]
ABORT = ["abort", "-f", "sw.example.org"]


def publish(image, store, target, name: str = NAME):
    return PUBLISHER.publish(image, store, name, target, quiet=True)


def code(image, store, target, name: str = NAME) -> str:
    with pytest.raises(AfenvError) as caught:
        publish(image, store, target, name)
    return caught.value.code


def without_links(found):
    """A listing without the numbers of hard links: an ingested one is a copy."""
    return {path: (*entry[:3], entry[4]) for path, entry in found.items()}


@METHODS
def test_the_repository_is_as_the_folder(hard, store, server, tmp_path, listed, method):
    publish(hard, store, folder_target(tmp_path / "out"))
    done = publish(hard, store, server.target(method))
    assert done.changed and not server.open
    if os.getuid() == 0:
        assert listed(server.mounted) == listed(tmp_path / "out")
    calls = [INGEST] if method == "ingest" else [TRANSACTION, PUBLISH]
    assert server.calls() == calls
    again = publish(hard, store, server.target(method))
    assert not again.changed and server.calls() == calls


def test_two_streams_are_identical(hard, store, monkeypatch, server, tmp_path):
    streams = []
    for name in ("one", "two"):
        monkeypatch.setenv("AFENV_CVMFS_SERVER", f"sh -c 'cat >{tmp_path}/{name}' sh")
        publish(hard, store, server.target("ingest"))
        streams.append((tmp_path / name).read_bytes())
    assert streams[0] == streams[1]
    listed = subprocess.run(["tar", "-tf", tmp_path / "one"], capture_output=True, text=True, check=True)
    names = listed.stdout.splitlines()
    assert names[-1] == NAME and names[-2].startswith(f".metadata/{NAME}")
    flat = [name for name in names if name.startswith(flat_path(hard.image_id))]
    assert flat[-1].endswith(".singularity.d/afenv.json")  # what says that the tree is complete
    assert len(names) == len(set(names))
    assert b"PaxHeader" not in streams[0]


@METHODS
def test_a_tag_moves_and_garbage_goes(store, server, tmp_path, method):
    target = server.target(method)
    base = (Member(path="base", content=b"base"),)
    one, two = (make_image(store, [base, (Member(path="own", content=text),)]) for text in (b"1", b"2"))
    publish(one, store, target)
    done = publish(two, store, target)
    assert done.shared == (one.layers[0].digest,)
    assert (server.mounted / NAME / "own").read_bytes() == b"2"
    notes = server.mounted / layer_path(one.layers[0].digest) / ".metadata"
    assert json.loads((notes / "origin.json").read_bytes())["origin"] == sorted((one.image_id, two.image_id))
    before = len(server.calls())
    gone = (flat_path(one.image_id), layer_path(one.layers[1].digest))
    assert PUBLISHER.collect(target).paths == gone
    if method == "ingest":
        deleted = ["ingest", "--delete", gone[0], "--delete", gone[1], "sw.example.org"]
        assert server.calls()[before:] == [deleted]
    else:
        assert [words[0] for words in server.calls()[before:]] == ["transaction", "publish"]
    count = len(server.calls())
    assert PUBLISHER.collect(target).paths == () and len(server.calls()) == count
    PUBLISHER.remove(NAME, target)
    assert [words[0] for words in server.calls()[count:]] == ["transaction", "publish"]
    assert PUBLISHER.images(target) == () and not (server.mounted / NAME).is_symlink()


@METHODS
def test_a_transaction_is_open_already(store, server, listed, method):
    (server.place / "backup").mkdir()
    before = listed(server.mounted)
    assert code(make_image(store), store, server.target(method)) == "E532"
    assert server.open and listed(server.mounted) == before
    assert all(words[0] != "abort" for words in server.calls())  # it is somebody else's


@METHODS
def test_the_transaction_cannot_be_opened(store, server, method):
    server.fail("transaction" if method == "transaction" else "ingest", 3)
    assert code(make_image(store), store, server.target(method)) == "E531"
    assert not list(server.mounted.iterdir())


def test_an_ingest_that_fails_half_way(hard, store, server, listed):
    publish(make_image(store), store, server.target("ingest"), "localhost/other:1")
    before = listed(server.mounted)
    server.fail("half")
    with pytest.raises(AfenvError, match="Synchronization failed") as caught:
        publish(hard, store, server.target("ingest"))
    assert caught.value.code == "E531"
    assert listed(server.mounted) == before and not server.open
    assert server.calls()[-1] == ABORT
    server.fail("")
    publish(hard, store, server.target("ingest"))
    assert (server.mounted / NAME / "bin/tool").exists()


def test_a_publish_that_fails(hard, store, server, listed):
    publish(make_image(store), store, server.target("transaction"), "localhost/other:1")
    before = listed(server.mounted)
    server.fail("publish", 7)
    with pytest.raises(AfenvError, match="publish went wrong") as caught:
        publish(hard, store, server.target("transaction"))
    assert caught.value.code == "E531"
    assert listed(server.mounted) == before and not server.open
    assert server.calls()[-3:] == [TRANSACTION, PUBLISH, ABORT]


@METHODS
def test_signed_and_not_mounted(store, server, method):
    server.fail("signed")
    with pytest.raises(AfenvError, match="is signed") as caught:
        publish(make_image(store), store, server.target(method))
    assert caught.value.code == "E534"
    assert all(words[0] != "abort" for words in server.calls())
    server.fail("")
    count = len(server.calls())
    assert not publish(make_image(store), store, server.target(method)).changed  # it is there
    assert len(server.calls()) == count


def test_an_abort_that_fails(store, server):
    server.fail("publish", 7)
    program = server.place / "server.py"
    stuck = '== "abort":\n    print("stuck"); sys.exit(9)'
    program.write_text(program.read_text().replace('== "abort":', stuck))
    with pytest.raises(AfenvError, match=r"publish went wrong.*stuck") as caught:
        publish(make_image(store), store, server.target("transaction"))
    assert caught.value.code == "E539"


@METHODS
def test_nothing_is_begun_for_a_damaged_image(store, server, method):
    image = make_image(store)
    place = store.path(image.layers[0].digest)
    place.chmod(0o600)
    place.write_bytes(b"x" * image.layers[0].size)
    assert code(image, store, server.target(method)) == "E305"
    assert server.calls() == []


@pytest.mark.parametrize("member", [Member(path="../x"), Member(path="y" * 256)])
def test_a_layer_that_cannot_be_published_is_found_before_or_dropped(store, server, member):
    image = make_foreign_image(store, [[Member(path="a", content=b"1"), member]])
    assert code(image, store, server.target("ingest")) in ("E304", "E537")
    assert server.calls() == []
    assert code(image, store, server.target("transaction")) in ("E304", "E537")
    assert server.calls() == [TRANSACTION, ABORT] and not server.open and not list(server.mounted.iterdir())


def test_what_an_ingest_that_was_killed_left_is_made_good(hard, store, server, tmp_path, listed):
    publish(hard, store, server.target("ingest"))
    whole = listed(server.mounted)
    paths = [path for path in server.mounted.rglob("*") if not path.is_symlink() and path.is_dir()]
    times = [(path, path.stat().st_mtime) for path in paths]
    flat = server.mounted / flat_path(hard.image_id)
    (flat / ".singularity.d/afenv.json").unlink()
    (flat / "bin/tool").unlink()
    (server.mounted / NAME).unlink()
    (server.mounted / layer_path(hard.layers[1].digest) / ".metadata/layers.json").unlink()
    for path, mtime in times:
        os.utime(path, (mtime, mtime))
    assert publish(hard, store, server.target("ingest")).changed
    again = listed(server.mounted)
    named = {"registry.example.org", "registry.example.org/group"}  # GNU tar puts the link into them now
    assert {path: again[path][4] for path in again} == {path: whole[path][4] for path in whole}
    for path in named:
        del again[path], whole[path]
    assert without_links(again) == without_links(whole)


KILLED = """
import os, sys
from pathlib import Path
from afenv.oci.publishing import Target
from afenv.oci.read import open_image
from afenv_builders.cvmfs import CvmfsBuilder, placing
def die(*_):
    os.kill(os.getpid(), 9)
placing._put = die
target = Target(method="transaction", place=Path(sys.argv[2]), repository="sw.example.org")
with open_image(Path(sys.argv[1])) as opened:
    CvmfsBuilder().publish(opened.image, opened.blobs, "localhost/x:1", target, quiet=True)
"""


def test_a_transaction_that_a_killed_publication_left_open_is_dropped(store, server, tmp_path, listed):
    image = make_image(store)
    write_layout(image, store, tmp_path / "image.oci")
    words = [sys.executable, "-c", KILLED, tmp_path / "image.oci", server.mounted]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert server.open and list(server.mounted.glob(".afenv-staging-*"))
    publish(image, store, server.target("transaction"))
    assert [words[0] for words in server.calls()] == [
        *("transaction", "transaction", "abort", "transaction", "publish")
    ]
    assert not server.open and not list(server.mounted.glob(".afenv-staging-*"))
    publish(image, store, folder_target(tmp_path / "out"))
    assert listed(server.mounted) == listed(tmp_path / "out")


def test_a_transaction_of_a_process_that_lives_is_not_dropped(store, server):
    from afenv_builders.cvmfs.repository import owner_text

    (server.place / "backup").mkdir()
    (server.mounted / ".afenv-staging-x").mkdir()
    (server.mounted / ".afenv-staging-x/owner.json").write_bytes(owner_text())
    assert code(make_image(store), store, server.target("transaction")) == "E532"


@pytest.mark.parametrize("name", ["nodot", "-a.b", "a.b/c", "a..b", "A.B", "a.b;id", "", ".a.b", "a.b\n"])
def test_what_is_no_repository(store, name):
    assert code(make_image(store), store, repository_target(name)) == "E530"


@METHODS
def test_no_such_repository(store, server, method):
    assert code(make_image(store), store, repository_target("absent.afenv.invalid", method)) == "E535"
    assert server.calls() == []


def test_a_repository_is_listed_without_a_server(store, server, monkeypatch, tmp_path):
    image = make_image(store)
    publish(image, store, server.target("ingest"))
    monkeypatch.delenv("AFENV_CVMFS_SERVER")
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = PUBLISHER.images(server.target("ingest"))
    assert (found.name, found.image_id) == (NAME, image.image_id)
    with pytest.raises(AfenvError) as caught:
        PUBLISHER.collect(server.target("ingest"))
    assert caught.value.code == "E535"


def test_something_is_in_the_way(store, server):
    (server.mounted / "registry.example.org").write_text("mine")
    assert code(make_image(store), store, server.target("ingest")) == "E533"
    assert server.calls() == []


def test_a_path_twice_in_a_layer(store, server):
    layers = [[folder("d"), Member(path="a", content=b"1"), Member(path="a", content=b"2")]]
    publish(make_foreign_image(store, layers), store, server.target("ingest"))
    assert (server.mounted / NAME / "a").read_bytes() == b"2"
