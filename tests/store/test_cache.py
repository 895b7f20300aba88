"""Showing, pruning and verifying the cache."""

from __future__ import annotations

import fcntl
import json
import os
import time

import pytest

from afenv.cli import main
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.store.content import ContentStore
from afenv.workflow.cache import cache_prune, cache_summary, cache_verify

DAY = 86_400.0


def put(store: ContentStore, data: bytes, *, days: float = 0.0) -> str:
    """A blob that was used last so many days ago."""
    digest = store.put(data)
    path = store.path(digest)
    os.utime(path, ns=(int((time.time() - days * DAY) * 1e9), path.stat().st_mtime_ns))
    return digest


def age(path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_summary(store):
    assert cache_summary(store).blobs == 0
    put(store, bytes(1000))
    put(store, bytes(500))
    store.save_key("http", sha256_bytes(b"1"), {"a": 1})
    store.save_key("layer", sha256_bytes(b"1"), {"a": 1})
    store.save_key("layer", sha256_bytes(b"2"), {"a": 1})
    (store.temporary_folder() / "blob-1").write_bytes(b"abc")
    summary = cache_summary(store)
    assert json.loads(json.dumps(summary.as_json())) == {
        "folder": str(store.folder),
        "blobs": 2,
        "blob_bytes": 1500,
        "keys": {"http": 1, "layer": 2},
        "key_bytes": 21,
        "temporary": 1,
        "temporary_bytes": 3,
        "trees": 0,
        "tree_bytes": 0,
        "clones": 0,
        "clone_bytes": 0,
    }


def test_prune_by_age(store):
    old, young = put(store, b"old", days=11), put(store, b"young", days=9)
    store.save_key("layer", sha256_bytes(b"1"), {"layer": [{"digest": old}, {"digest": young}]})
    store.save_key("layer", sha256_bytes(b"2"), {"digest": young})
    result = cache_prune(store, older_than=10 * DAY)
    assert (result.removed_blobs, result.removed_keys, result.kept_blobs) == (1, 1, 1)
    assert result.kept_bytes == 5
    assert not store.has(old)
    assert store.trusted(young)
    assert store.load_key("layer", sha256_bytes(b"1")) is None
    assert store.load_key("layer", sha256_bytes(b"2")) == {"digest": young}


def test_prune_to_a_size_removes_the_least_recently_used(store):
    digests = [put(store, bytes([days]) * 1000, days=days) for days in range(5)]
    result = cache_prune(store, keep_bytes=2999)
    assert [store.has(digest) for digest in digests] == [True, True, False, False, False]
    assert result.freed_bytes == 3000
    assert cache_prune(store, keep_bytes=0).kept_blobs == 0


def test_prune_without_limits_only_tidies(store):
    digest = put(store, b"data", days=1000)
    stale, fresh, held = (store.temporary_folder() / name for name in ("blob-a", "blob-b", "part-c"))
    for path in (stale, fresh, held):
        path.write_bytes(b"abc")
    age(stale, 1.1)
    age(held, 1.1)
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = cache_prune(store)
    assert (result.removed_temporary, result.removed_blobs, result.freed_bytes) == (1, 0, 3)
    assert store.has(digest)
    assert sorted(path.name for path in store.temporary_folder().iterdir()) == ["blob-b", "part-c"]


def test_old_keys_are_pruned_and_used_ones_kept(store):
    for name in (b"old", b"used"):
        store.save_key("layer", sha256_bytes(name), 1)
        age(store._key_path("layer", sha256_bytes(name)), 20)
    assert store.load_key("layer", sha256_bytes(b"used")) == 1
    assert cache_prune(store, older_than=10 * DAY).removed_keys == 1
    assert store.load_key("layer", sha256_bytes(b"used")) == 1


def test_bytes_that_a_layout_shares_are_not_counted_as_freed(store, tmp_path):
    store.link_or_copy(put(store, bytes(1000)), tmp_path / "layer")
    result = cache_prune(store, keep_bytes=0)
    assert (result.removed_blobs, result.freed_bytes) == (1, 0)
    assert (tmp_path / "layer").read_bytes() == bytes(1000)


@pytest.mark.parametrize(
    "act", [lambda store: cache_prune(store, keep_bytes=0), lambda store: cache_verify(store, repair=True)]
)
def test_nothing_is_removed_while_a_build_runs(store, act):
    digest = put(store, b"data", days=100)
    with store.in_use(), pytest.raises(AfenvError) as caught:
        act(ContentStore(store.folder))
    assert (caught.value.code, caught.value.exit_status) == ("E407", 3)
    assert store.has(digest)
    act(ContentStore(store.folder))


def test_verify(store):
    good, bad, cut = (put(store, data * 100) for data in (b"good", b"bad", b"cut"))
    assert cache_verify(store).sound
    for digest, content in ((bad, b"BAD" * 100), (cut, b"cu")):
        store.path(digest).chmod(0o644)
        store.path(digest).write_bytes(content)
    keys = [sha256_bytes(name) for name in (b"good", b"bad", b"broken")]
    store.save_key("layer", keys[0], {"digest": good})
    store.save_key("layer", keys[1], {"digest": bad})
    store.save_key("layer", keys[2], {})
    broken = store._key_path("layer", keys[2])
    broken.unlink()
    broken.write_bytes(b"{")
    foreign = store.path(good).with_name("notes.txt")
    foreign.touch()

    result = cache_verify(store)
    assert not result.sound
    assert result.blobs == 3
    assert result.damaged == tuple(sorted((bad, cut)))
    assert result.damaged_keys == (str(broken.relative_to(store.folder)),)
    assert result.foreign == (str(foreign.relative_to(store.folder)),)
    assert store.has(bad)

    assert cache_verify(store, repair=True).as_json()["repaired"] is True
    assert cache_verify(store).sound
    assert store.trusted(good)
    assert not store.has(bad)
    assert store.load_key("layer", keys[0]) == {"digest": good}
    assert store.load_key("layer", keys[1]) is None


def test_edit_with_its_times_restored_is_found_by_verify(store):
    digest = put(store, b"data")
    path = store.path(digest)
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"DATA")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache_verify(store).damaged == (digest,)


def test_verify_is_no_use(store):
    put(store, b"data", days=100)
    cache_verify(store)
    assert cache_prune(store, older_than=10 * DAY).removed_blobs == 1


def test_what_lies_in_the_place_of_a_blob(store, tmp_path):
    """A folder, one with something in it, and links; they are told, removed, and in nobody's way."""
    digests = [put(store, bytes([number])) for number in range(4)]
    for digest in digests:
        store.path(digest).unlink()
    store.path(digests[0]).mkdir()
    store.path(digests[1]).mkdir()
    (store.path(digests[1]) / "file").write_bytes(b"content")
    store.path(digests[2]).symlink_to(tmp_path)
    store.path(digests[3]).symlink_to("nowhere")
    assert not cache_verify(store).sound
    cache_verify(store, repair=True)
    assert cache_verify(store).sound and tmp_path.is_dir()
    for number, digest in enumerate(digests):
        assert store.put(bytes([number])) == digest


def test_a_file_that_is_named_like_a_blob_of_another_place(store):
    digest = put(store, b"a")
    name = digest.removeprefix("sha256:")
    misplaced = store.folder / "blobs" / "copy" / "sha256" / name[:2] / name
    misplaced.parent.mkdir(parents=True)
    misplaced.write_bytes(b"b")
    assert cache_verify(store).foreign == (str(misplaced.relative_to(store.folder)),)
    cache_prune(store, keep_bytes=0)
    cache_verify(store, repair=True)
    assert cache_verify(store).sound and not misplaced.exists()


@pytest.mark.parametrize("note", [b'{"bytes": 1e999}', b"[" * 100_000])
def test_a_damaged_note_of_a_tree(store, note):
    (store.folder / "trees" / "abc").mkdir(parents=True)
    (store.folder / "trees" / "abc.json").write_bytes(note)
    assert cache_summary(store).trees == 1
    assert cache_prune(store, older_than=DAY).removed_trees == 1


def test_a_key_that_is_nested_without_end(store):
    store.save_key("layer", sha256_bytes(b"1"), {})
    (path,) = (store.folder / "keys").rglob("*.json")
    path.unlink()
    path.write_bytes(b"[" * 100_000)
    assert len(cache_verify(store, repair=True).damaged_keys) == 1


@pytest.mark.parametrize(
    ("words", "action"),
    [(["--keep", "5"], "prune"), (["verify", "--older-than", "0"], "prune"), (["--repair"], "verify")],
)
def test_options_of_another_action_are_refused(words, action, capsys):
    assert main(["cache", *words]) == 2
    assert f"goes with `afenv cache {action}`" in capsys.readouterr().err
