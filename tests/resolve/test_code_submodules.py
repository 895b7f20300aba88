"""Submodules, from URLs and in the checkout at hand, against trees that libgit2 makes of the same files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pygit2
import pytest

from afenv.documents.lock import LockedCode
from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers.code import code_files
from afenv.resolve import code_fingerprint
from afenv.resolve.code import resolve_code, resolve_code_cached
from afenv.settings import Settings
from afenv.store.content import ContentStore

HERE = CodeSource(folder=".")
New = Callable[..., Any]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_folder=tmp_path / "cache")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore(settings.cache_folder)


def modules(*lines: str, **urls: str) -> str:
    parts = [f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in urls.items()]
    return "".join(parts) + "\n".join(lines)


def fails(code: str, call: Callable[[], object]) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        call()
    assert caught.value.code == code, str(caught.value)
    return caught.value


@pytest.fixture
def nested(new_repository: New) -> Mapping[str, Any]:
    """``a`` holds ``b`` as ``lib``, which holds ``c`` as ``deep/inner``; all URLs are relative."""
    c = new_repository("served/group/c.git")
    inner = c.commit({"x": "c", "run.sh": ("run", "#!")})
    b = new_repository("served/group/b.git")
    gitmodules = modules('[submodule "in"]', "path = deep/inner", "url = ./../c.git", "")
    lib = b.commit({".gitmodules": gitmodules, "y": "b", "deep/inner": ("submodule", inner)})
    a = new_repository("served/a.git")
    top = {".gitmodules": modules(lib="../group/b.git"), "z": "a"}
    commit = a.commit({**top, "lib": ("submodule", lib)})
    b.commit({"y": "newer"})
    whole = {
        **top,
        "lib/.gitmodules": gitmodules,
        "lib/y": "b",
        "lib/deep/inner/x": "c",
        "lib/deep/inner/run.sh": ("run", "#!"),
    }
    return {"a": a, "b": b, "c": c, "commit": commit, "lib": lib, "inner": inner, "whole": whole}


@pytest.mark.parametrize("kind", ["file", "path", "mirror"])
def test_submodules_are_part_of_the_tree(
    kind: str, nested: Mapping[str, Any], tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    served = tmp_path / "served"
    url = {"file": served.as_uri(), "path": str(served), "mirror": "https://example.org"}[kind] + "/a.git"
    if kind == "mirror":
        settings = replace(settings, mirrors=(("https://example.org/", served.as_uri() + "/"),))
    source = CodeSource(git=url, rev="main")
    locked = resolve_code(source, tmp_path, store, settings)
    assert locked.tree == nested["a"].tree_of(nested["whole"])
    assert locked.swhid == f"swh:1:dir:{locked.tree}"
    assert (locked.commit, locked.revision) == (nested["commit"], f"swh:1:rev:{nested['commit']}")
    base = url.removesuffix("/a.git")
    assert [(one.path, one.commit, one.git) for one in locked.submodules] == [
        ("lib", nested["lib"], f"{base}/group/b.git"),
        ("lib/deep/inner", nested["inner"], f"{base}/group/c.git"),
    ]
    found = {file.path.decode(): bytes(data) for file, data in code_files(locked, tmp_path, store, settings)}
    assert found["lib/deep/inner/x"] == b"c"
    assert sorted(found) == sorted(nested["whole"])
    for name in ("a", "b", "c"):  # what is locked is in the cache by now
        nested[name].folder.rename(nested[name].folder.with_suffix(".away"))
    assert dict(code_files(locked, tmp_path, store, settings)).keys()


def lock(source: str, folder: Path, store: ContentStore, settings: Settings) -> LockedCode:
    return resolve_code(CodeSource(git=source, rev="main"), folder, store, settings)


@pytest.mark.parametrize(
    ("gitmodules", "said"),
    [
        (None, "no URL"),
        (modules(other="./b.git"), "no URL"),
        ('[submodule "lib"]\npath = lib\n', "no URL"),
        ('[submodule "lib"]\npath = lib\nurl = "ext::sh -c true"\n', "cannot be fetched"),
        (modules(lib="rsync://example.org/x"), "cannot be fetched"),
        (modules(lib="-u./payload"), "-u./payload"),
        ('[submodule "lib"]\npath = lib\nurl = "https://example.org/a\\nhost=other"\n', "has the URL"),
        (modules(lib="../../../../../../../../../../../../x.git"), "leads out"),
        ("[submodule", ".gitmodules"),
    ],
)
def test_submodules_that_cannot_be_resolved(
    gitmodules: str | None,
    said: str,
    new_repository: New,
    tmp_path: Path,
    store: ContentStore,
    settings: Settings,
) -> None:
    a = new_repository("a.git")
    files = {"lib": ("submodule", "1" * 40)} | ({".gitmodules": gitmodules} if gitmodules else {})
    a.commit(files)
    error = fails("E130", lambda: lock(str(a.folder), tmp_path, store, settings))
    assert said in str(error)


@pytest.mark.parametrize("url", ["/etc", "file:///home/user/private", "private"])
def test_a_remote_repository_names_no_folder_of_this_machine(
    url: str, new_repository: New, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a = new_repository("a.git")
    a.commit({".gitmodules": modules(lib=url), "lib": ("submodule", "1" * 40)})
    mirrored = replace(settings, mirrors=(("https://example.org/a.git", a.url),))
    error = fails("E130", lambda: lock("https://example.org/a.git", tmp_path, store, mirrored))
    assert "folder of this machine" in str(error)


def test_a_submodule_whose_commit_vanished(
    nested: Mapping[str, Any], new_repository: New, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a = new_repository("gone.git")
    a.commit({".gitmodules": modules(lib=nested["b"].url), "lib": ("submodule", "1" * 40)})
    error = fails("E108", lambda: lock(str(a.folder), tmp_path, store, settings))
    assert "'lib'" in str(error)


def test_a_submodule_loop(
    new_repository: New, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """Each commit holds the one before of the same repository: as deep as it has commits."""
    a = new_repository("a.git")
    commit = a.commit({"x": "1"})
    for _ in range(11):
        commit = a.commit({".gitmodules": modules(me="../a.git"), "me": ("submodule", commit)})
    error = fails("E130", lambda: lock(str(a.folder), tmp_path, store, settings))
    assert "loop" in str(error)
    fewer = resolve_code(CodeSource(git=str(a.folder), rev="main~1"), tmp_path, store, settings)
    assert len(fewer.submodules) == 10


def test_submodules_that_multiply(
    new_repository: New, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    a = new_repository("a.git")
    commit = a.commit({"x": "1"})
    for _ in range(5):
        names = [f"m{number}" for number in range(8)]
        links = dict.fromkeys(names, ("submodule", commit))
        commit = a.commit({".gitmodules": modules(**dict.fromkeys(names, "../a.git")), **links})
    error = fails("E130", lambda: lock(str(a.folder), tmp_path, store, settings))
    assert "1000 in number" in str(error)


# The checkout at hand


@pytest.fixture
def work(nested: Mapping[str, Any], new_repository: New) -> Any:
    """A checkout of ``a`` with its submodules, as git lays them out."""
    work = new_repository("work", bare=False)
    _copy(nested["a"], work, "refs/heads/main")
    _add(work, "lib", nested["b"], nested["lib"])
    _add(work, "lib/deep/inner", nested["c"], nested["inner"])
    return work


def _copy(source: Any, target: Any, ref: str) -> None:
    target.git.remotes.create("origin", source.url)
    target.git.remotes["origin"].fetch()
    target.git.references.create(ref, source.git.references[ref].target)
    target.git.checkout(ref, strategy=pygit2.enums.CheckoutStrategy.FORCE)


def _add(work: Any, path: str, source: Any, commit: str) -> None:
    inner = pygit2.clone_repository(source.url, str(work.folder / path))
    inner.checkout_tree(inner[commit], strategy=pygit2.enums.CheckoutStrategy.FORCE)
    inner.set_head(pygit2.Oid(hex=commit))


def test_a_checkout_with_submodules(
    work: Any, nested: Mapping[str, Any], store: ContentStore, settings: Settings
) -> None:
    locked = resolve_code(HERE, work.folder, store, settings)
    assert locked.tree == nested["a"].tree_of(nested["whole"])
    assert (locked.commit, locked.dirty) == (nested["commit"], False)
    assert [(one.path, one.commit, one.git) for one in locked.submodules] == [
        ("lib", nested["lib"], None),
        ("lib/deep/inner", nested["inner"], None),
    ]
    found = [file.path for file, _ in code_files(locked, work.folder, store, settings)]
    assert b"lib/deep/inner/run.sh" in found


def test_a_submodule_that_is_not_checked_out(work: Any, store: ContentStore, settings: Settings) -> None:
    inner = work.folder / "lib" / "deep" / "inner"
    inner.rename(work.folder.parent / "elsewhere")
    error = fails("E130", lambda: resolve_code(HERE, work.folder, store, settings))
    assert "inner" in str(error)
    assert "git submodule update --init --recursive" in str(error)
    inner.symlink_to(work.folder.parent / "elsewhere")
    fails("E130", lambda: resolve_code(HERE, work.folder, store, settings))


@pytest.mark.parametrize("where", ["lib/y", "lib/deep/inner/x"])
def test_changes_inside_a_submodule(
    where: str, work: Any, nested: Mapping[str, Any], store: ContentStore, settings: Settings
) -> None:
    (work.folder / where).write_text("edited")
    error = fails("E109", lambda: resolve_code(HERE, work.folder, store, settings))
    assert where in str(error)
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert dirty.tree == nested["a"].tree_of({**nested["whole"], where: "edited"})
    assert dirty.revision is None
    contents = {file.path: data for file, data in code_files(dirty, work.folder, store, settings)}
    assert contents[where.encode()] == b"edited"
    live = resolve_code(HERE, work.folder, store, settings, live=True)
    assert live.tree == nested["a"].tree_of(nested["whole"])


def test_a_submodule_at_another_commit(
    work: Any, nested: Mapping[str, Any], store: ContentStore, settings: Settings
) -> None:
    inner = pygit2.Repository(str(work.folder / "lib" / "deep" / "inner"))
    who = pygit2.Signature("A", "a@example.org", 1, 0)
    (work.folder / "lib" / "deep" / "inner" / "x").write_text("committed")
    inner.index.add("x")
    inner.index.write()
    newer = inner.create_commit("HEAD", who, who, "2", inner.index.write_tree(), [inner.head.target])
    error = fails("E109", lambda: resolve_code(HERE, work.folder, store, settings))
    assert "lib/deep/inner" in str(error)
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert dirty.tree == nested["a"].tree_of({**nested["whole"], "lib/deep/inner/x": "committed"})
    assert [one.commit for one in dirty.submodules] == [nested["lib"], str(newer)]
    assert dict(code_files(dirty, work.folder, store, settings)).keys()


def test_a_submodule_that_was_removed_or_emptied(
    work: Any, nested: Mapping[str, Any], store: ContentStore, settings: Settings
) -> None:
    """Its newer commit has no submodule of its own any more."""
    inner = pygit2.Repository(str(work.folder / "lib"))
    newer = inner.references["refs/remotes/origin/main"].target
    inner.checkout_tree(inner[newer], strategy=pygit2.enums.CheckoutStrategy.FORCE)
    inner.set_head(newer)
    dirty = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    kept = {name: nested["whole"][name] for name in (".gitmodules", "z")}
    assert dirty.tree == nested["a"].tree_of({**kept, "lib/y": "newer"})
    work.git.index.remove("lib")
    work.git.index.write()
    (work.folder / "lib").rename(work.folder.parent / "away")
    removed = resolve_code(HERE, work.folder, store, settings, allow_dirty=True)
    assert removed.tree == nested["a"].tree_of(kept)


def test_what_a_submodule_does_not_track_is_named(
    work: Any, store: ContentStore, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = resolve_code(HERE, work.folder, store, settings)
    (work.folder / "lib" / "notes").write_text("x")
    assert resolve_code(HERE, work.folder, store, settings) == clean
    assert "lib/notes" in capsys.readouterr().err


def test_a_commit_in_a_submodule_is_noticed(
    work: Any, store: ContentStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no file changes."""
    monkeypatch.setattr(code_fingerprint, "RACY", -(10**12))
    monkeypatch.setenv("HOME", str(work.folder.parent))
    first = resolve_code_cached(HERE, work.folder, store, settings)
    assert resolve_code_cached(HERE, work.folder, store, settings) == first
    inner = pygit2.Repository(str(work.folder / "lib" / "deep" / "inner"))
    who = pygit2.Signature("A", "a@example.org", 1, 0)
    inner.create_commit("HEAD", who, who, "again", inner.head.peel(pygit2.Tree).id, [inner.head.target])
    error = fails("E109", lambda: resolve_code_cached(HERE, work.folder, store, settings))
    assert "lib/deep/inner" in str(error)


def test_a_repository_that_is_no_submodule(work: Any, store: ContentStore, settings: Settings) -> None:
    other = pygit2.init_repository(str(work.folder / "other"))
    (work.folder / "other" / "x").write_text("1")
    fails("E016", lambda: resolve_code(HERE, work.folder, store, settings, allow_dirty=True))
    assert other.is_empty


def test_a_submodule_of_a_folder_below_the_top(
    work: Any, nested: Mapping[str, Any], store: ContentStore, settings: Settings
) -> None:
    a = work.folder
    (a / "sub").mkdir()
    lib = work.git
    inner = lib.index["lib"].id
    lib.index.remove("lib")
    (a / "lib").rename(a / "sub" / "lib")
    (a / ".gitmodules").write_text('[submodule "lib"]\npath = sub/lib\nurl = ../group/b.git\n')
    lib.index.add(pygit2.IndexEntry("sub/lib", inner, 0o160000))
    lib.index.add(".gitmodules")
    lib.index.write()
    who = pygit2.Signature("A", "a@example.org", 1, 0)
    lib.create_commit("HEAD", who, who, "move", lib.index.write_tree(), [lib.head.target])
    locked = resolve_code(CodeSource(folder="sub"), a, store, settings)
    whole = {name: content for name, content in nested["whole"].items() if name.startswith("lib/")}
    assert locked.tree == nested["a"].tree_of(whole)
    assert [one.path for one in locked.submodules] == ["lib", "lib/deep/inner"]
    assert os.fsencode("lib/y") in [f.path for f, _ in code_files(locked, a, store, settings)]
