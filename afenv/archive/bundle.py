"""Git repositories as bundles (git-bundle(5), gitformat-bundle(5), version 2), and back.

A bundle is a few lines of text and a pack, so ``git clone`` takes it. The pack's index lies beside it: with
that, a repository is made again without git. Packs are written by libgit2 with one thread, which gives the
same bytes for the same objects.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.errors import AfenvError

if TYPE_CHECKING:
    import pygit2

SIGNATURE = b"# v2 git bundle\n"
BRANCH = b"refs/heads/archived"


def make_bundle(repository: pygit2.Repository, commit: str) -> tuple[bytes, bytes, bool]:
    """The bundle of a commit with its history, the index of its pack, and whether the history is whole.

    Where the repository at hand has the commit alone, so has the bundle, which names what it lacks. E110.
    """
    import pygit2
    from pygit2.enums import SortMode

    try:
        commits = [str(one.id) for one in repository.walk(commit, SortMode.TOPOLOGICAL | SortMode.TIME)]
    except (pygit2.GitError, KeyError):
        commits = [commit]
    lacking = sorted(
        {
            str(parent)
            for one in commits
            for parent in repository[one].parent_ids  # type: ignore[attr-defined]
            if str(parent) not in repository
        }
    )
    try:
        builder = pygit2.PackBuilder(repository)
        builder.set_threads(1)
        for one in commits:
            builder.add_recur(pygit2.Oid(hex=one))
        with tempfile.TemporaryDirectory() as folder:
            builder.write(folder)
            (pack,) = Path(folder).glob("*.pack")
            (index,) = Path(folder).glob("*.idx")
            data, listed = pack.read_bytes(), index.read_bytes()
    except (pygit2.GitError, KeyError, ValueError) as error:
        raise AfenvError("E110", f"git: {str(error).strip(chr(39))}", place=str(repository.path)) from None
    lines = [f"-{one} \n".encode() for one in lacking]
    lines += [commit.encode() + b" " + BRANCH + b"\n", commit.encode() + b" HEAD\n"]
    return SIGNATURE + b"".join(lines) + b"\n" + data, listed, not lacking


def pack_of(bundle: bytes, place: str) -> tuple[str, bytes]:
    """The commit that a bundle names, and its pack; E727 if it is no bundle."""
    head, blank, pack = bundle.partition(b"\n\n")
    lines = head.split(b"\n")
    tips = [line[:40].decode("ascii", "replace") for line in lines[1:] if not line.startswith(b"-")]
    if lines[0] + b"\n" != SIGNATURE or not blank or not pack.startswith(b"PACK") or not tips:
        raise AfenvError("E727", "this is not a git bundle", place=place)
    return tips[0], pack


def install_bundle(folder: Path, bundle: bytes, index: bytes, place: str) -> pygit2.Repository:
    """Put what a bundle holds into the bare repository in ``folder``, made if it is not there; E727, E110."""
    import pygit2

    commit, pack = pack_of(bundle, place)
    name = f"pack-{pack[-20:].hex()}"
    try:
        packs = folder / "objects" / "pack"
        if not packs.is_dir():
            pygit2.init_repository(str(folder), bare=True)
        packs.mkdir(parents=True, exist_ok=True)
        (packs / f"{name}.pack").write_bytes(pack)
        (packs / f"{name}.idx").write_bytes(index)
        repository = pygit2.Repository(str(folder))
        if commit not in repository:
            raise ValueError("the pack lacks the commit that the bundle names")
        repository.references.create(f"refs/afenv/{commit}", pygit2.Oid(hex=commit), force=True)
    except (pygit2.GitError, KeyError, ValueError) as error:
        raise AfenvError("E727", f"git: {str(error).strip(chr(39))}", place=place) from None
    return repository
