"""The data of a run: where its files are on this machine, and that they are what the lock says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from afenv.digest import hex_of
from afenv.documents.data import DataReference, LockedData, LockedDataFile, locked_data, stated_data
from afenv.errors import AfenvError
from afenv.record import replace
from afenv.rerun.launcher import file_digest
from afenv.rerun.places import Data, DataFile
from afenv.workflow.project import Project

FOLDER = "data"  # in the work folder, as `afenv data fetch` has it


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

    E001 for a file that is not there; E301 and E302 for one that is not what the manifest or the lock says;
    what :func:`afenv.data.resolve.resolve` and :func:`afenv.data.fetch.fetch_data` raise.
    """
    wanted = {reference.name: reference for reference in references}
    locked = {one.name: one for one in locked_data(wanted.values(), old, project.folder)}
    found = {}
    for name in names:
        folder = fetched_folder(project, name)
        entry = locked[name]
        reference = wanted[name]
        if name in chosen:
            reference = DataReference(name=name, uri=chosen[name])
            entry = stated_data(reference, project.folder)
            folder = folder.with_name(f"{name}-{hex_of(entry.request)[:8]}")
        files = tuple(_files(project, reference, entry, folder, checksums))
        found[name] = Data(name=name, uri=entry.uri, files=files)
    return found


def fetched_folder(project: Project, name: str) -> Path:
    """The folder for files of data ``name`` that are not on this machine."""
    return project.work_folder() / FOLDER / name


def _files(
    project: Project, reference: DataReference, entry: LockedData, folder: Path, checksums: Checksums
) -> Iterator[DataFile]:
    """The files of one reference: local ones where they are, others below ``folder``.

    A local one that is not there is below ``folder`` too if it came out of an archive or was fetched.
    """
    from afenv.data.fetch import fetch_data
    from afenv.data.resolve import resolve
    from afenv.workflow.data import facility_of, open_access

    access = open_access(project, facility_of(None))
    if not entry.files:
        entry = resolve(reference, access)
    places = {file.path: local_path(file, project.folder) for file in entry.files}
    for file in entry.files:
        path = places[file.path]
        if path is not None and not path.is_file() and (folder / file.path).is_file():
            places[file.path] = folder / file.path
    remote = tuple(file for file in entry.files if places[file.path] is None)
    if remote:
        fetched = fetch_data(replace(entry, files=remote), folder, access=access, quiet=project.quiet)
        places |= {file.path: path for file, path in zip(remote, fetched, strict=True)}
    for file in entry.files:
        path = places[file.path]
        if path is None or not path.is_file():
            raise AfenvError("E001", f"there is no file of the data {entry.name}", place=str(path))
        size, digest = checksums.of(path)
        _check(entry.name, file, path, size, digest)
        yield DataFile(path=file.path, source=path.absolute(), size=size, sha256=digest)


def local_path(file: LockedDataFile, folder: Path, *, exists: bool = False) -> Path | None:
    """Where the file of a ``file:`` URI is, relative ones in ``folder``; with ``exists``, if it is there."""
    for uri in file.uris:
        if uri.startswith("file:"):
            path = folder / unquote(urlsplit(uri).path)
            return path if path.is_file() or not exists else None
    return None


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
