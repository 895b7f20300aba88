"""Debian packages into a layer."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest
from isal import igzip

from afenv.errors import AfenvError
from afenv.layers.deb import deb_conflicts, merged_path, write_debs
from afenv.layers.deb_facts import load_facts, read_facts
from afenv.layers.listing import ListingEntry
from afenv.layers.model import PACKAGE_MTIME
from afenv.layers.writer import LayerWriter


class Blob:
    """A blob in memory."""

    def __init__(self):
        self.data = b""

    @property
    def size(self):
        return len(self.data)

    def write(self, data):
        self.data += bytes(data)
        return len(data)

    def digest(self):
        return ""


def layer_of(*packages, **options):
    """The members of the layer that packages become, by path."""
    blob = Blob()
    writer = LayerWriter(blob, mtime=PACKAGE_MTIME)
    write_debs([deb for deb, _ in packages], [path for _, path in packages], writer, **options)
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(igzip.decompress(blob.data))) as tar:
        result = {}
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            result[info.name] = (info, file.read() if file else b"")
        return result


@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("bin/sh", "usr/bin/sh"),
        ("lib", "usr/lib"),
        ("lib64/ld.so", "usr/lib64/ld.so"),
        ("lib32/x", "usr/lib32/x"),
        ("library/x", "library/x"),
        ("usr/bin/sh", "usr/bin/sh"),
        ("var/run/x", "run/x"),
        ("var/lock", "run/lock"),
        ("var/lib/x", "var/lib/x"),
        ("var", "var"),
        ("", ""),
    ],
)
def test_merged_paths(path, merged):
    assert merged_path(path) == merged


def test_files_move_below_usr_with_their_hard_links(make_deb):
    members = layer_of(
        make_deb(
            "sample",
            [
                ("./", "directory", None),
                ("./bin/", "directory", None),
                ("./bin/tool", "file 6755", b"tool"),
                ("./bin/other", "hardlink", "./bin/tool"),
                ("./bin/link", "symlink", "/lib/x"),
                ("./lib64", "symlink", "usr/lib64"),
                ("./var/run/sample/", "directory 1777", None),
            ],
        )
    )
    info, data = members["usr/bin/tool"]
    assert (data, info.mode, info.uid, info.gid, info.mtime) == (b"tool", 0o755, 0, 0, PACKAGE_MTIME)
    assert members["usr/bin/other"][0].linkname == "usr/bin/tool"
    assert members["usr/bin/link"][0].linkname == "/lib/x"
    assert members["lib64"][0].linkname == "usr/lib64"
    assert members["run/sample"][0].mode == 0o1777
    assert not any(name == "bin" or name.startswith("bin/") for name in members)


def test_the_database_of_dpkg(make_deb):
    package = make_deb(
        "sample",
        [("./", "directory", None), ("./lib/", "directory", None), ("./lib/a", "file", b"a")],
        control={"md5sums": "0cc175b9c0f1b6a831c399e269772661  lib/a\n", "postinst": "#!/bin/sh\n"},
        **{"Multi-Arch": "same"},
    )
    members = layer_of(package)
    folder = "var/lib/dpkg/info/sample:amd64"
    assert members[f"{folder}.list"][1] == b"/.\n/lib\n/lib/a\n"
    assert members[f"{folder}.md5sums"][1].endswith(b"lib/a\n")
    assert members[f"{folder}.postinst"][0].mode == 0o755
    assert f"{folder}.control" not in members


class Compiler:
    """Says what it was given."""

    def __init__(self):
        self.seen = []

    def compile(self, key, sources):
        self.seen.append((key, list(sources)))
        return {f"{path}c": b"code" for path, _ in sources}


def test_modules_get_bytecode(make_deb):
    package = make_deb(
        "sample",
        [
            ("./usr/lib/python3/dist-packages/b.py", "file", b"b = 1"),
            ("./usr/lib/python3/dist-packages/big.py", "file", b"#" * (3 << 20)),
            ("./usr/lib/python3/dist-packages/data.txt", "file", b""),
            ("./usr/share/sample/c.py", "file", b"c = 1"),
        ],
    )
    compiler = Compiler()
    members = layer_of(package, compiler=compiler)
    [(key, sources)] = compiler.seen
    assert package[0].file.sha256 in key
    assert [path.rpartition("/")[2] for path, _ in sources] == ["b.py", "big.py"]
    assert members["usr/lib/python3/dist-packages/b.pyc"][1] == b"code"
    assert len(members["usr/lib/python3/dist-packages/big.py"][1]) == 3 << 20


def test_an_archive_that_is_another_package_is_refused(make_deb):
    deb, path = make_deb("sample")
    with pytest.raises(AfenvError) as error:
        layer_of((replace(deb, version="2.0"), path))
    assert error.value.code == "E303"
    assert "sample 1.0 amd64" in str(error.value)


@pytest.mark.parametrize(
    "members",
    [
        [("./a", "hardlink", "./b")],
        [("./a", "file", b"1"), ("./a", "file", b"2")],
        [("./bin/a", "file", b"1"), ("./usr/bin/a", "file", b"2")],
    ],
)
def test_contradictions_in_a_package_are_refused(make_deb, members):
    with pytest.raises(AfenvError) as error:
        layer_of(make_deb("sample", members))
    assert error.value.code in ("E303", "E401")


def test_nothing_is_kept_of_a_package_with_a_wrong_digest(make_deb, store):
    deb, path = make_deb("sample", [("./a", "file", b"1")])
    wrong = replace(deb, file=replace(deb.file, sha256="0" * 64))
    with pytest.raises(AfenvError) as error:
        layer_of((wrong, path), store=store)
    assert error.value.code == "E301"
    assert not (store.folder / "keys").exists()


def test_facts_are_the_same_from_the_store_and_from_the_archive(make_deb, store):
    deb, path = make_deb(
        "sample",
        [
            ("./etc/x.conf", "file", b"content"),
            ("./etc/skel/.profile", "file", b"\xff\x00skeleton"),
            ("./usr/lib/l", "symlink", "ü"),
            ("./usr/lib/ü\udcff", "file", b""),
            ("./usr/lib/h", "hardlink", "./etc/x.conf"),
        ],
        control={
            "conffiles": "/etc/x.conf\n/etc/absent\nremove-on-upgrade /etc/old\n",
            "postinst": "#!/bin/sh\nupdate-alternatives --install /a b /c 1\n",
            "prerm": "#!/bin/sh\n",
            "triggers": "interest-noawait /usr/share/x\n",
        },
    )
    layer_of((deb, path), store=store)
    [kept] = load_facts([deb], {}, store)
    assert kept == read_facts(path, deb)
    assert kept.conffiles == (("/etc/x.conf", "9a0364b9e99bb480dd25e1f0284c8555"),)
    assert kept.kept["etc/skel/.profile"] == b"\xff\x00skeleton"
    assert kept.links == {"usr/lib/l": "ü"}
    assert set(kept.scripts) == {"postinst"}
    with pytest.raises(AfenvError) as error:
        list(load_facts([deb], {}, None))
    assert error.value.code == "E305"


def file(path, crc32=1):
    return ListingEntry(path, "f", 0o644, 1, crc32)


def test_equal_files_and_folders_may_be_shared(make_deb):
    listings = {
        "one": [file("usr/x"), ListingEntry("usr", "d", 0o755)],
        "two": [file("usr/x"), ListingEntry("usr", "d", 0o700)],
    }
    assert deb_conflicts(listings, [make_deb("one")[0], make_deb("two")[0]]) == ()


@pytest.mark.parametrize("reverse", [False, True])
def test_the_package_that_replaces_wins(make_deb, reverse):
    one = make_deb("one")[0]
    two = replace(make_deb("two")[0], control={"Replaces": "zero, one (<< 2)"})
    listings = {"one": [file("usr/x", 1)], "two": [file("usr/x", 2)]}
    if reverse:
        listings = dict(reversed(listings.items()))
    [found] = deb_conflicts(listings, [one, two])
    assert (found.path, found.loser, found.winner) == ("usr/x", "one", "two")


def test_two_owners_are_refused_with_all_their_paths(make_deb):
    listings = {"one": [file("a", 1), file("b", 1)], "two": [file("a", 2), ListingEntry("b", "d", 0o755)]}
    with pytest.raises(AfenvError) as error:
        deb_conflicts(listings, [make_deb("one")[0], make_deb("two")[0]])
    assert [problem.code for problem in error.value.problems] == ["E401", "E401"]
