"""``afenv data``: pin, check and fetch what the steps read; the lock keeps what was found."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afenv.data.access import DataAccess
from afenv.data.check import CheckedFile, check_data
from afenv.data.fetch import fetch_all
from afenv.data.pin import Pinning, pin_files
from afenv.data.resolve import resolve
from afenv.documents.data import DataReference, LockedData, data_misfits, locked_data
from afenv.documents.facility import FacilityProfile
from afenv.documents.lock import Lock
from afenv.documents.lockfile import read_lock, write_lock
from afenv.errors import AfenvError, Problem
from afenv.progress import counted, human_size
from afenv.record import record, replace
from afenv.store.transport import without_secrets
from afenv.workflow.lock import existing_lock, load
from afenv.workflow.project import Project

EVERY = 5.0  # seconds between two writings of the lock while files are being pinned
FOLDER = "data"  # in the work folder: where data is fetched to


def facility_of(path: Path | None) -> FacilityProfile | None:
    """The profile in a file, or in the one that ``AFENV_FACILITY`` names, if any."""
    name = path or os.environ.get("AFENV_FACILITY")
    if not name:
        return None
    from afenv.documents.facility_file import read_facility

    return read_facility(Path(name))


def open_access(project: Project, facility: FacilityProfile | None = None) -> DataAccess:
    """Access to the data of a project."""
    return DataAccess(project.settings, project.store, project.folder, facility=facility)


def references(project: Project, names: Sequence[str] = ()) -> list[DataReference]:
    """The manifest's data of these names, or all; E650 for a name that it does not have."""
    known = {reference.name: reference for reference in load(project).data}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise AfenvError("E650", f"there is no data {name!r}; there is: {there}", place=name)
    return [known[name] for name in names] if names else list(known.values())


def locked_references(project: Project, names: Sequence[str] = ()) -> list[LockedData]:
    """The lock's entries for them; E020 if there is no lock, E645 if it does not fit the manifest."""
    wanted = references(project, names)
    lock = read_lock(project.lock_path)
    chosen = [data for data in lock.data if data.name in {one.name for one in wanted}]
    wrong = data_misfits(wanted, chosen, project.folder)
    if wrong:
        place = str(project.lock_path)
        raise AfenvError.many([Problem("E645", message, place=place) for message in wrong])
    return chosen


@record
class Pinned:
    """What pinning did: the references as they are now, whether the lock changed, and what went wrong."""

    data: tuple[LockedData, ...]
    changed: bool
    problems: tuple[Problem, ...] = ()


def pin_project(
    project: Project,
    names: Sequence[str] = (),
    *,
    facility: FacilityProfile | None = None,
    again: bool = False,
    keep: bool = True,
) -> Pinned:
    """Resolve and read the data of these names, or all, and write what was found into the lock.

    What is pinned stays, unless ``again`` looks it up and reads it anew. What was finished is in the lock
    also if something else failed or the process is interrupted. E020 if there is no lock, and what
    :func:`~afenv.data.resolve.resolve` and :func:`~afenv.data.pin.pin_files` raise.
    """
    wanted = references(project, names)
    old = read_lock(project.lock_path)
    access = open_access(project, facility)
    before = locked_data(load(project).data, old.data, project.folder)
    problems: list[Problem] = []
    found: list[LockedData] = []
    for reference in wanted:
        data = next(one for one in before if one.name == reference.name)
        if again or not data.files:
            try:
                data = resolve(reference, access)
            except AfenvError as error:
                problems += error.problems
                continue
        found.append(data)
    pinning = Pinning(found, again=again)
    saving = _Saving(project, old, before, pinning)
    try:
        problems += pin_files(pinning, access, keep=keep, quiet=project.quiet, saved=saving.sometimes)
    finally:
        saving.now()
    return Pinned(data=tuple(pinning.data()), changed=saving.changed, problems=tuple(problems))


class _Saving:
    """Writes the lock while files are pinned: not after each, for there may be thousands."""

    def __init__(self, project: Project, old: Lock, before: Sequence[LockedData], pinning: Pinning) -> None:
        self._project = project
        self._old = old
        self._before = before
        self._pinning = pinning
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self.changed = False

    def sometimes(self) -> None:
        """Write, unless that was done just now."""
        if time.monotonic() - self._last >= EVERY:
            self.now()

    def now(self) -> None:
        """Write what is known."""
        with self._lock:
            known = {data.name: data for data in self._before}
            known |= {data.name: data for data in self._pinning.data()}
            data = tuple(sorted(known.values(), key=lambda one: one.name))
            self.changed = write_lock(self._project.lock_path, replace(self._old, data=data)) or self.changed
            self._last = time.monotonic()


def check_project(
    project: Project,
    names: Sequence[str] = (),
    *,
    facility: FacilityProfile | None = None,
    deep: bool = False,
) -> list[CheckedFile]:
    """What became of the data of these names, or all.

    What was not looked up yet is looked up now, for this answer only, and so is all data without a lock.
    """
    wanted = references(project, names)
    old = existing_lock(project)
    access = open_access(project, facility)
    known = locked_data(wanted, old.data if old else (), project.folder)
    by_name = {reference.name: reference for reference in wanted}
    resolved = [data if data.files else resolve(by_name[data.name], access) for data in known]
    return check_data(resolved, access, deep=deep, quiet=project.quiet)


def fetch_project(
    project: Project,
    names: Sequence[str] = (),
    *,
    facility: FacilityProfile | None = None,
    output: Path | None = None,
) -> list[tuple[LockedData, tuple[Path, ...]]]:
    """Bring the data of these names, or all, each into a folder of its name, and say where it is."""
    wanted = locked_references(project, names)
    folder = output if output is not None else project.work_folder() / FOLDER
    access = open_access(project, facility)
    paths = fetch_all([(data, folder / data.name) for data in wanted], access=access, quiet=project.quiet)
    return list(zip(wanted, paths, strict=True))


def data_json(data: LockedData) -> dict[str, Any]:
    """What ``--json`` prints of a reference."""
    return {
        "name": data.name,
        "uri": data.uri,
        "pinned": data.pinned,
        "size": data.size,
        "files": [
            {
                "path": file.path,
                "size": file.size,
                "checksums": dict(file.checksums),
                "uris": list(file.uris),
            }
            for file in data.files
        ],
    }


def describe_data(data: LockedData) -> str:
    """A reference in one line."""
    uri = without_secrets(data.uri)
    if not data.files:
        return f"{data.name}: {uri}, not looked up yet"
    size = human_size(data.size) if data.size is not None else "size not known"
    count = counted(len(data.files), "file")
    loose = sum(not file.pinned for file in data.files)
    state = "pinned" if not loose else "not pinned" if loose == len(data.files) else f"{loose} not pinned"
    return f"{data.name}: {uri}, {count}, {size}, {state}"
