"""The analyses that are built: the example with more packages, and variants of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Sample, run
from ruamel.yaml import YAML

from afenv.documents.lock import Lock
from afenv.documents.lockfile import read_lock
from afenv.specs import specs_folder

AFENV = Path(sys.executable).with_name("afenv")
EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "dimuon"
MORE = ("coffea", "scipy", "pandas", "dask", "pyhf")
GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A folder with a manifest and code, and the store that it is built with unless another is given."""

    folder: Path
    store: Path

    def afenv(self, *arguments: str | Path, store: Path | None = None, sample_memory: bool = False) -> Sample:
        """Run afenv in the folder, measured."""
        environment = {"AFENV_CACHE_DIR": str(store or self.store)}
        return run(
            [AFENV, "-q", "-C", self.folder, *arguments], environment=environment, sample_memory=sample_memory
        )

    def build(self) -> dict[str, Any]:
        """Build, not measured, and return what ``--json`` says."""
        environment = {**os.environ, "AFENV_CACHE_DIR": str(self.store)}
        command = [AFENV, "-q", "-C", self.folder, "build", "--json"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        (built,) = json.loads(done.stdout)
        result: dict[str, Any] = built
        return result

    @property
    def lock(self) -> Lock:
        return read_lock(self.folder / "afenv.lock")

    @property
    def layout(self) -> Path:
        return self.folder / ".afenv" / "default.oci"

    def sources(self) -> dict[str, str]:
        """The downloads that the lock names: file name to digest."""
        (environment,) = self.lock.environments.values()
        return {
            package.file.file_name: package.file.digest
            for package in (*environment.debs, *environment.wheels)
        }

    def versions(self) -> dict[str, str]:
        """The wheels' versions by name."""
        (environment,) = self.lock.environments.values()
        return {wheel.name: wheel.version for wheel in environment.wheels}

    def change_code(self) -> None:
        """Add a line to the code, and commit."""
        with (self.folder / "dimuon.py").open("a") as file:
            file.write("# changed\n")
        self.commit()

    def commit(self) -> None:
        subprocess.run([*GIT, "-C", self.folder, "add", "-A"], check=True)
        subprocess.run([*GIT, "-C", self.folder, "commit", "-q", "-m", "Change"], check=True)


def make_project(
    folder: Path,
    store: Path,
    *,
    bytecode: bool = False,
    more: Iterable[str] = MORE,
    constraints: Iterable[str] = (),
) -> Project:
    """The example with more packages, some of them constrained, locked and with everything downloaded."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    yaml = YAML(typ="safe", pure=True)
    manifest = yaml.load(folder / "afenv.yaml")
    environment = manifest["environments"]["default"]
    environment["pypi"]["dependencies"] += [*more, *constraints]
    environment["bytecode"] = bytecode
    yaml.dump(manifest, folder / "afenv.yaml")
    (folder / ".gitignore").write_text(".afenv/\nafenv.lock\n")
    subprocess.run([*GIT, "init", "-q", "-b", "main", folder], check=True)
    project = Project(folder=folder, store=store)
    project.commit()
    project.afenv("lock")
    return project


def blob(store: Path, digest: str) -> Path:
    """Where a store keeps a blob."""
    name = digest.removeprefix("sha256:")
    return store / "blobs" / "sha256" / name[:2] / name


def copy_downloads(source: Path, target: Path, projects: Sequence[Project]) -> None:
    """A fresh store that holds the projects' downloads and nothing else (hard links)."""
    shutil.rmtree(target, ignore_errors=True)
    digests = {digest for project in projects for digest in project.sources().values()}
    for digest in digests:
        place = blob(target, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(blob(source, digest), place)


def layer_sizes(built: Mapping[str, Any]) -> dict[str, int]:
    """Layer digests and sizes of what was built."""
    return {layer["digest"]: layer["size"] for layer in built["layers"]}
