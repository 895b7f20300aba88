"""A conda package whose metadata were read: what it will install, and where, before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from afenv.documents.lock import LockedConda, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers import conda_meta
from afenv.layers.conda_archive import CondaArchive, open_conda
from afenv.layers.conda_paths import CondaInfo, read_info
from afenv.layers.conda_python import PREFIX, CondaPython, command_text, conda_python, uses_python


@dataclass(frozen=True, slots=True)
class OpenConda:
    """A package whose metadata were read: what it installs, by path relative to the prefix."""

    package: LockedConda
    archive: CondaArchive
    info: CondaInfo
    places: Mapping[str, str]  # from path in the package to path in the prefix
    commands: Mapping[str, bytes]
    prefix: str  # in the image, absolute
    python: CondaPython | None

    def installed(self) -> dict[str, bool]:
        """The paths in the prefix, and for each whether it is a folder."""
        found = {place: self.info.paths[path].kind == "directory" for path, place in self.places.items()}
        return found | dict.fromkeys(self.commands, False)


def open_package(
    package: LockedConda, path: Path, environment: LockedEnvironment, *, check: bool = True
) -> OpenConda:
    """Read the metadata of the package at ``path`` and work out where its files go.

    With ``check``, the archive's digest is checked against the lock first. Raises E301 (another
    digest), E303 (malformed), E304 (unsafe path), E106 (a Python package without a Python).
    """
    name = package.file.file_name
    archive = open_conda(path, name, sha256=package.file.sha256 if check else None)
    info = read_info(package, archive.info(), name)
    prefix = (environment.conda_prefix or PREFIX).rstrip("/")
    python = conda_python(environment.conda) if uses_python(package) else None
    places = {path: path for path in info.paths}
    commands: dict[str, bytes] = {}
    if info.noarch_python:
        if not uses_python(package):
            archive.bad(f"{package.name} is for Python, and its record in the channel does not say so")
        if python is None:
            message = f"{package.name} is for Python, and the environment has no conda package python"
            raise AfenvError("E106", message, remedy="Add python to conda.dependencies.")
        places = {path: python.place(path) for path in info.paths}
        if len(set(places.values())) != len(places):
            archive.bad("two files of the package go to one path")
        commands = {
            f"bin/{entry.command}": command_text(entry, python, prefix) for entry in info.entry_points
        }
    for place in (*places.values(), *commands):
        if place.startswith("conda-meta/") and (place.endswith(".json") or place == conda_meta.HISTORY):
            raise AfenvError("E304", f"the package may not write {place}", place=name)
    return OpenConda(package, archive, info, places, commands, prefix, python)
