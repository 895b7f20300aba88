"""Repositories that are wrong, and strata that misbehave: one clear error each."""

from __future__ import annotations

from datetime import timedelta

import pytest

from afenv.cvmfs.hashes import parse_hash
from afenv.errors import AfenvError

TREE = {"/a/file": b"content" * 100, "/a/b/inner": b"inner", "/large": b"x" * 200_000}


ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    "SELECT x AS name, x AS hash, x AS revision, x AS timestamp, x AS description FROM n"
)


def refused(call, code, *words):
    with pytest.raises(AfenvError) as error:
        call()
    assert error.value.code == code, str(error.value)
    message = error.value.problems[0].message
    for word in words:
        assert word in message
    return error.value


def newest(open_made, maker, **options):
    return lambda: open_made(maker, **options).newest()


def test_signed_by_another_key_than_that_of_the_certificate(maker, open_made):
    maker.publish(TREE)
    maker.sign(maker.roots[-1], 1, signer="other")
    refused(newest(open_made, maker), "E314", "not signed by the key of its certificate")


def test_text_that_was_changed_after_it_was_signed(maker, open_made):
    maker.publish(TREE)
    path = maker.folder / ".cvmfspublished"
    path.write_bytes(path.read_bytes().replace(b"\nS1\n", b"\nS9\n"))
    refused(newest(open_made, maker), "E314", "digest")


def test_no_signature_at_all(maker, open_made):
    maker.publish(TREE)
    path = maker.folder / ".cvmfspublished"
    path.write_bytes(path.read_bytes().partition(b"--\n")[0])
    refused(newest(open_made, maker), "E314", "no signature")


def test_whitelist_of_another_master_key(maker, open_made):
    maker.publish(TREE)
    maker.whitelist(signer="other")
    refused(newest(open_made, maker), "E314", "master key")


def test_documents_of_another_repository(maker, open_made):
    maker.publish(TREE)
    maker.whitelist(name="other.afenv.test")
    refused(newest(open_made, maker), "E314", "other.afenv.test")
    maker.sign(maker.roots[-1], 1, name="other.afenv.test")
    refused(newest(open_made, maker), "E314", "other.afenv.test")


def test_whitelist_that_has_expired(cvmfs, maker, open_made):
    maker.publish(TREE)
    assert newest(open_made, maker)().revision == 1
    later = maker.expiry + timedelta(seconds=1)
    refused(newest(open_made, maker, now=later), "E315", "expired on 2026-12-31")


def test_the_real_whitelist_expires_as_well(cvmfs, real_cvmfs, store, settings):
    from datetime import UTC, datetime

    from afenv.cvmfs.configuration import Configuration
    from afenv.cvmfs.repository import Repository

    name = "sft.afenv.test"
    configuration = Configuration(strata=((real_cvmfs / name).as_uri(),), keys=(cvmfs.DATA / f"{name}.pub",))
    after = Repository(
        name, configuration, store, settings, now=datetime(2046, 11, 17, 21, 44, 3, tzinfo=UTC)
    )
    refused(after.newest, "E315", "2046-11-17")


def test_certificate_that_the_whitelist_does_not_allow(maker, open_made):
    maker.publish(TREE)
    maker.whitelist(allowed="other")
    refused(newest(open_made, maker), "E316", "not in the repository's whitelist")


def test_certificate_that_was_not_valid(cvmfs, maker, open_made):
    maker.time = int((cvmfs.NOW - timedelta(days=700)).timestamp())
    maker.publish(TREE)
    refused(newest(open_made, maker), "E316", "published on 2024-12-31")


def test_time_that_no_calendar_has(maker, open_made):
    maker.time = 10**17
    maker.publish(TREE)
    refused(newest(open_made, maker), "E313", "time")


def test_certificate_of_another_form(maker, open_made, monkeypatch):
    import base64
    import ssl

    encoded = ssl.PEM_cert_to_DER_cert(maker.certificate("release", maker.expiry).decode())
    later = encoded.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)  # its version
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(later) + b"-----END CERTIFICATE-----\n"
    whole = maker.certificate
    monkeypatch.setattr(maker, "certificate", lambda *_: text)
    monkeypatch.setattr(maker, "whitelist", lambda: None)
    maker.publish(TREE)
    monkeypatch.undo()
    assert maker.certificate == whole
    maker.whitelist()
    refused(newest(open_made, maker), "E316", "not a certificate")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tags SET revision = 'x'",
        "UPDATE tags SET timestamp = NULL",
        f"UPDATE tags SET timestamp = {10**17}",
        "UPDATE tags SET timestamp = -1",
        "UPDATE tags SET hash = x'00'",
        "DROP TABLE tags",
        f"DROP TABLE tags; CREATE VIEW tags AS {ENDLESS}",
    ],
)
def test_tag_history_that_is_odd(maker, open_made, change):
    maker.edit_history = lambda database: database.executescript(change)
    maker.publish(TREE, tag="LCG_106")
    refused(lambda: open_made(maker).state(tag="LCG_106"), "E313")


def test_no_key(maker, open_made, tmp_path):
    maker.publish(TREE)
    refused(newest(open_made, maker, keys=()), "E144", "no public master key")
    refused(newest(open_made, maker, keys=(tmp_path / "absent.pub",)), "E144", "No such file")
    (tmp_path / "bad.pub").write_text("nothing")
    refused(newest(open_made, maker, keys=(tmp_path / "bad.pub",)), "E314", "PEM")


def test_no_such_repository(maker, open_made, tmp_path):
    maker.publish(TREE)
    error = refused(lambda: open_made(maker, (tmp_path / "none").as_uri()).newest(), "E140")
    assert "AFENV_CVMFS_STRATA" in error.problems[0].as_json()["remedy"]


def test_tag_that_is_not_there(maker, open_made):
    maker.publish(TREE, tag="LCG_106")
    repository = open_made(maker)
    refused(lambda: repository.state(tag="LCG_107"), "E141", "no tag 'LCG_107'", "mean 'LCG_106'")


def test_root_hash_of_zeros():
    refused(lambda: parse_hash("0" * 40), "E141", "pins no revision")
    refused(lambda: parse_hash("0" * 40 + "-shake128"), "E141")
    refused(lambda: parse_hash("1" * 39), "E313")


def test_root_hash_of_no_revision(maker, open_made):
    maker.publish(TREE)
    refused(lambda: open_made(maker).at(parse_hash("1" * 40)).find("/a"), "E140")


def test_stratum_that_serves_an_older_revision(maker, open_made):
    maker.publish(TREE)
    repository = open_made(maker)
    assert repository.newest(at_least=1).revision == 1
    refused(lambda: repository.newest(at_least=2), "E312", "revision 1", "2 was seen")


def test_stratum_that_is_behind_is_passed_over(cvmfs, maker, open_made, http_server):
    maker.publish(TREE)
    _serve(http_server, maker, "/old")
    maker.publish(TREE | {"/new": b"new"})
    _serve(http_server, maker, "/new")
    urls = [f"{http_server.url}/{at}/{maker.name}" for at in ("old", "new")]
    assert open_made(maker, *urls).newest(at_least=2).revision == 2


def _serve(server, maker, at):
    for path in maker.folder.rglob("*"):
        if path.is_file():
            server.put(f"{at}/{maker.name}/{path.relative_to(maker.folder)}", path.read_bytes())


def test_stratum_that_stalls(maker, open_made, http_server, fault):
    maker.publish(TREE)
    _serve(http_server, maker, "")
    path = f"/{maker.name}/.cvmfspublished"
    http_server.put(path, http_server.contents[path], *[fault.stall(20)] * 9)
    stratum = f"{http_server.url}/{maker.name}"
    refused(lambda: open_made(maker, stratum, timeout=0.2).newest(), "E143", "no byte came for 0.2 s")


def test_stratum_that_denies(maker, open_made, http_server, fault):
    maker.publish(TREE)
    _serve(http_server, maker, "")
    path = f"/{maker.name}/.cvmfspublished"
    http_server.put(path, b"", *[fault.status(403)] * 9)
    refused(lambda: open_made(maker, f"{http_server.url}/{maker.name}").newest(), "E143", "403")


def _file_object(maker, content):
    return maker.object(maker.put(content))


def test_object_that_is_truncated(maker, open_made):
    root = parse_hash(maker.publish(TREE))
    path = _file_object(maker, TREE["/a/file"])
    path.write_bytes(path.read_bytes()[:-3])
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/a/file")), "E310", "/cvmfs/made.afenv.test/a/file")


def test_object_with_other_content(maker, open_made):
    root = parse_hash(maker.publish(TREE))
    path = _file_object(maker, TREE["/a/file"])
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/a/file")), "E310", "another digest")


def test_object_that_is_no_zlib_stream(maker, open_made):
    import hashlib

    stored = maker.put(b"not compressed", compressed=False)
    assert stored == hashlib.sha1(b"not compressed").hexdigest()

    def lie(database, prefix):
        database.execute(
            "UPDATE catalog SET hash = ?, size = 14 WHERE name = 'file'", (bytes.fromhex(stored),)
        )

    root = parse_hash(maker.publish(TREE, edit=lie))
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/a/file")), "E310", "damaged")


@pytest.mark.parametrize("size", [699, 701, 0])
def test_catalogue_that_lies_about_a_size(maker, open_made, size):
    def lie(database, prefix):
        database.execute("UPDATE catalog SET size = ? WHERE name = 'file'", (size,))

    root = parse_hash(maker.publish(TREE, edit=lie))
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/a/file")), "E311", f"{size} bytes")


def test_catalogue_that_lies_about_a_digest(maker, open_made):
    def lie(database, prefix):
        database.execute("UPDATE catalog SET hash = ? WHERE name = 'file'", (bytes(range(20)),))

    root = parse_hash(maker.publish(TREE, edit=lie))
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/a/file")), "E140")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chunks SET offset = offset + 1 WHERE offset > 0",
        "UPDATE catalog SET size = size + 1 WHERE name = 'large'",
        "DELETE FROM chunks WHERE offset > 0",
        "UPDATE chunks SET size = -1 WHERE offset = 0",
    ],
)
def test_parts_that_do_not_make_up_the_file(maker, open_made, change):
    root = parse_hash(maker.publish(TREE, edit=lambda database, prefix: database.execute(change)))
    snapshot = open_made(maker).at(root)
    refused(lambda: snapshot.content(snapshot.find("/large")), "E311", "/large")


def test_size_of_a_nested_catalogue(maker, open_made):
    root = parse_hash(maker.publish(TREE, nested=("/a",), sizes={"/a": 100}))
    refused(lambda: list(open_made(maker).at(root).walk("")), "E311", "/a", "100 bytes")


def _malformed(maker, open_made, change, **options):
    root = parse_hash(
        maker.publish(TREE, edit=lambda database, prefix: database.executescript(change), **options)
    )
    snapshot = open_made(maker).at(root)
    return refused(lambda: list(snapshot.walk("")), "E313")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE catalog SET name = '..' WHERE name = 'file'",
        "UPDATE catalog SET name = '../../escape' WHERE name = 'file'",
        "UPDATE catalog SET name = 'a' || char(0) WHERE name = 'file'",
        "UPDATE catalog SET hash = x'0102' WHERE name = 'file'",
        "UPDATE catalog SET flags = 4 | (7 << 8) WHERE name = 'file'",
        "UPDATE catalog SET size = -1 WHERE name = 'file'",
        "UPDATE catalog SET mode = NULL WHERE name = 'file'",
        "UPDATE catalog SET flags = 3 WHERE name = 'a'",  # a nested catalogue that nobody names
        "DROP TABLE chunks",
        "DROP TABLE chunks; CREATE VIEW chunks AS SELECT 1",
        "UPDATE properties SET value = '9.9' WHERE key = 'schema'",
        "INSERT INTO nested_catalogs VALUES ('/../../etc', '" + "1" * 40 + "', 1)",
        "INSERT INTO nested_catalogs VALUES ('', '" + "1" * 40 + "', 1)",
        "INSERT INTO nested_catalogs VALUES ('/a', 'no digest', 1)",
    ],
)
def test_catalogue_that_breaks_the_rules(maker, open_made, change):
    _malformed(maker, open_made, change)


def test_catalogue_that_is_no_database(maker, open_made):
    stored = maker.put(b"SQLite format 3\0" + b"x" * 5000, "C")
    refused(lambda: open_made(maker).at(parse_hash(stored)).find("/a"), "E313", "SQLite")


def test_databases_whose_damage_is_no_utf_8(maker, open_made, monkeypatch):
    whole = maker.put

    def damage(data, kind="", **options):
        if kind in ("C", "H"):
            data = data.replace(b"CREATE TABLE", b"CREATE \xff\xfeBLE")
        return whole(data, kind, **options)

    monkeypatch.setattr(maker, "put", damage)
    root = parse_hash(maker.publish(TREE, tag="LCG_106"))
    refused(lambda: open_made(maker).at(root).find("/a"), "E313", "SQLite")
    refused(lambda: open_made(maker).state(tag="LCG_106"), "E313", "malformed")


def test_catalogue_that_nests_another_folder_again(maker, open_made):
    """The catalogue of /a in the place of that of /a/b: what would be a loop."""
    maker.publish(TREE, nested=("/a",))
    (inner, size) = _nested_of(maker)

    def loop(database, prefix):
        if prefix == "/a":
            database.execute("UPDATE catalog SET flags = flags | 2 WHERE name = 'b'")
            database.execute("INSERT INTO nested_catalogs VALUES ('/a/b', ?, ?)", (inner, size))

    root = parse_hash(maker.publish(TREE, nested=("/a",), edit=loop))
    error = refused(lambda: list(open_made(maker).at(root).walk("")), "E313")
    assert "it is that of /a, in the place of that of /a/b" in error.problems[0].message


def _nested_of(maker):
    import sqlite3
    import zlib

    data = zlib.decompress(maker.object(maker.roots[-1], "C").read_bytes())
    path = maker.folder.parent / "look.db"
    path.write_bytes(data)
    database = sqlite3.connect(path)
    try:
        return database.execute("SELECT sha1, size FROM nested_catalogs").fetchone()
    finally:
        database.close()


def test_folders_that_hold_each_other(maker, open_made):
    """Rows whose parents name each other are not reached, and nothing goes on for ever."""
    change = (
        "UPDATE catalog SET (parent_1, parent_2) = "
        "(SELECT md5path_1, md5path_2 FROM catalog WHERE name = 'b') WHERE name = 'a'"
    )
    root = parse_hash(maker.publish(TREE, edit=lambda database, prefix: database.execute(change)))
    found = [entry.path for entry in open_made(maker).at(root).walk("")]
    assert found == ["/large"]


def test_links_in_a_long_chain_and_in_circles(maker, open_made):
    links = {f"/l{number}": f"l{number + 1}" for number in range(60)}
    snapshot = open_made(maker).at(parse_hash(maker.publish({**links, "/l60": b"", "/x": "y", "/y": "x"})))
    refused(lambda: snapshot.resolve("/l0"), "E142", "circles")
    refused(lambda: snapshot.resolve("/x"), "E142", "circles")
    assert snapshot.resolve("/l30").path == "/l60"


@pytest.mark.parametrize("path", ["/cvmfs/other.afenv.test/a", "/cvmfs/made.afenv.test/../x", "/etc/passwd"])
def test_path_of_another_repository(maker, open_made, path):
    snapshot = open_made(maker).at(parse_hash(maker.publish(TREE)))
    refused(lambda: snapshot.inside(path), "E142", "not in made.afenv.test")


def test_content_that_is_kept_elsewhere(maker, open_made):
    snapshot = open_made(maker).at(parse_hash(maker.publish({"/far": ("external", 5)})))
    refused(lambda: snapshot.content(snapshot.find("/far")), "E145", "/far")
