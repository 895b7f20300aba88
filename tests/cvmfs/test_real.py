"""The repositories that the server's tools made, held to what the real client showed of them."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from afenv.cvmfs.configuration import Configuration
from afenv.cvmfs.repository import Repository


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # or each answer waits for an acknowledgement

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def stratum(real_cvmfs):
    """The folder, served over HTTP as a stratum serves it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=real_cvmfs))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def real(stratum, cvmfs, store, settings):
    def open_(name, **changes):
        values = {"strata": (f"{stratum}/{name}",), "keys": (cvmfs.DATA / f"{name}.pub",)} | changes
        return Repository(name, Configuration(**values), store, settings, now=cvmfs.NOW)

    return open_


def _shown(entry, snapshot):
    """An entry in the words of the expected values."""
    kinds = {"d": "directory", "f": "file", "l": "symlink"}
    found = {"type": kinds[entry.kind]}
    if entry.kind == "l":
        return found | {"target": entry.target}
    found |= {"mode": oct(entry.mode), "mtime": entry.mtime}
    if entry.kind == "f":
        content = hashlib.sha256()
        for piece in snapshot.read(entry):
            content.update(piece)
        found |= {
            "size": entry.size,
            "sha256": content.hexdigest(),
            "cvmfs_hash": str(entry.hash) if entry.hash else None,
            "chunks": str(len(snapshot.objects(entry))),
            "compression": "zlib" if entry.compressed else "none",
        }
    return found


def test_everything_is_as_the_client_shows_it(real, real_name, cvmfs):
    expected = cvmfs.expected(real_name)
    repository = real(real_name)
    published = repository.newest()
    assert str(published.root) == expected["xattrs"]["root_hash"]
    assert str(published.revision) == expected["xattrs"]["revision"]
    snapshot = repository.at(published.root)
    found = {entry.path[1:]: _shown(entry, snapshot) for entry in snapshot.walk("")}
    wanted = {}
    for path, entry in expected["entries"].items():
        keys = {"symlink": ("type", "target")}.get(entry["type"])
        wanted[path] = {key: entry[key] for key in keys} if keys else entry
    assert len(found) > 300
    assert sorted(found) == sorted(wanted)
    assert found == wanted


def test_tags_are_those_of_the_server(real, real_name, cvmfs):
    lines = (cvmfs.DATA / f"{real_name}.tags.txt").read_text().splitlines()
    wanted = {tuple(line.split()[i] for i in (0, 1, 3, 4)) for line in lines}
    repository = real(real_name)
    found = {
        (tag.name, str(tag.root), str(tag.revision), str(tag.timestamp))
        for tag in repository.tags(repository.newest())
    }
    assert {one for one in wanted if not one[0].startswith("trunk")} <= found


def test_an_older_tag_has_the_files_of_then(real):
    repository = real("sft.afenv.test")
    old, new = repository.state(tag="v1"), repository.state(tag="v2")
    assert (old.revision, new.revision) == (2, 3)
    assert str(old.root) == "bef29cca1ce214d1d222de16ce4caf1a7b9a83fd"
    before = {entry.path for entry in repository.at(old.root).walk("")}
    after = {entry.path for entry in repository.at(new.root).walk("")}
    assert "/new-in-2" in after - before
    assert before - after  # files that were removed since


def test_what_was_read_once_is_not_asked_for_again(real, stratum):
    repository = real("sft.afenv.test")
    root = repository.newest().root
    first = list(repository.at(root).walk("/lcg"))
    elsewhere = real("sft.afenv.test", strata=("http://127.0.0.1:9/sft.afenv.test",))
    assert list(elsewhere.at(root).walk("/lcg")) == first


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/links/relative", "/empty"),
        ("/links/absolute", "/empty"),
        ("/lcg/views/LCG_999/x86_64-el9-gcc13-opt/bin/../bin/./hello",
         "/lcg/releases/hello/2.12-ab12c/x86_64-el9-gcc13-opt/bin/hello"),
    ],
)  # fmt: skip
def test_links_are_followed(real, path, leads):
    repository = real("sft.afenv.test")
    assert repository.at(repository.newest().root).resolve(path).path == leads


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/links/loop", "circles"),
        ("/links/dangling", "missing"),
        ("/links/escape", "out of the repository"),
        ("/links/variant", "nothing"),
        ("/links/variant-default", "to /tmp"),
        ("/nowhere", "there is no /cvmfs/sft.afenv.test/nowhere"),
        ("/../../etc/passwd", "out of the repository"),
    ],
)
def test_links_that_lead_astray(real, path, says):
    from afenv.errors import AfenvError

    repository = real("sft.afenv.test")
    with pytest.raises(AfenvError) as error:
        repository.at(repository.newest().root).resolve(path)
    assert error.value.code == "E142"
    assert says in error.value.problems[0].message
