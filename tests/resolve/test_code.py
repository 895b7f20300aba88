"""Code from folders, checkouts and git URLs: what is locked, when it stays, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pygit2
import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers.code import code_files
from afenv.resolve.code import resolve_code, resolve_code_cached
from afenv.settings import Settings
from afenv.store.content import ContentStore

WHEN = 1_700_000_000  # 2023-11-14T22:13:20Z
DATE = "2023-11-14T22:13:20Z"


class Checkout:
    """A git repository with a working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = pygit2.init_repository(str(folder), initial_head="main")

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, files: dict[str, str] | None = None, when: int = WHEN) -> str:
        self.write(files or {})
        index = self.repository.index
        index.add_all()
        index.write()
        who = pygit2.Signature("A", "a@example.org", when, 120)
        parents = [] if self.repository.head_is_unborn else [self.repository.head.target]
        tree = index.write_tree()
        return str(self.repository.create_commit("HEAD", who, who, "m", tree, parents))

    def tree(self, path: str = "") -> str:
        tree = self.repository.head.peel(pygit2.Tree)
        return str((tree / path if path else tree).id)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "work").mkdir()
    return Checkout(tmp_path / "work")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_folder=tmp_path / "cache")


@pytest.fixture
def store(settings: Settings) -> ContentStore:
    return ContentStore(settings.cache_folder)


HERE = CodeSource(folder=".")


def fails(code: str, call: Callable[[], object]) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def test_a_clean_checkout_is_its_commit(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    commit = checkout.commit({"select.py": "1", "sub/x": "2"})
    locked = resolve_code(HERE, checkout.folder, store, settings)
    assert locked.tree == checkout.tree()
    assert locked.swhid == f"swh:1:dir:{locked.tree}"
    assert (locked.commit, locked.date, locked.dirty) == (commit, DATE, False)
    assert (locked.folder, locked.into, locked.git) == (".", "/analysis", None)


def test_a_folder_below_the_top(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    checkout.commit({"select.py": "1", "sub/deep/x": "2"})
    checkout.write({"select.py": "changed, but outside"})
    locked = resolve_code(CodeSource(folder="sub"), checkout.folder, store, settings)
    assert locked.tree == checkout.tree("sub")
    again = resolve_code(CodeSource(folder="."), checkout.folder / "sub", store, settings)
    assert again.tree == locked.tree


def test_committing_the_lock_changes_nothing(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.commit({"select.py": "1"})
    first = resolve_code(HERE, checkout.folder, store, settings)
    checkout.write({"afenv.lock": "{}", ".afenv/note": "x"})
    assert resolve_code(HERE, checkout.folder, store, settings) == first
    checkout.commit(when=WHEN + 9)
    assert checkout.tree() != first.tree
    assert resolve_code(HERE, checkout.folder, store, settings, locked=first) == first
    fresh = resolve_code(HERE, checkout.folder, store, settings)
    assert fresh.tree == first.tree
    assert fresh.commit != first.commit


def test_files_that_git_does_not_track_are_left_out_and_named(
    checkout: Checkout, store: ContentStore, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.commit({"select.py": "1"})
    clean = resolve_code(HERE, checkout.folder, store, settings)
    assert capsys.readouterr().err == ""
    checkout.write({"results/fit.json": "{}"})
    assert resolve_code(HERE, checkout.folder, store, settings) == clean
    assert "results/fit.json" in capsys.readouterr().err
    dirty = resolve_code(HERE, checkout.folder, store, settings, allow_dirty=True)
    assert dirty.dirty
    names = [file.path for file, _ in code_files(dirty, checkout.folder, store, settings)]
    assert names == [b"results/fit.json", b"select.py"]


def test_a_folder_of_which_nothing_is_committed(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.commit({"select.py": "1"})
    checkout.write({"new/fit.py": "2"})
    source = CodeSource(folder="new")
    error = fails("E109", lambda: resolve_code(source, checkout.folder, store, settings))
    assert "fit.py" in str(error)


def test_an_edited_manifest_is_no_change_of_the_code(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.commit({"select.py": "1", "afenv.yaml": "1"})
    first = resolve_code(HERE, checkout.folder, store, settings)
    checkout.write({"afenv.yaml": "2"})
    assert resolve_code(HERE, checkout.folder, store, settings) == first
    checkout.commit(when=WHEN + 9)
    assert resolve_code(HERE, checkout.folder, store, settings, locked=first) == first


@pytest.mark.parametrize("change", ["modified", "deleted", "staged"])
def test_a_dirty_checkout(change: str, checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    checkout.commit({"select.py": "1", "other.py": "2", ".gitignore": "*.root\n"})
    checkout.write({"big.root": "ignored"})
    clean = resolve_code(HERE, checkout.folder, store, settings)
    if change == "modified":
        checkout.write({"select.py": "changed"})
    elif change == "deleted":
        (checkout.folder / "select.py").unlink()
    else:
        checkout.write({"new.py": "3"})
    if change == "staged":
        checkout.repository.index.add("new.py")
        checkout.repository.index.write()
    error = fails("E109", lambda: resolve_code(HERE, checkout.folder, store, settings))
    assert ("new.py" if change == "staged" else "select.py") in str(error)
    dirty = resolve_code(HERE, checkout.folder, store, settings, allow_dirty=True, locked=clean)
    assert dirty.dirty
    assert dirty.tree != clean.tree
    assert dirty.commit == clean.commit
    names = {file.path for file, _ in code_files(dirty, checkout.folder, store, settings)}
    assert b"big.root" not in names
    assert (b"new.py" in names) == (change == "staged")
    assert (b"select.py" in names) == (change != "deleted")


def test_tracked_files_count_though_they_are_ignored(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.write({"data/small.root": "1", "select.py": "1"})
    checkout.commit()
    checkout.commit({".gitignore": "data/\n*.root\n"})
    checkout.write({"data/large.root": "2", "select.py": "2"})
    dirty = resolve_code(HERE, checkout.folder, store, settings, allow_dirty=True)
    names = [file.path for file, _ in code_files(dirty, checkout.folder, store, settings)]
    assert names == [b".gitignore", b"data/small.root", b"select.py"]


def test_a_checkout_without_commits(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    checkout.write({"select.py": "1"})
    fails("E109", lambda: resolve_code(HERE, checkout.folder, store, settings))
    locked = resolve_code(HERE, checkout.folder, store, settings, allow_dirty=True)
    assert (locked.commit, locked.date, locked.dirty) == (None, None, True)
    assert [data for _, data in code_files(locked, checkout.folder, store, settings)] == [b"1"]


def test_a_plain_folder(tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "select.py").write_text("1")
    (folder / ".gitignore").write_text("select.py")
    locked = resolve_code(HERE, folder, store, settings)
    assert (locked.commit, locked.dirty) == (None, False)
    assert [file.path for file, _ in code_files(locked, folder, store, settings)] == [
        b".gitignore",
        b"select.py",
    ]
    (folder / "select.py").write_text("2")
    fails("E021", lambda: list(code_files(locked, folder, store, settings)))
    fails("E001", lambda: resolve_code(CodeSource(folder="none"), folder, store, settings))


def test_a_lock_of_a_checkout_fits_the_same_files_without_git(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    """What an archive of the revision holds is enough to build."""
    checkout.commit({"select.py": "1"})
    locked = resolve_code(HERE, checkout.folder, store, settings)
    other = tmp_path / "unpacked"
    other.mkdir()
    (other / "select.py").write_text("1")
    assert [data for _, data in code_files(locked, other, store, settings)] == [b"1"]


def test_a_checkout_that_moved_on(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    checkout.commit({"select.py": "1"})
    locked = resolve_code(HERE, checkout.folder, store, settings)
    checkout.commit({"select.py": "2"})
    fails("E021", lambda: list(code_files(locked, checkout.folder, store, settings)))


def test_a_folder_that_a_surrounding_repository_ignores(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.commit({".gitignore": "scratch/\n"})
    checkout.write({"scratch/select.py": "1"})
    locked = resolve_code(CodeSource(folder="scratch"), checkout.folder, store, settings)
    assert (locked.commit, locked.dirty) == (None, False)


def test_links_are_kept_and_not_followed(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    (checkout.folder / "passwd").symlink_to("/etc/passwd")
    (checkout.folder / "up").symlink_to("../..")
    checkout.commit()
    locked = resolve_code(HERE, checkout.folder, store, settings)
    assert locked.tree == checkout.tree()
    contents = {file.path: data for file, data in code_files(locked, checkout.folder, store, settings)}
    assert contents == {b"passwd": b"/etc/passwd", b"up": b"../.."}
    checkout.write({"new.py": "1"})
    dirty = resolve_code(HERE, checkout.folder, store, settings, allow_dirty=True)
    names = [file.path for file, _ in code_files(dirty, checkout.folder, store, settings)]
    assert names == [b"new.py", b"passwd", b"up"]


# By URL


def source_of(checkout: Checkout, rev: str | None = None) -> CodeSource:
    return CodeSource(git=str(checkout.folder), rev=rev)


def test_revisions(checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    first = checkout.commit({"select.py": "1", "afenv.lock": "{}"})
    who = pygit2.Signature("A", "a@example.org", WHEN, 0)
    checkout.repository.create_tag("v1.0", pygit2.Oid(hex=first), pygit2.enums.ObjectType.COMMIT, who, "m")
    tree = checkout.tree()
    second = checkout.commit({"select.py": "2"})
    expected = {"v1.0": first, first: first, first[:10]: first, "main": second, None: second, "main~1": first}
    for rev, commit in expected.items():
        locked = resolve_code(source_of(checkout, rev), tmp_path, store, settings)
        assert (locked.commit, locked.rev, locked.git) == (commit, rev, str(checkout.folder))
    locked = resolve_code(source_of(checkout, "v1.0"), tmp_path, store, settings)
    assert (locked.tree, locked.date) == (tree, DATE)
    contents = {file.path: data for file, data in code_files(locked, tmp_path, store, settings)}
    assert contents == {b"select.py": b"1", b"afenv.lock": b"{}"}
    error = fails("E108", lambda: resolve_code(source_of(checkout, "v1.1"), tmp_path, store, settings))
    assert "v1.0" in str(error)
    fails("E108", lambda: resolve_code(source_of(checkout, "0" * 40), tmp_path, store, settings))


def test_a_branch_stays_where_it_was_locked(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    first = checkout.commit({"select.py": "1"})
    source = source_of(checkout, "main")
    locked = resolve_code(source, tmp_path, store, settings)
    second = checkout.commit({"select.py": "2"})
    assert resolve_code(source, tmp_path, store, settings, locked=locked) == locked
    moved = replace(source, into="/opt/code")
    assert resolve_code(moved, tmp_path, store, settings, locked=locked) == replace(locked, into="/opt/code")
    assert resolve_code(source, tmp_path, store, settings, locked=locked, update=True).commit == second
    assert [data for _, data in code_files(locked, tmp_path, store, settings)] == [b"1"]
    assert locked.commit == first


def test_a_relative_path_is_relative_to_the_manifest(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    commit = checkout.commit({"select.py": "1"})
    (tmp_path / "manifest").mkdir()
    source = CodeSource(git="../work", rev="main")
    assert resolve_code(source, tmp_path / "manifest", store, settings).commit == commit
    url = CodeSource(git=checkout.folder.as_uri(), rev="main")
    assert resolve_code(url, tmp_path, store, settings).commit == commit


def test_repositories_that_cannot_be_had(tmp_path: Path, store: ContentStore, settings: Settings) -> None:
    (tmp_path / "empty").mkdir()
    fails("E110", lambda: resolve_code(CodeSource(git="empty", rev="main"), tmp_path, store, settings))
    fails("E110", lambda: resolve_code(CodeSource(git="none", rev="main"), tmp_path, store, settings))
    away = CodeSource(git="https://user@127.0.0.1:9/x.git", rev="main")
    fails("E201", lambda: resolve_code(away, tmp_path, store, settings))
    offline = replace(settings, offline=True)
    fails("E203", lambda: resolve_code(away, tmp_path, store, offline))


def test_a_password_has_no_place_in_a_manifest(
    tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    source = CodeSource(git="https://user:secret@127.0.0.1:9/x.git", rev="main")
    error = fails("E013", lambda: resolve_code(source, tmp_path, store, settings))
    assert "secret" not in str(error)


def test_an_empty_repository_has_no_revision(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    fails("E108", lambda: resolve_code(source_of(checkout), tmp_path, store, settings))


def test_a_mirror_of_a_git_url_that_is_cached_serves_offline(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    commit = checkout.commit({"select.py": "1"})
    source = CodeSource(git="https://example.org/analysis.git", rev="main")
    rules = (("https://example.org/analysis.git", checkout.folder.as_uri()),)
    locked = resolve_code(source, tmp_path, store, replace(settings, mirrors=rules))
    assert (locked.commit, locked.git) == (commit, "https://example.org/analysis.git")
    offline = replace(settings, offline=True)
    assert resolve_code(source, tmp_path, store, offline) == locked
    assert [data for _, data in code_files(locked, tmp_path, store, offline)] == [b"1"]
    fails("E203", lambda: resolve_code(replace(source, rev="v9"), tmp_path, store, offline))


def test_a_damaged_clone_is_made_again(
    checkout: Checkout, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    checkout.commit({"select.py": "1"})
    locked = resolve_code(source_of(checkout, "main"), tmp_path, store, settings)
    (clone,) = (store.folder / "git").iterdir()
    (clone / "HEAD").unlink()
    assert resolve_code(source_of(checkout, "main"), tmp_path, store, settings) == locked


def test_live_takes_the_last_commit(checkout: Checkout, store: ContentStore, settings: Settings) -> None:
    checkout.commit({"select.py": "1", "other.py": "2"})
    clean = resolve_code(HERE, checkout.folder, store, settings)
    checkout.write({"select.py": "edited", "new.py": "3"})
    (checkout.folder / "other.py").unlink()
    for locked in (None, clean):
        live = resolve_code_cached(HERE, checkout.folder, store, settings, live=True, locked=locked)
        assert live == clean
    assert [data for _, data in code_files(live, checkout.folder, store, settings)] == [b"2", b"1"]
    fails("E109", lambda: resolve_code_cached(HERE, checkout.folder, store, settings))


def test_live_without_a_commit_takes_the_files(
    checkout: Checkout, store: ContentStore, settings: Settings
) -> None:
    checkout.write({"select.py": "1"})
    live = resolve_code(HERE, checkout.folder, store, settings, live=True)
    assert live.dirty
    assert [data for _, data in code_files(live, checkout.folder, store, settings)] == [b"1"]
