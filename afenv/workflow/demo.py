"""The example analysis that comes with afenv."""

from __future__ import annotations

import shutil
from pathlib import Path

from afenv.documents.manifest import FILE_NAME
from afenv.errors import AfenvError
from afenv.specs import specs_folder
from afenv.store.content import write_error

COMMAND = ("python3", "/analysis/dimuon.py", "--output", "results")
AUTHOR = ("afenv demo", "demo@example.org")
COMMITTED = 1767225600  # 2026-01-01T00:00:00Z: one date, so that everybody gets the same commit


def copy_example(folder: Path) -> Path:
    """Copy the example to ``folder``, as a git repository with one commit, and return its absolute path.

    A folder that already holds the example is used as it is; E032 if it holds something else.
    """
    source = specs_folder() / "manifest" / "v1" / "examples" / "dimuon"
    if (folder / "dimuon.py").is_file() and (folder / FILE_NAME).is_file():
        return folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AfenvError(
            "E032", "the folder for the example exists and holds something else", place=str(folder)
        )
    try:
        shutil.copytree(
            source,
            folder,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__", "results", ".afenv"),
        )
    except OSError as error:
        raise write_error(error, folder) from error
    _commit(folder)
    return folder.absolute()


def _commit(folder: Path) -> None:
    import pygit2

    repository = pygit2.init_repository(str(folder), initial_head="main")
    (folder / ".gitignore").write_text("/results/\n/.afenv/\n")
    repository.index.add_all()
    repository.index.write()
    who = pygit2.Signature(*AUTHOR, COMMITTED, 0)
    repository.create_commit(
        "HEAD", who, who, "The dimuon example of afenv\n", repository.index.write_tree(), []
    )
