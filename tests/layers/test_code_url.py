"""URLs of repositories and submodules, and git's configuration format, against git where it is here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.layers.code_config import parse_config
from afenv.layers.code_submodules import submodule_url
from afenv.layers.code_url import absolute_url, host_of, is_local, local_path, split_user, without_credentials

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


@pytest.mark.parametrize(
    ("url", "local", "host"),
    [
        ("https://example.org/a.git", False, "example.org"),
        ("https://me:x@Example.org:8443/a.git", False, "example.org"),
        ("ssh://git@example.org:2222/a", False, "example.org"),
        ("git@example.org:group/a.git", False, "example.org"),
        ("example.org:a.git", False, "example.org"),
        ("/srv/a.git", True, ""),
        ("../a.git", True, ""),
        ("./x:y", True, ""),
        ("file:///srv/a.git", True, ""),
    ],
)
def test_kinds(url: str, local: bool, host: str) -> None:
    assert (is_local(url), host_of(url)) == (local, host)


def test_paths() -> None:
    assert local_path("file:///srv/a%20b.git") == Path("/srv/a b.git")
    assert local_path("https://example.org/a") is None
    assert absolute_url("../a.git", Path("/x/y")) == "/x/a.git"
    assert absolute_url("https://example.org/a", Path("/x")) == "https://example.org/a"


def test_users() -> None:
    assert split_user("https://me:p%40ss@example.org:8443/a") == ("https://example.org:8443/a", "me", "p@ss")
    assert split_user("ssh://git:x@example.org/a") == ("ssh://git@example.org/a", "git", "x")
    assert split_user("git@example.org:a") == ("git@example.org:a", None, None)
    assert (
        without_credentials("cannot reach https://me:x@example.org/a") == "cannot reach https://example.org/a"
    )


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://example.org/g/a.git", "../b.git", "https://example.org/g/b.git"),
        ("https://example.org/g/a.git/", "../../h/b", "https://example.org/h/b"),
        ("https://example.org/g/a.git", "./sub", "https://example.org/g/a.git/sub"),
        ("https://example.org/g/a.git", "./../b/", "https://example.org/g/b"),
        ("https://example.org/a.git", "../../b", None),
        ("ssh://git@example.org:22/a.git", "../b", "ssh://git@example.org:22/b"),
        ("git@example.org:g/a.git", "../b", "git@example.org:g/b"),
        ("git@example.org:a.git", "../b", "git@example.org:b"),
        ("git@example.org:a.git", "../../b", None),
        ("/srv/a.git", "../b", "/srv/b"),
        ("/srv/a.git", "../../../b", None),
        ("/srv/x:y.git", "../b", "/srv/b"),
        ("file:///srv/a", "../b", "file:///srv/b"),
    ],
)
def test_relative_urls(parent: str, url: str, expected: str | None) -> None:
    sections = {b"lib": {"url": url}}
    if expected is None:
        with pytest.raises(AfenvError):
            submodule_url(b"lib", sections, parent, "x")
    else:
        assert submodule_url(b"lib", sections, parent, "x") == expected


def test_configuration() -> None:
    text = (
        '# comment\n[submodule "a \\"b\\""] path = x ; comment\n\turl = "a;b" # more\n\tName=  v  w \n'
        '\tflag\n[Other]\nlong = one \\\n  two\ntab = a\\tb\n[submodule "a \\"b\\""]\npath = y\n'
    )
    assert parse_config(text.encode()) == {
        ("submodule", 'a "b"'): {"path": "y", "url": "a;b", "name": "v  w", "flag": "true"},
        ("other", ""): {"long": "one   two", "tab": "a\tb"},
    }


@pytest.mark.parametrize("text", ["[a", "x = 1", "[a]\n= 1", "[a]\nx = \\q", '[a]\nx = "open', "[a]\nx y"])
def test_malformed_configuration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_config(text.encode())


_value = st.text(alphabet=' ab"\\#;n', max_size=8)


@needs_git
def test_values_as_git_reads_them(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    path = tmp_path / "config"

    @settings(max_examples=60, deadline=None)
    @given(st.lists(_value, min_size=1, max_size=3))
    def compare(values: list[str]) -> None:
        text = "[s]\n" + "".join(f"k{number} = {value}\n" for number, value in enumerate(values))
        path.write_text(text)
        done = subprocess.run(
            ["git", "config", "-z", "--list", "--file", path],
            env=environment,
            capture_output=True,
            check=False,
        )
        try:
            ours = parse_config(text.encode()).get(("s", ""), {})
        except ValueError:
            assert done.returncode != 0, text
            return
        assert done.returncode == 0, (text, done.stderr)
        lines = [line for line in done.stdout.decode().split("\0") if line]
        theirs = dict(line.removeprefix("s.").split("\n", 1) for line in lines)
        assert ours == theirs, text

    compare()
