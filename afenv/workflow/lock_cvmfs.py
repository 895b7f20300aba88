"""What an environment takes of CVMFS, pinned: the revision of each repository, and what is embedded of it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from afenv.cvmfs.closure import contents
from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.listing import list_parts
from afenv.cvmfs.repository import Repository, State, mounted_state, open_repository
from afenv.cvmfs.tree import Snapshot
from afenv.documents.cvmfs import (
    EMBED,
    CvmfsSource,
    LockedCvmfs,
    LockedCvmfsPart,
    is_locked,
    platform_of,
)
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import replace
from afenv.workflow.project import Project


def lock_cvmfs(
    project: Project, wanted: Sequence[CvmfsSource], old: Sequence[LockedCvmfs], moving: Collection[str]
) -> tuple[LockedCvmfs, ...]:
    """The entries of the lock, in the order of the manifest.

    A repository keeps the revision that the lock has, unless its name, or the path, is among ``moving`` or
    another tag is asked for. E014 for two revisions of one repository; errors as of
    :class:`afenv.cvmfs.repository.Repository`, and E145.
    """
    states: dict[str, State] = {}
    repositories: dict[str, Repository] = {}
    found = []
    for source in wanted:
        name = source.repository
        tags = {one.tag for one in wanted if one.repository == name}
        if len(tags) > 1:
            asked = " and ".join(sorted(repr(tag) if tag else "the newest revision" for tag in tags))
            message = f"an environment takes one revision of {name}, and {asked} are asked for"
            raise AfenvError("E014", message, path="cvmfs")
        moves = bool({name, *(one.path for one in wanted if one.repository == name)} & set(moving))
        before = [one for one in old if one.repository == name and one.tag == source.tag]
        kept = next((one for one in before if is_locked(one, source)), None)
        if kept is not None and not moves:
            found.append(kept)
            continue
        if name not in repositories:
            repositories[name] = open_repository(name, project.store, project.settings)
        repository = repositories[name]
        if name not in states:
            states[name] = (
                _state_of(before[0]) if before and not moves else _newest(project, repository, source, old)
            )
        found.append(_entry(project, repository, source, states[name]))
    project.store.sync()
    return tuple(found)


def _state_of(locked: LockedCvmfs) -> State:
    return State(
        repository=locked.repository,
        root=parse_hash(locked.root_hash),
        revision=locked.revision,
        timestamp=int(datetime.fromisoformat(locked.timestamp).timestamp()),
        tag=locked.tag,
    )


def _newest(
    project: Project, repository: Repository, source: CvmfsSource, old: Sequence[LockedCvmfs]
) -> State:
    """The revision of the tag, else what is mounted here, else the newest; not before what is locked."""
    seen = [one.revision for one in old if one.repository == repository.name]
    # the history of tags is part of the newest state, so that one must not be older either
    least = max(seen, default=0)
    if source.tag is None:
        here = mounted_state(repository.name)
        if here is not None and here.revision >= least:
            root = parse_hash(here.root_hash, f"/cvmfs/{repository.name}")
            catalogue = repository.at(root).catalogue()
            return State(
                repository=repository.name, root=root, revision=here.revision, timestamp=catalogue.modified
            )
    return repository.state(tag=source.tag, at_least=least)


def _entry(project: Project, repository: Repository, source: CvmfsSource, state: State) -> LockedCvmfs:
    snapshot = repository.at(state.root)
    place = snapshot.resolve(snapshot.inside(source.path))
    if source.view and place.entry.kind != "d":
        raise AfenvError("E142", f"{source.path} is a file, and a view is a folder")
    entry = LockedCvmfs(
        path=source.path,
        repository=repository.name,
        root_hash=str(state.root),
        revision=state.revision,
        timestamp=datetime.fromtimestamp(state.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        view=source.view,
        delivery=source.delivery,
        run=source.run,
        tag=source.tag,
        platform=platform_of(snapshot.mount + place.path) or platform_of(source.path),
    )
    if source.delivery == EMBED:
        entry = replace(entry, parts=embedded_parts(project, snapshot, entry))
    return entry


def embedded_parts(project: Project, snapshot: Snapshot, entry: LockedCvmfs) -> tuple[LockedCvmfsPart, ...]:
    """The parts that are embedded of an entry, read, so that every file's content is known."""
    found = contents(snapshot, entry)
    if found.remarks and not project.quiet:
        first, more = found.remarks[0], len(found.remarks) - 1
        also = f" (and {more} more)" if more else ""
        sys.stderr.write(f"warning: outside of the repository, and not embedded: {first}{also}\n")
    size = sum(one.size for one in found.entries.values() if one.kind == "f")
    with Progress(f"reading {entry.path}", size, quiet=project.quiet) as progress:
        return list_parts(snapshot, found.entries, project.store, done=progress.advance)


def snapshot_of(project: Project, entry: LockedCvmfs) -> Snapshot:
    """The revision that an entry of the lock pins."""
    repository = open_repository(entry.repository, project.store, project.settings)
    return repository.at(parse_hash(entry.root_hash))
