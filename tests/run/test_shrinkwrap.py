"""cvmfs_shrinkwrap: exact command lines and files, and a program in its place for what it gets wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afenv.cvmfs.catalogue import Entry
from afenv.errors import AfenvError
from afenv.run import shrinkwrap
from afenv.run.shrinkwrap import Source, command, configuration, specification

ENTRIES = {
    "/a": Entry("/a", "d", 0o755, 0, 7),
    "/a/file": Entry("/a/file", "f", 0o644, 5, 7),
    "/a/link": Entry("/a/link", "l", 0o777, 0, 7, "file"),
}
SOURCE = Source(
    repository="sft.cern.ch",
    root_hash="d69e4785f9886e58e6a6eab3233e6a24bfa44336",
    strata=("http://one.example.org/cvmfs/sft.cern.ch", "http://two.example.org/cvmfs/sft.cern.ch"),
    proxies=("http://proxy.example.org:3128", "DIRECT"),
    keys=(Path("/etc/cvmfs/keys/cern.ch/a.pub"), Path("/etc/cvmfs/keys/cern.ch/b.pub")),
)
STAND_IN = """#!/bin/sh
# what is given is noted; then what the real program would leave
printf '%s\\n' "$@" > "$0.words"
while [ $# -gt 1 ]; do [ "$1" = --dest-base ] && base=$2; [ "$1" = -r ] && name=$2; shift; done
FAULT
mkdir -p "$base/$name/a" && printf hello > "$base/$name/a/file" && ln -s file "$base/$name/a/link"
"""


def test_the_command_line():
    words = command(("cvmfs_shrinkwrap",), "sft.cern.ch", Path("/c"), Path("/s"), Path("/d"), 4)
    assert words == (
        "cvmfs_shrinkwrap",
        *("-r", "sft.cern.ch", "-f", "/c", "-t", "/s", "--dest-base", "/d", "-j", "4"),
    )


def test_the_specification_names_files_and_links_exactly():
    assert specification(ENTRIES) == "/a/file\n/a/link\n"
    for name in ("/a/*", "/a/#x", "/a/!x", "/a/^x", "/a/x\ny", "/a/x "):
        with pytest.raises(AfenvError) as error:
            specification({name: Entry(name, "f", 0o644, 0, 0)})
        assert error.value.code == "E145"


def test_the_settings():
    assert configuration(SOURCE, Path("/cache")) == (
        "CVMFS_REPOSITORIES=sft.cern.ch\n"
        "CVMFS_REPOSITORY_NAME=sft.cern.ch\n"
        "CVMFS_SERVER_URL='http://one.example.org/cvmfs/sft.cern.ch;http://two.example.org/cvmfs/sft.cern.ch'\n"
        "CVMFS_HTTP_PROXY='http://proxy.example.org:3128;DIRECT'\n"
        "CVMFS_PUBLIC_KEY=/etc/cvmfs/keys/cern.ch/a.pub:/etc/cvmfs/keys/cern.ch/b.pub\n"
        "CVMFS_KEYS_DIR=/etc/cvmfs/keys/cern.ch\n"
        "CVMFS_ROOT_HASH=d69e4785f9886e58e6a6eab3233e6a24bfa44336\n"
        "CVMFS_CACHE_BASE=/cache\n"
        "CVMFS_SHARED_CACHE=no\n"
    )


def _stand_in(tmp_path, fault=""):
    program = tmp_path / "cvmfs_shrinkwrap"
    program.write_text(STAND_IN.replace("FAULT", fault))
    program.chmod(0o755)
    return program


def test_a_copy(tmp_path):
    program = _stand_in(tmp_path)
    base = shrinkwrap.shrinkwrap((str(program),), SOURCE, ENTRIES, tmp_path / "target", jobs=2)
    assert base == tmp_path / "target" / "sft.cern.ch"
    words = Path(f"{program}.words").read_text().split("\n")
    assert words[:2] == ["-r", "sft.cern.ch"]
    assert Path(words[words.index("-t") + 1]).read_text() == "/a/file\n/a/link\n"
    for path in ("a/file", "a/link"):
        assert os.lstat(base / path).st_atime == 0


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("echo bad luck >&2; exit 3", "E149", "exit status 3: bad luck"),
        ("exit 0", "E317", "left /a out"),
        ('mkdir -p "$base/$name/a"; : > "$base/$name/a/file"; exit 0', "E317", "wrote 0 bytes of /a/file"),
        ('mkdir -p "$base/$name/a"; printf hello > "$base/$name/a/file"; exit 0', "E317", "left /a/link out"),
    ],
)
def test_what_it_gets_wrong(tmp_path, fault, code, words):
    program = _stand_in(tmp_path, fault)
    with pytest.raises(AfenvError) as error:
        shrinkwrap.shrinkwrap((str(program),), SOURCE, ENTRIES, tmp_path / "target", jobs=2)
    assert (error.value.code, words in str(error.value)) == (code, True)


def test_which_program(monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CVMFS_SHRINKWRAP", "sudo cvmfs_shrinkwrap")
    assert shrinkwrap.find() == ("sudo", "cvmfs_shrinkwrap")
    monkeypatch.setenv("AFENV_CVMFS_SHRINKWRAP", "")
    assert shrinkwrap.find() == ()
    monkeypatch.delenv("AFENV_CVMFS_SHRINKWRAP")
    monkeypatch.setenv("PATH", str(_stand_in(tmp_path).parent))
    assert shrinkwrap.find() == (str(tmp_path / "cvmfs_shrinkwrap"),)
    with pytest.raises(AfenvError) as error:
        shrinkwrap.shrinkwrap((str(tmp_path / "none"),), SOURCE, ENTRIES, tmp_path / "t", jobs=1)
    assert error.value.code == "E149"
