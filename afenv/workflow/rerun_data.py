"""The data of a run: where its files are on this machine, and that they are what the lock says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from afenv.documents.data import DataReference, LockedData, LockedDataFile, locked_data, stated_data
from afenv.errors import AfenvError
from afenv.rerun.launcher import file_digest
from afenv.rerun.places import Data, DataFile
from afenv.workflow.project import Project


class Checksums:
    """SHA-256 of files, kept between runs by size, time and inode of each."""

    def __init__(self, place: Path) -> None:
        self._place = place
        try:
            loaded = json.loads(place.read_bytes())
        except (OSError, ValueError):
            loaded = {}
        self._known: dict[str, Any] = loaded if isinstance(loaded, dict) else {}

    def of(self, path: Path) -> tuple[int, str]:
        """Size and SHA-256 of a file."""
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(str(path))
        if not known or known[0] != state:
            known = self._known[str(path)] = [state, file_digest(str(path))]
        return status.st_size, known[1]

    def save(self) -> None:
        """Keep them; without a place that can be written they are computed anew the next time."""
        import contextlib

        with contextlib.suppress(OSError):
            self._place.write_text(json.dumps(self._known))


def data_of_run(
    project: Project,
    references: Iterable[DataReference],
    old: Iterable[LockedData],
    names: Iterable[str],
    chosen: Mapping[str, str],
    checksums: Checksums,
) -> dict[str, Data]:
    """The data ``names``, fetched where it is not here. ``chosen`` are other URIs by name.

    E001 for a file that is not there; E301 and E302 for one that is not what the manifest or the lock says.
    """
    wanted = set(names)
    by_name = {
        reference.name: (
            DataReference(name=reference.name, uri=chosen[reference.name])
            if reference.name in chosen
            else reference
        )
        for reference in references
        if reference.name in wanted
    }
    locked = {one.name: one for one in locked_data(by_name.values(), old, project.folder)}
    found = {}
    for name in names:
        entry = stated_data(by_name[name], project.folder) if name in chosen else locked[name]
        files = tuple(_files(project, entry, checksums))
        found[name] = Data(name=name, uri=entry.uri, files=files)
    return found


def _files(project: Project, entry: LockedData, checksums: Checksums) -> Iterator[DataFile]:
    if entry.uri.startswith("file:") and not entry.files:
        folder = local_path(entry.uri, project.folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        if not paths:
            raise AfenvError("E001", f"there are no files of the data {entry.name}", place=str(folder))
        for path in paths:
            size, digest = checksums.of(path)
            yield DataFile(path=path.relative_to(folder).as_posix(), source=path, size=size, sha256=digest)
        return
    for file in entry.files:
        local = next((uri for uri in file.uris if uri.startswith("file:")), None)
        if local is None:
            message = f"the data {entry.name} is not on this machine, and cannot be fetched yet"
            raise AfenvError("E016", message, place=entry.uri)
        path = local_path(local, project.folder)
        if not path.is_file():
            raise AfenvError("E001", f"there is no file of the data {entry.name}", place=str(path))
        size, digest = checksums.of(path)
        _check(entry.name, file, path, size, digest)
        yield DataFile(path=file.path, source=path, size=size, sha256=digest)


def local_path(uri: str, folder: Path) -> Path:
    """The path that a ``file:`` URI names; a relative one is in ``folder``."""
    return folder / unquote(uri.removeprefix("file:").removeprefix("//"))


def _check(name: str, file: LockedDataFile, path: Path, size: int, digest: str) -> None:
    if file.size is not None and file.size != size:
        raise AfenvError("E302", f"the data {name} has {size} bytes, not {file.size}", place=str(path))
    for algorithm, expected in file.checksums.items():
        found = digest if algorithm == "sha256" else _other_digest(path, algorithm)
        if found != expected:
            message = f"the data {name} has the {algorithm} {found}, not {expected}"
            raise AfenvError("E301", message, place=str(path))


def _other_digest(path: Path, algorithm: str) -> str:
    import hashlib
    import zlib

    with path.open("rb") as stream:
        if algorithm != "adler32":
            return hashlib.file_digest(stream, algorithm).hexdigest()
        value = 1
        while chunk := stream.read(1 << 20):
            value = zlib.adler32(chunk, value)
        return f"{value:08x}"
