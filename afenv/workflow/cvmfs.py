"""CVMFS repositories for people: what is published, what is in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.repository import Repository, mounted_state, open_repository
from afenv.cvmfs.tree import Snapshot
from afenv.errors import AfenvError
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.workflow.lock import format_time


def repository_of(target: str) -> str:
    """The repository of a path below ``/cvmfs``, or of a name; E142 for neither."""
    name = target.split("/")[2] if target.startswith("/cvmfs/") else target
    if not name or "/" in name or name.startswith("."):
        raise AfenvError("E142", f"{target!r} is neither a repository nor a path below /cvmfs")
    return name


def _time(seconds: int) -> str:
    from datetime import UTC, datetime

    return format_time(datetime.fromtimestamp(seconds, UTC))


def info(target: str, store: ContentStore, settings: Settings) -> dict[str, Any]:
    """What a repository has published, with its tags, and what of it this host has mounted."""
    name = repository_of(target)
    repository = open_repository(name, store, settings)
    published = repository.newest()
    here = mounted_state(name)
    return {
        "repository": name,
        "root-hash": str(published.root),
        "revision": published.revision,
        "timestamp": _time(published.timestamp),
        "mounted": {"root-hash": here.root_hash, "revision": here.revision} if here else None,
        "tags": [
            {
                "name": tag.name,
                "root-hash": str(tag.root),
                "revision": tag.revision,
                "timestamp": _time(tag.timestamp),
            }
            for tag in repository.tags(published)
        ],
    }


def open_snapshot(
    target: str, store: ContentStore, settings: Settings, *, tag: str | None, root_hash: str | None
) -> Snapshot:
    """The files of the newest revision, of a tag, or of a root hash."""
    repository: Repository = open_repository(repository_of(target), store, settings)
    if root_hash is not None:
        return repository.at(parse_hash(root_hash, "--root-hash"))
    return repository.at(repository.state(tag=tag).root)


def listing(snapshot: Snapshot, target: str) -> Iterator[dict[str, Any]]:
    """What is at a path: the entries of a folder, or the file itself."""
    path = snapshot.inside(target) if target.startswith("/") else ""
    found = snapshot.resolve(path)
    entries = snapshot.children(found.path) if found.entry.kind == "d" else [found.entry]
    for entry in entries:
        kinds = {"d": "folder", "f": "file", "l": "link", "s": "special"}
        value: dict[str, Any] = {
            "path": snapshot.mount + entry.path,
            "kind": kinds[entry.kind],
            "mode": f"{entry.mode:04o}",
            "size": entry.size,
        }
        if entry.kind == "l":
            value["target"] = entry.target
        if entry.hash is not None:
            value["hash"] = str(entry.hash)
        yield value
