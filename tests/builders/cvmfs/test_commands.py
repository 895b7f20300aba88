"""The command lines of cvmfs_server: exact, and that what they are made of can do no harm."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv_builders.cvmfs import commands


def test_the_exact_words():
    assert commands.transaction("sw.example.org") == ["transaction", "sw.example.org"]
    assert commands.publish("sw.example.org", "afenv: a.b/c:1") == [
        *("publish", "-m", "afenv: a.b/c:1", "sw.example.org")
    ]
    assert commands.abort("sw.example.org") == ["abort", "-f", "sw.example.org"]
    assert commands.ingest("sw.example.org") == ["ingest", "-t", "-", "-b", "/", "sw.example.org"]
    assert commands.delete("sw.example.org", [".flat/ab/c", ".layers/ab/d"]) == [
        *("ingest", "--delete", ".flat/ab/c", "--delete", ".layers/ab/d", "sw.example.org")
    ]


def test_a_colon_would_part_two_paths():
    with pytest.raises(AssertionError):
        commands.delete("sw.example.org", ["localhost/x:1"])


def test_the_command_may_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CVMFS_SERVER", "sudo -n 'my server'")
    assert commands.server() == ["sudo", "-n", "my server"]
    monkeypatch.setenv("AFENV_CVMFS_SERVER", "'")
    with pytest.raises(AfenvError, match="AFENV_CVMFS_SERVER"):
        commands.server()
    monkeypatch.delenv("AFENV_CVMFS_SERVER")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AfenvError) as caught:
        commands.server()
    assert caught.value.code == "E535"
    program = tmp_path / "cvmfs_server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert commands.server() == [str(program)]


def test_a_command_that_cannot_be_started(monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CVMFS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(AfenvError) as caught:
        commands.call(["abort"])
    assert caught.value.code == "E535"


def test_a_large_stream_goes_through_a_small_pipe(monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CVMFS_SERVER", f"sh -c 'cat >{tmp_path}/out; echo one; echo two >&2' sh")
    pieces = (memoryview(bytes([count % 251]) * (1 + count * 7 % 90_000)) for count in range(300))
    done = commands.call(["ingest"], pieces)
    assert (done.status, done.words) == (0, "one two")
    expected = b"".join(bytes([count % 251]) * (1 + count * 7 % 90_000) for count in range(300))
    assert (tmp_path / "out").read_bytes() == expected


def test_a_reader_that_goes_away(monkeypatch):
    monkeypatch.setenv("AFENV_CVMFS_SERVER", "sh -c 'echo gone; exit 5' sh")
    done = commands.call(["ingest"], (memoryview(bytes(1 << 20)) for _ in range(50)))
    assert (done.status, done.words) == (5, "gone")


def test_a_stream_that_cannot_be_made_ends_in_what_is_no_tar(monkeypatch, tmp_path):
    monkeypatch.setenv("AFENV_CVMFS_SERVER", f"sh -c 'cat >{tmp_path}/out' sh")

    def pieces():
        yield memoryview(bytes(512))
        raise AfenvError("E510", "damaged")

    with pytest.raises(AfenvError, match="damaged"):
        commands.call(["ingest"], pieces())
    assert (tmp_path / "out").read_bytes().endswith(b"\xff" * 512)
