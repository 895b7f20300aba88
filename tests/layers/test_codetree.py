"""Tree hashes against git's own, and what a tree must not hold."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pygit2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.codetree import EXECUTABLE, REGULAR, SYMLINK, CodeFile


def file(path: bytes | str, data: bytes = b"x", mode: int = REGULAR) -> CodeFile:
    return CodeFile(path.encode() if isinstance(path, str) else path, mode, lambda: data)


def code_of(call: object, *arguments: object) -> str:
    with pytest.raises(AfenvError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_known_hashes() -> None:
    """The empty tree and a blob as git documents them, and a directory as its SWHID."""
    assert codetree.git_tree([]) == (
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "swh:1:dir:4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    )
    assert codetree.object_hash("blob", b"hello\n").hex() == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_folders_sort_as_if_they_ended_in_a_slash(tmp_path: Path) -> None:
    files = [file(name) for name in ("a.b", "a/c", "a0", "a-", "b/x/y", "b/x.y")]
    repository = pygit2.init_repository(tmp_path)
    index = pygit2.Index()
    for item in files:
        index.add(pygit2.IndexEntry(item.path.decode(), repository.create_blob(item.data), 0o100644))
    assert codetree.git_tree(files)[0] == str(index.write_tree(repository))


names = st.text(alphabet="ab.-0é", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.tuples(st.binary(max_size=9), st.sampled_from([REGULAR, EXECUTABLE]))))
def test_every_tree_has_gits_hash(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, tuple[bytes, int]]
) -> None:
    kept = {p: v for p, v in tree.items() if not any(q.startswith(p + "/") for q in tree)}
    repository = pygit2.init_repository(tmp_path_factory.getbasetemp() / "oracle", bare=True)
    index = pygit2.Index()
    for path, (data, mode) in kept.items():
        index.add(pygit2.IndexEntry(path, repository.create_blob(data), mode))
    found = codetree.git_tree(file(path, data, mode) for path, (data, mode) in kept.items())[0]
    assert found == str(index.write_tree(repository))


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_hash_of_a_folder_is_that_of_git_write_tree(tmp_path: Path) -> None:
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    (tmp_path / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "sub" / "run.sh").chmod(0o750)
    (tmp_path / "sub" / "link").symlink_to("../top")
    (tmp_path / "top").write_bytes(b"\xff\x00")
    (tmp_path / "top").chmod(0o600)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).write_text("latin")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    files = codetree.read_folder(tmp_path)
    assert [item.path for item in files] == [b"caf\xe9", b"sub/link", b"sub/run.sh", b"top"]
    assert codetree.git_tree(files)[0] == git("write-tree")


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", ".git/config", "a/.GIT/x"]
)
def test_unsafe_paths(path: str) -> None:
    assert code_of(codetree.git_tree, [file(path)]) == "E111"


def test_paths_that_no_file_system_holds() -> None:
    assert code_of(codetree.git_tree, [file("n" * 256)]) == "E111"
    assert code_of(codetree.git_tree, [file("d/" * 100 + "f")]) == "E111"
    assert code_of(codetree.git_tree, [file("/".join(["n" * 200] * 21))]) == "E111"
    codetree.git_tree([file("n" * 255), file("d/" * 99 + "f")])


def test_names_that_linux_holds() -> None:
    """Control characters, and names that differ in case alone, are names as others are."""
    codetree.git_tree([file("Icon\r"), file("a\nb"), file("\x1b[31m"), file("README"), file("readme")])


@pytest.mark.parametrize("target", ["b", "../b", "b/", "/etc/passwd", "..", "../../x"])
def test_links_are_content(target: str) -> None:
    codetree.git_tree([file("a/link", target.encode(), SYMLINK)])


@pytest.mark.parametrize("target", [b"", b"a\0b", b"n" * 4096])
def test_links_that_no_file_system_holds(target: bytes) -> None:
    assert code_of(codetree.git_tree, [file("link", target, SYMLINK)]) == "E111"


def test_two_files_at_one_path() -> None:
    assert code_of(codetree.git_tree, [file("a"), file("a")]) == "E111"
    assert code_of(codetree.git_tree, [file("a"), file("a/b")]) == "E111"
    assert code_of(codetree.git_tree, [file("a/b"), file("a")]) == "E111"


def test_a_folder_is_read_without_git_and_afenv(tmp_path: Path) -> None:
    for name in (".git/config", "afenv.lock", ".afenv/x", "afenv.yaml", "sub/afenv.lock", "sub/.gitignore"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [item.path for item in codetree.read_folder(tmp_path)] == [
        b"sub/.gitignore",
        b"sub/afenv.lock",
    ]


def test_what_is_neither_file_nor_link_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert code_of(codetree.read_folder, tmp_path) == "E111"


def test_a_repository_inside_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    assert code_of(codetree.read_folder, tmp_path) == "E016"


def test_content_is_verified_before_and_while_it_is_handed_out() -> None:
    tree = codetree.git_tree([file("a", b"1"), file("b", b"2")])[0]
    assert [data for _, data in codetree.verify_tree([file("b", b"2"), file("a", b"1")], tree)] == [
        b"1",
        b"2",
    ]
    assert code_of(list, codetree.verify_tree([file("a", b"1"), file("b", b"3")], tree)) == "E301"
    contents = iter([b"1", b"changed"])
    moving = CodeFile(b"a", REGULAR, lambda: next(contents))
    single = codetree.git_tree([file("a", b"1")])[0]
    assert code_of(list, codetree.verify_tree([moving], single)) == "E301"
