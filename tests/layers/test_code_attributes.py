"""Git attributes against ``git check-attr`` and ``git archive``."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afenv.layers.code_attributes import Attributes, attributes_of, only, parse

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git")


def found(text: str, path: str, is_folder: bool = False) -> dict[bytes, object]:
    return dict(attributes_of(path.encode(), is_folder, [parse(text.encode())]))


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.root", "a.root", True),
        ("*.root", "deep/down/a.root", True),
        ("/*.root", "deep/a.root", False),
        ("docs", "docs", True),
        ("docs", "docs/x", False),  # a folder's attribute is not that of its files
        ("docs/", "docs", False),  # for folders only
        ("docs/*", "docs/x", True),
        ("docs/*", "docs/x/y", False),
        ("docs/**", "docs/x/y", True),
        ("docs/**", "docs", False),
        ("**/x", "a/b/x", True),
        ("**/x", "x", True),
        ("a/**/x", "a/x", True),
        ("a/**/x", "a/b/c/x", True),
        ("a**x", "a1/x", False),
        ("?.txt", "a.txt", True),
        ("[a-c]?", "b1", True),
        ("[!a-c]?", "b1", False),
        ("[[:digit:]]x", "7x", True),
        ("[]-]x", "-x", True),
        ("[b-a]x", "ax", False),
        ("[a", "[a", True),
        ("\\*x", "*x", True),
        ("\\*x", "ax", False),
        ('"a b"', "a b", True),
        ('"\\303\\251"', "é", True),
        ("!x", "x", False),
        ("a*b*c*d", "a1b2c3d", True),
        ("a*b*c*d", "a1b2c3", False),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:
    assert (found(f"{pattern} export-ignore\n", path).get(b"export-ignore") is True) == fits


def test_folders() -> None:
    assert found("docs/ export-ignore", "a/docs", is_folder=True) == {b"export-ignore": True}


def test_values_and_precedence() -> None:
    top = parse(b"* a b=1 -c\n*.x !a b=2\n[attr]mine a -c\n*.y mine\n*.z binary\n# * a\n\n* \n")
    below = parse(b"*.x a=low\n[attr]mine b\n", b"sub/")

    def of(path: bytes) -> dict[bytes, object]:
        return dict(attributes_of(path, False, [top, below] if path.startswith(b"sub/") else [top]))

    assert of(b"q") == {b"a": True, b"b": b"1", b"c": False}
    assert of(b"q.x") == {b"a": None, b"b": b"2", b"c": False}
    assert of(b"sub/q.x") == {b"a": b"low", b"b": b"2", b"c": False}
    assert of(b"sub/q.y") == {b"mine": True, b"a": True, b"c": False, b"b": b"1"}
    assert of(b"q.z")[b"text"] is False
    kept = only(top, frozenset([b"b"]))
    assert len(kept.rules) == 3  # that of b twice, and that of the macro
    assert isinstance(kept, Attributes)


def test_no_pattern_takes_long() -> None:
    """Stars that would have to be tried in all ways, were they not."""
    assert found("*a" * 40 + "b x\n", "a" * 250) == {}
    assert found("**/a/" * 20 + "b x\n", "/".join(["a"] * 90)) == {}


class Git:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.call("init", "-q")

    def call(self, *arguments: str, data: bytes | None = None) -> bytes:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
        }  # fmt: skip
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=environment, input=data, check=True, capture_output=True
        )
        return done.stdout


# Two stars beside other signs mean nothing in gitignore(5), and git takes them in more than one way.
_word = st.text(alphabet="ab*?", min_size=1, max_size=3).filter(lambda word: "**" not in word)
_pattern = st.builds(
    lambda lead, parts, tail: lead + "/".join(parts) + tail,
    st.sampled_from(["", "/", "**/"]),
    st.lists(
        st.one_of(_word, st.sampled_from(["**", "***", "[ab]", "[!a]", "a[a-b]"])), min_size=1, max_size=3
    ),
    st.sampled_from(["", "/", "/**", "/*"]),
)
_rule = st.tuples(_pattern, st.sampled_from(["x", "-x", "!x", "x=1", "m", "-m", "x m"])).map(" ".join)
_paths = ["a", "b", "ab", "a/b", "a/a/b", "ab/ba/a", "b/aa", "a/b/", "b/"]


@needs_git
def test_all_patterns_as_git_has_them(tmp_path: Path) -> None:
    git = Git(tmp_path)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(_rule, min_size=1, max_size=5), st.lists(_rule, max_size=3))
    def compare(top: list[str], below: list[str]) -> None:
        texts = ["[attr]m x=m\n" + "\n".join(top) + "\n", "\n".join(below) + "\n"]
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / ".gitattributes").write_text(texts[0])
        (tmp_path / "a" / ".gitattributes").write_text(texts[1])
        answer = git.call("check-attr", "-z", "--stdin", "x", data="".join(p + "\0" for p in _paths).encode())
        words = answer.decode().split("\0")
        theirs = {words[at]: words[at + 2] for at in range(0, len(words) - 1, 3)}
        for path in _paths:
            chain = [parse(texts[0].encode())]
            if path.startswith("a/") and path != "a/":
                chain.append(parse(texts[1].encode(), b"a/"))
            value = attributes_of(path.rstrip("/").encode(), path.endswith("/"), chain).get(b"x")
            ours = {None: "unspecified", True: "set", False: "unset"}.get(value)  # type: ignore[arg-type]
            assert (ours or bytes(value).decode()) == theirs[path], (path, texts)  # type: ignore[arg-type]

    compare()


@needs_git
def test_what_is_left_out_as_git_archive_does(tmp_path: Path) -> None:
    from afenv.layers.code_checkout import open_checkout, read_head
    from afenv.layers.code_read import How
    from afenv.settings import Settings
    from afenv.store.content import ContentStore

    work = tmp_path / "work"
    work.mkdir()
    git = Git(work)
    files = {
        ".gitattributes": "/docs export-ignore\n*.tmp export-ignore\n.gitattributes export-ignore\n"
        "keep.tmp -export-ignore\ntests/ export-ignore\n",
        "docs/a/b": "1", "sub/docs/a": "2", "x.tmp": "3", "sub/keep.tmp": "4", "tests/t": "5",
        "sub/tests/t": "6", "sub/.gitattributes": "docs/* export-ignore\n", "only/y.tmp": "7", "run": "8",
    }  # fmt: skip
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git.call("add", "-A")
    git.call("commit", "-qm", "1")
    with tarfile.open(fileobj=io.BytesIO(git.call("archive", "--format=tar", "HEAD"))) as archive:
        theirs = sorted(member.name for member in archive if member.isfile())
    checkout = open_checkout(work)
    assert checkout is not None
    how = How(store=ContentStore(tmp_path / "cache"), settings=Settings(cache_folder=tmp_path / "cache"))
    reading = read_head(*checkout, how)
    assert reading is not None
    assert [file.path.decode() for file in reading.files] == theirs == ["run", "sub/keep.tmp"]
    assert reading.exported
