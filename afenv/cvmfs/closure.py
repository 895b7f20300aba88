"""What has to go along with a path: where links lead, and which package a file is part of.

Links inside a repository are followed, so that a view, whose files are links, comes with its packages; what a
link leads to brings its whole package, whose files find each other by places next to them. A package is what
lies below a folder that has the name of a platform (``releases/ROOT/6.32-abc/x86_64-el9-gcc13-opt``). A setup
script brings what it names. Links that lead out of the repository, or nowhere, are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.tree import Outside, Place, Snapshot
from afenv.documents.cvmfs import TRACE, LockedCvmfs, is_platform
from afenv.errors import AfenvError

SETUP = "setup.sh"
SCRIPT = 1 << 20  # bytes of a script that is looked into


def package_of(path: str) -> str | None:
    """The folder of the package that a path is in: down to the first part that names a platform."""
    parts = path.split("/")
    for number, part in enumerate(parts):
        if is_platform(part):
            return "/".join(parts[: number + 1])
    return None


@dataclass(slots=True)
class Closure:
    """Paths in the repository with their entries, and remarks on what is not among them."""

    entries: dict[str, Entry] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class _Collector:
    def __init__(self, snapshot: Snapshot, *, packages: bool) -> None:
        self.snapshot = snapshot
        self.found = Closure()
        self._packages = packages
        self._whole: set[str] = set()  # folders that are in with all that is in them
        self._waiting: list[str] = []
        self._scripts: set[str] = set()

    def add(self, path: str) -> Place:
        """A path, with the links on the way to it, and all that is in it."""
        place = self.snapshot.resolve(path)
        self._links(place)
        self._subtree(place.path, place.entry)
        return place

    def add_file(self, path: str) -> None:
        """A path that was read, with the links on the way to it; of a folder, the folder alone."""
        place = self.snapshot.resolve(path)
        self._links(place)
        self._enter(place.entry)

    def finish(self) -> Closure:
        """Follow everything to its end."""
        while self._waiting:
            link = self._waiting.pop()
            try:
                place = self.snapshot.resolve(link)
            except Outside as outside:
                self.found.remarks.append(f"{self.snapshot.mount}{link} leads to {outside.target}")
                continue
            except AfenvError as error:
                if error.code != "E142":
                    raise
                continue  # nowhere, or in circles: as in the repository
            self._links(place)
            self._target(place)
        self.found.remarks.sort()
        return self.found

    def _target(self, place: Place) -> None:
        package = package_of(place.path) if self._packages else None
        if package is not None and package != place.path:
            entry = self.snapshot.find(package)
            if entry is not None and entry.kind == "d":
                self._subtree(package, entry)
                self.script(f"{package}/{SETUP}")
                return
        if self._packages:
            self._subtree(place.path, place.entry)
        else:
            self._enter(place.entry)

    def script(self, path: str) -> None:
        """A setup script, if there is one, and what it names."""
        if path in self._scripts:
            return
        self._scripts.add(path)
        entry = self.snapshot.find(path)
        if entry is None:
            return
        try:
            place = self.snapshot.resolve(path)
        except AfenvError:
            return
        if place.entry.kind != "f" or place.entry.size > SCRIPT:
            return
        text = b"".join(self.snapshot.read(place.entry)).decode("utf-8", "replace")
        for named in sorted(named_paths(text, self.snapshot.mount)):
            try:
                found = self.snapshot.resolve(named)
            except AfenvError as error:
                if error.code != "E142":
                    raise
                continue
            if found.entry.kind == "f" or package_of(found.path):
                self._links(found)
                self._target(found)
                if named.endswith(".sh"):
                    self.script(named)

    def _links(self, place: Place) -> None:
        for link in place.links:
            entry = self.snapshot.find(link)
            if entry is not None:
                self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        if entry.path not in self.found.entries:
            self.found.entries[entry.path] = entry
            if entry.kind == "l":
                self._waiting.append(entry.path)

    def _subtree(self, path: str, entry: Entry) -> None:
        parent = path
        while True:
            if parent in self._whole:
                return
            if not parent:
                break
            parent = parent.rpartition("/")[0]
        self._enter(entry)
        if entry.kind == "d":
            self._whole.add(path)
            for inside in self.snapshot.walk(path):
                self._enter(inside)


def named_paths(text: str, mount: str) -> set[str]:
    """The paths of a repository that a script names, as paths in the repository."""
    pattern = re.compile(re.escape(mount) + r"(/[A-Za-z0-9._+/@-]+)")
    found = {match.rstrip("/.") for match in pattern.findall(text)}
    return {path for path in found if path.count("/") > 1}


def closure(snapshot: Snapshot, path: str, *, view: bool = False) -> Closure:
    """All that is embedded with a path in the repository, sorted by path.

    E142 for a path that is not there or leads out; E145 for what no image can hold.
    """
    collector = _Collector(snapshot, packages=True)
    place = collector.add(path)
    if view:
        collector.script(f"{place.path}/{SETUP}")
    return _checked(snapshot, collector.finish())


def closure_of_files(snapshot: Snapshot, paths: Iterable[str]) -> Closure:
    """Paths in the repository that were read, with the links on the way, and where these lead."""
    collector = _Collector(snapshot, packages=False)
    for path in paths:
        collector.add_file(path)
    return _checked(snapshot, collector.finish())


def contents(snapshot: Snapshot, entry: LockedCvmfs) -> Closure:
    """What is embedded of an entry: the closure of its path, or of what its trace found."""
    if entry.delivery == TRACE:
        paths = entry.traced.paths if entry.traced is not None else ()
        return closure_of_files(snapshot, [snapshot.inside(path) for path in paths])
    return closure(snapshot, snapshot.inside(entry.path), view=entry.view)


def _checked(snapshot: Snapshot, found: Closure) -> Closure:
    for path, entry in found.entries.items():
        name = path.rpartition("/")[2]
        what = None
        if entry.kind == "s":
            what = "is neither a file nor a folder nor a link"
        elif name.startswith(".wh."):
            what = "has a name that means a removal in layers"
        elif entry.external:
            what = "is kept outside of the repository"
        if what is not None:
            raise AfenvError("E145", f"{snapshot.mount}{path} {what}")
    found.entries = dict(sorted(found.entries.items()))
    found.entries.pop("", None)
    return found
