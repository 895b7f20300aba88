"""``afenv cvmfs`` on a repository that the server's tools made."""

from __future__ import annotations

import json

import pytest

from afenv.cli import main

VIEW = "/cvmfs/sft.afenv.test/lcg/views/LCG_999/x86_64-el9-gcc13-opt"


@pytest.fixture
def host(real_cvmfs, cvmfs, tmp_path, monkeypatch):
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AFENV_CVMFS_STRATA", str(real_cvmfs))
    monkeypatch.setenv("AFENV_CVMFS_KEYS", str(cvmfs.DATA))


def test_info(host, capsys):
    assert main(["cvmfs", "info", "sft.afenv.test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["revision"], found["root-hash"]) == (3, "d69e4785f9886e58e6a6eab3233e6a24bfa44336")
    assert {"v1", "v2"} <= {tag["name"] for tag in found["tags"]}
    assert main(["cvmfs", "info", VIEW]) == 0
    assert "revision 3 of 2026-" in capsys.readouterr().out


def test_ls_and_get(host, capsys, tmp_path):
    assert main(["cvmfs", "ls", f"{VIEW}/bin"]) == 0
    assert "bin/hello -> /cvmfs/sft.afenv.test/lcg/releases/hello" in capsys.readouterr().out
    assert main(["cvmfs", "ls", "sft.afenv.test", "--json", "--tag", "v1"]) == 0
    names = [entry["path"] for entry in json.loads(capsys.readouterr().out)]
    assert "/cvmfs/sft.afenv.test/new-in-2" not in names
    assert "/cvmfs/sft.afenv.test/lcg" in names
    assert main(["cvmfs", "get", f"{VIEW}/share/hello.txt", "-o", str(tmp_path / "got")]) == 0
    assert (tmp_path / "got").read_bytes() == b"hello\n"


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["ls", f"{VIEW}/nothing"], "E142", 2),
        (["ls", "sft.afenv.test", "--tag", "v9"], "E141", 2),
        (["ls", "sft.afenv.test", "--root-hash", "0" * 40], "E141", 2),
        (["info", "other.afenv.test"], "E140", 4),
        (["get", VIEW], "E142", 2),
        (["info", "a/b"], "E142", 2),
    ],
)
def test_errors_are_one_sentence(host, capsys, arguments, code, status):
    assert main(["cvmfs", *arguments]) == status
    said = capsys.readouterr().err
    assert f"error {code}: " in said
    assert len(said.splitlines()) == 2
