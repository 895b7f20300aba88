"""What is decided about the sandbox before it is entered, and how two runs are compared."""

from __future__ import annotations

from pathlib import Path

from afenv.layers.listing import ListingEntry, write_listing
from afenv.layers.model import Layer
from afenv.record import replace
from afenv.workflow.sandbox import Work, account, differences, known_layer, remember_layer, variables_inside

WORK = Work(
    below=("sha256:" + "1" * 64,),
    lowers=(Path("/somewhere"),),
    commands=(("/bin/sh", "-c", "make"),),
    names=("make",),
    variables={"PATH": "/bin"},
    folder="/analysis",
    user=1000,
    group=1000,
    time=0,
)


def test_the_inputs_are_all_that_decides():
    assert replace(WORK, lowers=(Path("/elsewhere"),), names=("other",)).inputs() == WORK.inputs()
    others = [
        replace(WORK, below=()),
        replace(WORK, commands=(("/bin/sh", "-c", "make all"),)),
        replace(WORK, variables={"PATH": "/usr/bin"}),
        replace(WORK, folder="/"),
        replace(WORK, user=0),
        replace(WORK, time=1),
    ]
    assert len({WORK.inputs(), *(other.inputs() for other in others)}) == 7


def test_variables_of_the_image_go_before_ours_but_for_what_is_fixed():
    found = variables_inside({"LANG": "de_DE.UTF-8", "HOME": "/wrong", "X": "1"}, "/home/analyst", 7)
    assert (found["LANG"], found["HOME"], found["X"]) == ("de_DE.UTF-8", "/home/analyst", "1")
    assert (found["SOURCE_DATE_EPOCH"], found["LC_ALL"], found["TZ"]) == ("7", "C.UTF-8", "UTC")


def test_the_account_is_that_of_the_image(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:\njo:x:1234:100::/home/jo:/bin/sh\nbroken\n")
    assert account("jo", [tmp_path], "/h") == (1234, 100, "/home/jo")
    assert account("1234:5", [tmp_path], "/h") == (1234, 5, "/home/jo")
    assert account("1000:1001", [tmp_path], "/h") == (1000, 1001, "/h")
    assert account("nobody-knows", [tmp_path / "none"], "/h") == (1000, 1000, "/h")


def layer(store, *entries: ListingEntry) -> Layer:
    digest = store.put(repr(entries).encode())
    size = store.path(digest).stat().st_size
    return Layer(
        diff_id=digest, digest=digest, size=size, source="build", listing=write_listing(store, entries)
    )


def test_two_runs_are_compared_path_by_path(store):
    same = ListingEntry("same", "f", 0o644, 3, 1)
    one = layer(store, same, ListingEntry("a", "f", 0o644, 3, 1), ListingEntry("l", "l", 0o777, 0, None, "x"))
    other = layer(
        store,
        same,
        ListingEntry("a", "f", 0o755, 3, 2),
        ListingEntry("l", "l", 0o777, 0, None, "y"),
        ListingEntry("new", "d", 0o755),
    )
    assert differences(store, one, one) == []
    assert differences(store, one, other) == [
        "/a: mode 644, then 755; other content (3 bytes)",
        "/l: leads to x, then y",
        "/new: only in the second run",
    ]
    assert differences(store, other, one)[2] == "/new: only in the first run"
    kinds = layer(store, same, ListingEntry("a", "d", 0o755), ListingEntry("l", "l", 0o777, 0, None, "x"))
    assert differences(store, one, kinds) == ["/a: a file, then a folder"]


def test_a_layer_is_found_by_its_inputs(store):
    made = layer(store)
    assert known_layer(store, WORK.inputs(), "build: make") is None
    remember_layer(store, WORK.inputs(), made)
    assert known_layer(store, WORK.inputs(), "build: make") == replace(made, source="build: make")
    store.path(made.digest).unlink()
    assert known_layer(store, WORK.inputs(), "build: make") is None
