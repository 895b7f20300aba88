"""A project: the folder with a manifest, its lock, and the host's settings and store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from afenv.documents.lock import FILE_NAME as LOCK_NAME
from afenv.documents.manifest import FILE_NAME as MANIFEST_NAME
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.record import record
from afenv.settings import Settings, load_settings
from afenv.store.content import ContentStore

WORK_FOLDER = ".afenv"
DEFAULT_ENVIRONMENT = "default"


@record
class Project:
    """Where the documents lie and what this host brings."""

    folder: Path
    settings: Settings
    store: ContentStore
    quiet: bool = False

    @property
    def manifest_path(self) -> Path:
        """The analysis manifest, ``afenv.yaml``."""
        return self.folder / MANIFEST_NAME

    @property
    def lock_path(self) -> Path:
        """The lock, ``afenv.lock``."""
        return self.folder / LOCK_NAME

    def work_folder(self) -> Path:
        """``.afenv`` beside the manifest, which git ignores; made when it is missing."""
        folder = self.folder / WORK_FOLDER
        if not folder.is_dir():
            folder.mkdir()
            (folder / ".gitignore").write_text("*\n")
        return folder


def open_project(folder: Path, *, offline: bool = False, quiet: bool = False) -> Project:
    """The project in ``folder``; E001 if there is no such folder."""
    if not folder.is_dir():
        raise AfenvError("E001", "there is no such folder", place=str(folder))
    settings = load_settings(offline=offline).beside(folder.absolute())
    return Project(
        folder=folder.absolute(),
        settings=settings,
        store=ContentStore(settings.cache_folder),
        quiet=quiet,
    )


def choose_environments(manifest: AnalysisManifest, name: str | None) -> Sequence[str]:
    """The environment of that name, or all of them; E031 if there is none of that name."""
    if name is None:
        return sorted(manifest.environments)
    if name not in manifest.environments:
        have = ", ".join(sorted(manifest.environments))
        raise AfenvError("E031", f"there is no environment {name!r}; the manifest has: {have}")
    return [name]


def choose_environment(manifest: AnalysisManifest, name: str | None) -> str:
    """The one environment to work in: the one named, else ``default``, else the only one (E031)."""
    names = choose_environments(manifest, name)
    if len(names) == 1:
        return names[0]
    if DEFAULT_ENVIRONMENT in names:
        return DEFAULT_ENVIRONMENT
    raise AfenvError("E031", f"choose an environment with -e; the manifest has: {', '.join(names)}")
