"""What goes along with a path, how it is grouped, and how it is written to this host."""

from __future__ import annotations

import hashlib
import os

import pytest

from afenv.cvmfs.closure import closure, closure_of_files, named_paths, package_of
from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.listing import list_parts, read_listing
from afenv.cvmfs.materialise import materialise, tells_reads, was_read
from afenv.workflow.cvmfs_closing import close_over

M = "/cvmfs/made.afenv.test"
A = "/lcg/releases/A/1-x/x86_64-el9-gcc13-opt"
G = "/lcg/releases/gcc/13-y/x86_64-el9"
VIEW = "/lcg/views/V/x86_64-el9-gcc13-opt"
TREE = {
    f"{A}/lib/liba.so": b"a" * 10,
    f"{A}/etc/rc": b"rc",
    f"{G}/setup.sh": b"export CC=cc\n",
    f"{G}/bin/gcc": b"gcc",
    "/lcg/releases/unused/1-z/x86_64-el9-gcc13-opt/big": b"no",
    f"{VIEW}/lib/liba.so": f"{M}{A}/lib/liba.so",
    f"{VIEW}/setup.sh": f". {M}{G}/setup.sh\nls {M}/lcg/releases {M}/gone\n".encode(),
    f"{VIEW}/out": "/etc/passwd",
    f"{VIEW}/gone": "nowhere",
    f"{VIEW}/round": "round",
    "/plain/file": b"plain",
    "/plain/sub/deep": b"deep",
    "/latest": "lcg/views/V",
    "/hard/a": ("hard", b"same", 5),
    "/hard/b": ("hard", b"same", 5),
    "/private": ("mode", b"p", 0o600),
}


@pytest.fixture
def snapshot(maker, open_made):
    return open_made(maker).at(parse_hash(maker.publish(TREE, nested=("/plain", "/plain/sub"))))


def test_the_package_of_a_path():
    assert package_of(f"{A}/lib/liba.so") == A
    assert package_of(f"{G}/bin/gcc") == G
    assert package_of("/lcg/releases/A/1-x") is None
    assert package_of("/x86_64-linux/a") == "/x86_64-linux"


def test_a_view_brings_its_packages_and_what_its_setup_names(snapshot):
    found = closure(snapshot, VIEW, view=True)
    files = {path for path, entry in found.entries.items() if entry.kind == "f"}
    assert files == {
        f"{VIEW}/setup.sh",
        f"{A}/lib/liba.so",
        f"{A}/etc/rc",  # beside what a link leads to
        f"{G}/setup.sh",
        f"{G}/bin/gcc",  # beside what the setup script names
    }
    assert {f"{VIEW}/gone", f"{VIEW}/round", f"{VIEW}/out"} <= set(found.entries)  # as they are
    assert found.remarks == [f"{M}{VIEW}/out leads to /etc/passwd"]
    assert list(found.entries) == sorted(found.entries)
    assert f"{G}/setup.sh" not in closure(snapshot, VIEW).entries


def test_links_on_the_way_to_a_path_are_part_of_it(snapshot):
    found = closure(snapshot, "/latest/x86_64-el9-gcc13-opt/lib")
    assert "/latest" in found.entries
    assert f"{VIEW}/lib/liba.so" in found.entries
    assert f"{A}/lib/liba.so" in found.entries


def test_files_that_were_read_bring_no_more_than_what_links_lead_to(snapshot):
    found = closure_of_files(snapshot, [f"{VIEW}/lib/liba.so", "/plain/file"])
    assert set(found.entries) == {f"{VIEW}/lib/liba.so", f"{A}/lib/liba.so", "/plain/file"}


def test_named_paths():
    text = f". {M}/a/setup.sh; ls {M}/b/c. 'x' {M}/top /cvmfs/other.afenv.test/a/b"
    assert named_paths(text, M) == {"/a/setup.sh", "/b/c"}


def test_parts_depend_on_the_repository_alone(snapshot, store):
    whole = list_parts(snapshot, closure(snapshot, "").entries, store)
    some = list_parts(snapshot, closure(snapshot, "/plain").entries, store)
    assert [part.path for part in some] == [f"{M}/plain", f"{M}/plain/sub"]  # by catalogue
    assert set(some) <= set(whole)
    assert f"{M}{A}" in [part.path for part in whole]  # by package
    (deep,) = [part for part in some if part.path.endswith("/sub")]
    assert (deep.files, deep.size) == (1, 4)
    lines = {line.path: line for line in read_listing(store, deep.listing)}
    assert lines[f"{M}/plain/sub/deep"].sha256 == hashlib.sha256(b"deep").hexdigest()


def test_written_to_this_host_and_what_was_read_of_it(snapshot, tmp_path):
    entries = closure(snapshot, "").entries
    base = materialise(snapshot, entries, tmp_path / "root")
    assert (base / "plain/sub/deep").read_bytes() == b"deep"
    assert str((base / VIEW[1:] / "lib/liba.so").readlink()) == TREE[f"{VIEW}/lib/liba.so"]
    assert (base / "hard/a").stat().st_ino == (base / "hard/b").stat().st_ino
    assert (base / "private").stat().st_mode & 0o777 == 0o644
    assert (base / "plain/file").stat().st_mtime == 1_700_000_000
    if not tells_reads(tmp_path):
        pytest.skip("this file system does not note when files are read")
    fresh = materialise(snapshot, entries, tmp_path / "fresh")
    assert was_read(fresh, entries) == []
    (fresh / "plain/file").read_bytes()
    (fresh / "latest").readlink()
    assert was_read(fresh, entries) == ["/latest", "/plain/file"]


def test_stubs_have_their_size_and_nothing_else(maker, open_made, tmp_path):
    snapshot = open_made(maker).at(parse_hash(maker.publish({"/large": b"x" * 100_000, "/small": b"s"})))
    for path in (maker.folder / "data").rglob("*P"):
        path.unlink()  # no part of the large file is asked for
    entries = closure(snapshot, "").entries
    base = materialise(snapshot, entries, tmp_path / "root", stubs=True)
    assert (base / "large").read_bytes() == bytes(100_000)
    assert (base / "small").read_bytes() == b"s"


def test_closing_over_a_python_package(maker, open_made):
    tree = {
        "/py/pkg/__init__.py": b"",
        "/py/pkg/sub/__init__.py": b"",
        "/py/pkg/sub/used.py": b"",
        "/py/pkg/late.py": b"",
        "/py/pkg/data/table.txt": b"",
        "/py/pkg/tests/test_it.py": b"",
        "/py/other.py": b"",
        "/py/pkg/tests/__init__.py": b"",
    }
    snapshot = open_made(maker).at(parse_hash(maker.publish(tree)))
    assert close_over(snapshot, ["/py/pkg/sub/used.py"]) == set(tree) - {
        "/py/other.py",
        "/py/pkg/tests/test_it.py",
        "/py/pkg/tests/__init__.py",
    }
    assert close_over(snapshot, ["/py/other.py"]) == {"/py/other.py"}


def test_closing_over_libraries(maker, open_made):
    """A real program of this host, with its needs in the places that it names."""
    import sys
    from pathlib import Path

    from afenv.facility.elf import libraries, read_elf

    program = Path(os.path.realpath(sys.executable)).read_bytes()
    elf = read_elf(program)
    assert elf is not None
    needed, _ = libraries(elf)
    assert any(name.startswith("libc.so") for name in needed)
    tree = {"/app/bin/python": ("mode", program, 0o755), f"/app/bin/{needed[0]}": b"library", "/app/x": b""}
    snapshot = open_made(maker).at(parse_hash(maker.publish(tree)))
    assert close_over(snapshot, ["/app/bin/python"]) == {"/app/bin/python", f"/app/bin/{needed[0]}"}
