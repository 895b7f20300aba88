"""What the real repositories do not have: RIPEMD-160, hard links, failover, proxies, the cache."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from afenv.cvmfs.configuration import configure
from afenv.cvmfs.hashes import hash_of, hashing, parse_hash
from afenv.cvmfs.ripemd160 import Ripemd160
from afenv.errors import AfenvError

TREE = {
    "/a/one": b"1" * 1000,
    "/a/two": ("hard", b"linked", 7),
    "/a/three": ("hard", b"linked", 7),
    "/a/b/deep": b"deep",
    "/a/b/c/deeper": b"deeper",
    "/large": os.urandom(1000) * 200,
    "/link": "a/b",
    "/absolute": "/cvmfs/made.afenv.test/a/b/deep",
}


@pytest.mark.parametrize(
    ("data", "digest"),
    [  # of the authors' page of test vectors
        (b"", "9c1185a5c5e9fc54612808977ee8f548b2258d31"),
        (b"abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        (b"1234567890" * 8, "9b752e45573d4b39f4dbd3323cab82bf63326bfb"),
    ],
)
def test_ripemd160_of_our_own(data, digest, monkeypatch):
    made = Ripemd160()
    for start in range(0, len(data), 7):
        made.update(data[start : start + 7])
    assert made.hexdigest() == digest
    monkeypatch.setattr("afenv.cvmfs.hashes._has_ripemd", lambda: False)
    assert isinstance(hashing("rmd160"), Ripemd160)
    assert hash_of("rmd160", data) == digest


@pytest.mark.parametrize("algorithm", ["sha1", "rmd160", "shake128"])
@pytest.mark.parametrize("compressed", [True, False])
def test_every_digest_and_both_forms_of_content(cvmfs, tmp_path, open_made, algorithm, compressed):
    maker = cvmfs.CvmfsMaker(tmp_path / "stratum", algorithm=algorithm, compressed=compressed)
    root = maker.publish(TREE, nested=("/a", "/a/b/c"), tag="first")
    repository = open_made(maker)
    state = repository.state(tag="first")
    assert str(state.root) == root
    snapshot = repository.at(state.root)
    found = {entry.path: entry for entry in snapshot.walk("")}
    assert set(TREE) <= set(found)
    assert found["/large"].chunked and len(snapshot.objects(found["/large"])) == 4
    for path, content in TREE.items():
        if isinstance(content, bytes):
            assert b"".join(snapshot.read(found[path])) == content
    assert snapshot.content(found["/large"]).sha256 == hashlib.sha256(TREE["/large"]).hexdigest()
    assert found["/a/two"].group == found["/a/three"].group == 7
    assert found["/a/one"].group == 0
    assert snapshot.resolve("/link/c/deeper").path == "/a/b/c/deeper"
    assert snapshot.resolve("/absolute").links == ("/absolute",)
    assert [entry.path for entry in snapshot.children("/a/b")] == ["/a/b/c", "/a/b/deep"]


def test_threads_that_ask_at_once_get_their_own_answers(cvmfs, tmp_path, open_made):
    maker = cvmfs.CvmfsMaker(tmp_path / "stratum")
    maker.chunk = 64
    tree = {f"/{number}": bytes([number]) * (65 + number) for number in range(100)}
    maker.publish(tree)
    repository = open_made(maker)
    snapshot = repository.at(repository.newest().root)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(snapshot.find, list(tree) * 20))
        objects = list(pool.map(snapshot.objects, found))
    assert [entry.path for entry in found] == list(tree) * 20
    sizes = [sum(size for _, _, size in parts) for parts in objects]
    assert sizes == [len(content) for content in tree.values()] * 20


def test_a_stratum_that_fails_is_passed_over(maker, open_made, http_server, fault):
    maker.publish(TREE)
    for path in maker.folder.rglob("*"):
        if path.is_file():
            http_server.put(f"/good/{maker.name}/{path.relative_to(maker.folder)}", path.read_bytes())
    bad = f"{http_server.url}/bad/{maker.name}"
    for name in (".cvmfspublished", ".cvmfswhitelist"):
        http_server.put(f"/bad/{maker.name}/{name}", b"", *[fault.status(503)] * 5)
    repository = open_made(maker, bad, f"{http_server.url}/good/{maker.name}")
    snapshot = repository.at(repository.newest().root)
    entry = snapshot.find("/a/one")
    assert b"".join(snapshot.read(entry)) == TREE["/a/one"]
    assert http_server.count(f"/bad/{maker.name}/.cvmfspublished") == 1
    asked = [path for path, _ in http_server.requests if path.startswith("/bad")]
    assert len(asked) <= 2  # what did well is asked first from then on; before, for the certificate too


def test_a_damaged_copy_is_had_elsewhere(maker, open_made, http_server, fault):
    maker.publish(TREE)
    for at in ("one", "two"):
        for path in maker.folder.rglob("*"):
            if path.is_file():
                http_server.put(f"/{at}/{maker.name}/{path.relative_to(maker.folder)}", path.read_bytes())
    wanted = cvmfs_object(maker, TREE["/a/one"])
    path = f"/one/{maker.name}/{wanted}"
    http_server.put(path, http_server.contents[path], fault.wrong())
    repository = open_made(maker, *(f"{http_server.url}/{at}/{maker.name}" for at in ("one", "two")))
    snapshot = repository.at(repository.newest().root)
    assert b"".join(snapshot.read(snapshot.find("/a/one"))) == TREE["/a/one"]
    assert http_server.count(path) == 1
    assert http_server.count(f"/two/{maker.name}/{wanted}") == 1


def cvmfs_object(maker, content):
    """Where the object of a file's content is below the repository."""
    return maker.object(maker.put(content)).relative_to(maker.folder).as_posix()


def test_through_the_first_proxy_that_works(maker, open_made, http_server):
    maker.publish(TREE)
    stratum = f"http://stratum.example.org/cvmfs/{maker.name}"
    for path in maker.folder.rglob("*"):
        if path.is_file():  # a proxy is asked for whole URLs
            http_server.put(f"{stratum}/{path.relative_to(maker.folder)}", path.read_bytes())
    repository = open_made(maker, stratum, proxies=("http://127.0.0.1:9", http_server.url))
    snapshot = repository.at(repository.newest().root)
    assert b"".join(snapshot.read(snapshot.find("/a/one"))) == TREE["/a/one"]
    assert all(path.startswith("http://stratum.example.org/") for path, _ in http_server.requests)


def test_offline_has_what_was_read_before(maker, open_made, store, settings, http_server):
    from afenv.cvmfs.configuration import Configuration
    from afenv.cvmfs.repository import Repository
    from afenv.record import replace

    root = parse_hash(maker.publish(TREE))
    for path in maker.folder.rglob("*"):
        if path.is_file():
            http_server.put(f"/{maker.name}/{path.relative_to(maker.folder)}", path.read_bytes())
    snapshot = open_made(maker, f"{http_server.url}/{maker.name}").at(root)
    for entry in snapshot.walk(""):
        if entry.path == "/a/one":
            snapshot.content(entry)
    offline = Repository(
        maker.name,
        Configuration(strata=("http://stratum.example.org/cvmfs/made.afenv.test",)),
        store,
        replace(settings, offline=True),
    )
    again = offline.at(root)
    assert b"".join(again.read(again.find("/a/one"))) == TREE["/a/one"]
    with pytest.raises(AfenvError) as error:
        again.content(again.find("/large"))
    assert error.value.code == "E203"


def test_settings_of_the_host(tmp_path):
    client = tmp_path / "etc"
    (client / "keys" / "cern.ch").mkdir(parents=True)
    for name in ("one.pub", "two.pub"):
        (client / "keys" / "cern.ch" / name).write_bytes(b"")
    (client / "domain.d").mkdir()
    (client / "default.local").write_text('CVMFS_HTTP_PROXY="http://p1:3128|p2:3128;DIRECT"\n')
    (client / "domain.d" / "cern.ch.conf").write_text(
        '# a comment\nCVMFS_SERVER_URL="http://s1.example.org/cvmfs/@fqrn@;http://s2.example.org/@org@/@fqrn@"\n'
        "CVMFS_KEYS_DIR=$CVMFS_NOT_UNDERSTOOD\n"
    )
    found = configure("sft.cern.ch", {}, client=client)
    assert found.strata == (
        "http://s1.example.org/cvmfs/sft.cern.ch",
        "http://s2.example.org/sft/sft.cern.ch",
    )
    assert found.proxies == ("http://p1:3128", "http://p2:3128", "DIRECT")
    assert [path.name for path in found.keys] == ["one.pub", "two.pub"]
    ours = {
        "AFENV_CVMFS_STRATA": f"{tmp_path}/mirror",
        "AFENV_CVMFS_KEYS": str(client / "keys"),
        "AFENV_CVMFS_PROXIES": "DIRECT",
        "AFENV_CVMFS_TIMEOUT": "3",
    }
    found = configure("sft.cern.ch", ours, client=client)
    assert found.strata == ((tmp_path / "mirror" / "sft.cern.ch").as_uri(),)
    assert (found.proxies, found.timeout, len(found.keys)) == (("DIRECT",), 3.0, 2)
    told = configure(
        "a.b", {}, client=tmp_path, mount={"host_list": "http://h1/cvmfs/a.b;http://h2/cvmfs/a.b"}
    )
    assert told.strata == ("http://h1/cvmfs/a.b", "http://h2/cvmfs/a.b")
    for environment, code in (({}, "E140"), (ours | {"AFENV_CVMFS_TIMEOUT": "soon"}, "E030")):
        with pytest.raises(AfenvError) as error:
            configure("sft.cern.ch", environment, client=tmp_path / "none")
        assert error.value.code == code


def test_extended_attributes_of_a_mount(tmp_path):
    from afenv.cvmfs.mounted import attributes, mounted

    folder = tmp_path / "sft.afenv.test"
    folder.mkdir()
    assert mounted(attributes("sft.afenv.test", tmp_path)) is None
    try:
        os.setxattr(folder, "user.root_hash", b"d69e4785f9886e58e6a6eab3233e6a24bfa44336")
        os.setxattr(folder, "user.revision", b"3\0")
    except OSError:
        pytest.skip("this file system keeps no extended attributes")
    found = mounted(attributes("sft.afenv.test", tmp_path))
    assert found is not None
    assert (found.root_hash, found.revision) == ("d69e4785f9886e58e6a6eab3233e6a24bfa44336", 3)
