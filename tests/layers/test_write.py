"""From a lock to layers, with packages made on the spot and a Python that stands in for theirs."""

from __future__ import annotations

import dataclasses
import gzip
import io
import sys
import tarfile
import threading

import pytest

from afenv.documents.lock import LockedCode, LockedEnvironment, LockedPython
from afenv.errors import AfenvError
from afenv.layers import gzip_members, write, write_job
from afenv.layers.interpreter import interpreter_id, prepare_interpreter
from afenv.layers.listing import read_listing
from afenv.layers.plan import plan_layers
from afenv.layers.write import layer_key, write_layers
from afenv.settings import Settings
from afenv.store.content import ContentStore

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"usr/local/lib/python{MINOR}/dist-packages"
TAG = sys.implementation.cache_tag
# Stands in for the dynamic loader of the environment: starts the Python at hand.
LOADER = f'#!/bin/sh\nunset PYTHONHOME\nshift 3\nexec {sys.executable} "$@"\n'.encode()


class Files:
    """A fetcher that has everything, and notes what it was asked for."""

    def __init__(self):
        self.paths = {}
        self.asked = []

    def add(self, locked, path):
        self.paths[locked.file.sha256] = path
        return locked

    def files(self, files, *, title):
        self.asked += [file.sha256 for file in files]
        return [self.paths[file.sha256] for file in files]


@pytest.fixture
def fetcher():
    return Files()


def interpreter_debs(make_deb, fetcher, loader=LOADER):
    libc = ("./lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "file 755", loader)
    python = (f"./usr/bin/python{MINOR}", "file 755", b"not read")
    module = (f"./usr/lib/python{MINOR}/module.py", "file", b"X = 1\n")
    return [
        fetcher.add(*make_deb("libc6", [libc])),
        fetcher.add(*make_deb(f"libpython{MINOR}-minimal", [module])),
        fetcher.add(*make_deb(f"python{MINOR}-minimal", [python])),
    ]


@pytest.fixture
def locked(make_deb, make_wheel, fetcher):
    one = make_wheel("one", {"one/__init__.py": b"ONE = 1\n" * 2000, "both.py": b"B = 1\n"}, requested=True)
    two = make_wheel(
        "two", {"two.py": b"TWO = 2\n", "both.py": b"B = 1\n"}, entry_points="[console_scripts]\nt=two:x"
    )
    return LockedEnvironment(
        request="sha256:" + "0" * 64,
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        suite="bookworm",
        debs=tuple(interpreter_debs(make_deb, fetcher)),
        wheels=(fetcher.add(*one), fetcher.add(*two)),
        python=LockedPython(
            version=f"{MINOR}.0",
            executable=f"/usr/bin/python{MINOR}",
            site_packages=f"/{SITE}",
            scripts="/usr/local/bin",
        ),
    )


@pytest.fixture
def build(store, settings, fetcher, tmp_path):
    def function(locked, code=(), **options):
        options = {"fetcher": fetcher, "folder": tmp_path, "mtime": 7, "quiet": True} | options
        return write_layers(
            locked, code, options.pop("store", store), options.pop("settings", settings), **options
        )

    return function


def tree(layers, store):
    """Content by path of the layers, one on top of the other."""
    found = {}
    for layer in layers:
        data = gzip.decompress(store.read(layer.digest))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                found[member.name] = (
                    archive.extractfile(member).read() if member.isfile() else member.linkname,
                    member.mtime,
                )
    return found


def test_an_environment(build, locked, store, fetcher):
    layers = build(locked)
    assert [layer.source for layer in layers] == [
        "debian:libc6=1.0",
        f"debian:libpython{MINOR}-minimal=1.0",
        f"debian:python{MINOR}-minimal=1.0",
        "system",
        "pypi:one==1.0",
        "pypi:two==1.0",
    ]
    found = tree(layers, store)
    assert found[f"{SITE}/one/__init__.py"] == (b"ONE = 1\n" * 2000, 315532800)
    for path in (
        f"{SITE}/one/__pycache__/__init__.{TAG}.pyc",
        f"usr/lib/python{MINOR}/__pycache__/module.{TAG}.pyc",
    ):
        assert found[path][0][4:8] == b"\1\0\0\0", path
    assert f"{SITE}/__pycache__/both.{TAG}.pyc" in found
    second = {entry.path for entry in read_listing(store, layers[5].listing)}
    assert f"{SITE}/two.py" in second
    assert f"{SITE}/both.py" not in second  # equal content lies in the first layer
    assert f"{SITE}/__pycache__/both.{TAG}.pyc" not in second
    owners = {entry.path: entry.package for entry in read_listing(store, layers[4].listing)}
    assert owners[f"{SITE}/both.py"] == "one"


def test_nothing_is_done_twice(build, locked, fetcher, store, monkeypatch):
    first = build(locked)
    fetcher.asked.clear()
    monkeypatch.setattr(write, "write_missing", None)
    monkeypatch.setattr("afenv.layers.listing.read_listing", None)
    monkeypatch.setattr("afenv.layers.wheel.open_wheel", None)
    assert build(locked) == first
    assert fetcher.asked == []


def test_the_same_bytes_elsewhere(build, locked, tmp_path):
    first = build(locked)
    other = ContentStore(tmp_path / "another" / "cache")
    assert build(locked, store=other, settings=Settings(cache_folder=other.folder, jobs=1)) == first


def test_without_bytecode(build, locked, store, fetcher):
    plain = dataclasses.replace(locked, bytecode=False)
    assert not [path for path in tree(build(plain), store) if path.endswith(".pyc")]
    assert not (store.folder / "interpreters").exists()
    with_it, without = build(locked), build(plain)
    assert with_it[0].digest == without[0].digest  # libc6 has no modules
    assert with_it[4].digest != without[4].digest


def test_a_bumped_package_is_the_only_one_written(build, locked, make_wheel, fetcher, store):
    first = build(locked)
    fetcher.asked.clear()
    new = fetcher.add(*make_wheel("two", {"two.py": b"TWO = 3\n", "both.py": b"B = 1\n"}, version="2.0"))
    changed = dataclasses.replace(locked, wheels=(locked.wheels[0], new))
    second = build(changed)
    assert [a.digest == b.digest for a, b in zip(first, second, strict=True)] == [True] * 5 + [False]
    assert (store.folder / "interpreters").exists()


def test_a_damaged_layer_is_written_again(build, locked, store):
    first = build(locked)
    path = store.path(first[4].digest)
    path.chmod(0o644)
    path.write_bytes(b"x" * first[4].size)
    assert build(locked) == first
    assert store.check(first[4].digest)
    store.path(first[2].listing).unlink()
    assert build(locked) == first
    assert store.has(first[2].listing)


def test_owners(build, locked, make_wheel, fetcher):
    two = fetcher.add(*make_wheel("two", {"both.py": b"different\n"}, version="3.0"))
    clash = dataclasses.replace(locked, wheels=(locked.wheels[0], two))
    with pytest.raises(AfenvError, match=r"E401.*both\.py \(one and two\)"):
        build(clash)
    decided = dataclasses.replace(clash, owners={"both.py": "two"})
    layers = build(decided)
    paths = [
        {entry.path for entry in read_listing(ContentStore(store_of(build)), layer.listing)}
        for layer in layers
    ]
    assert [f"{SITE}/both.py" in found for found in paths] == [False] * 5 + [True]


def store_of(build):
    (found,) = [
        cell.cell_contents for cell in build.__closure__ if isinstance(cell.cell_contents, ContentStore)
    ]
    return found.folder


def test_debian_packages_that_share_a_path(build, locked, make_deb, fetcher):
    def with_debs(*debs):
        return dataclasses.replace(locked, debs=(*locked.debs, *debs))

    a = fetcher.add(*make_deb("a", [("./usr/share/x", "file", b"a")]))
    b = fetcher.add(*make_deb("b", [("./usr/share/x", "file", b"b")]))
    with pytest.raises(AfenvError, match="E401"):
        build(with_debs(a, b))
    build(with_debs(a, dataclasses.replace(b, control={"Replaces": "a"})))
    with pytest.raises(AfenvError, match=r"E401.*hidden"):
        build(with_debs(dataclasses.replace(a, control={"Replaces": "b"}), b))


def test_code_has_its_own_time(build, locked, store, tmp_path):
    from afenv.layers.codetree import git_tree, read_folder

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "run.py").write_bytes(b"print(1)\n")
    hash_of, swhid = git_tree(read_folder(tmp_path / "code"))
    code = [LockedCode(into="/analysis", tree=hash_of, swhid=swhid, folder="code")]
    layers = build(locked, code, mtime=1234)
    assert layers[-1].source == "code:/analysis"
    assert tree(layers[-1:], store)["analysis/run.py"] == (b"print(1)\n", 1234)
    later = build(locked, code, mtime=1235)
    assert [a.digest == b.digest for a, b in zip(layers, later, strict=True)] == [True] * 6 + [False]


def test_a_failure_stops_the_others_and_keeps_what_is_finished(build, locked, make_wheel, fetcher, store):
    broken = make_wheel("zz", {"a.bin": bytes(range(256)) * 100})
    data = bytearray(broken[1].read_bytes())
    data[100] ^= 1
    broken[1].write_bytes(data)
    bad = make_wheel.lock("zz", "1.0", broken[1])
    fetcher.add(bad, broken[1])
    with pytest.raises(AfenvError, match="E303"):
        build(dataclasses.replace(locked, wheels=(*locked.wheels, bad)))
    assert list((store.folder / "tmp").iterdir()) == []
    assert [thread for thread in threading.enumerate() if thread.name.startswith(("layer", "compile"))] == []
    assert len(build(locked)) == 6


def test_an_interruption_leaves_nothing_behind(build, locked, store, monkeypatch):
    class Interrupting:
        def __init__(self, real):
            self.real = real

        def __call__(self, *arguments):
            raise KeyboardInterrupt

    monkeypatch.setattr(write_job, "_collect", Interrupting(write_job._collect))
    with pytest.raises(KeyboardInterrupt):
        build(locked)
    assert list((store.folder / "tmp").iterdir()) == []
    monkeypatch.undo()
    assert len(build(locked)) == 6


def test_an_interpreter_of_another_architecture(build, locked, make_deb, fetcher):
    debs = interpreter_debs(make_deb, fetcher, loader=b"\x7fELF another architecture")
    with pytest.raises(AfenvError, match="E404"):
        build(dataclasses.replace(locked, debs=tuple(debs)))


def test_the_interpreter_is_checked_before_it_is_used_again(locked, fetcher, store):
    identity = interpreter_id(locked.debs, f"{MINOR}.0")
    first = prepare_interpreter(locked.debs, fetcher.paths, f"{MINOR}.0", store)
    assert first.id == identity
    folder = store.folder / "interpreters" / identity[7:]
    loader = folder / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.write_bytes(b"something else")
    assert prepare_interpreter(locked.debs, fetcher.paths, f"{MINOR}.0", store) == first
    assert loader.read_bytes() == LOADER
    (folder / "more").write_bytes(b"")
    prepare_interpreter(locked.debs, fetcher.paths, f"{MINOR}.0", store)
    assert not (folder / "more").exists()


def test_what_a_key_depends_on(locked):
    planned = plan_layers(locked, [])
    options = {"mtime": 1, "lost": {}, "interpreter": "sha256:1"}

    def keys(environment=locked, **changes):
        return [layer_key(layer, environment, **(options | changes)) for layer in planned]

    base = keys()
    assert len(set(base)) == len(base)
    assert keys(mtime=2) == base
    changed = [a == b for a, b in zip(base, keys(lost={"two": frozenset({"x"})}), strict=True)]
    assert changed == [True] * 5 + [False]
    changed = [a == b for a, b in zip(base, keys(interpreter=None), strict=True)]
    assert changed == [False] * 3 + [True] + [False] * 2
    renamed = dataclasses.replace(locked, request="sha256:" + "1" * 64, as_of="2027-01-01T00:00:00Z")
    assert keys(renamed) == base


def test_the_key_names_the_compressor():
    assert write.COMPRESSION == (gzip_members.COMPRESSOR, gzip_members.LEVEL)
