"""The data of an analysis for a bag: each file that is pinned, checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from afenv.archive.items import Item, of_blob
from afenv.archive.names import safe_part
from afenv.documents.lock import Lock, LockedFile
from afenv.errors import AfenvError
from afenv.store.fetch import Fetcher
from afenv.workflow.project import Project

FETCHED = ("http", "https", "file")


@contextmanager
def data_items(project: Project, lock: Lock) -> Iterator[list[Item]]:
    """The items of all data; E732 for what is not pinned or has no source that can be read."""
    items = []
    fetcher = Fetcher(project.store, project.settings, quiet=project.quiet)
    for data in lock.data:
        if not data.pinned:
            raise AfenvError(
                "E732",
                f"the data {data.name} is not pinned: its files, sizes and sha256 are not in the lock",
                place=str(project.lock_path),
                remedy="Run `afenv data pin` first, or archive references alone, without --data.",
            )
        for file in data.files:
            assert file.size is not None and file.sha256 is not None
            digest = f"sha256:{file.sha256}"
            if not project.store.trusted(digest, file.size):
                urls = [_absolute(project, uri) for uri in file.uris]
                usable = tuple(url for url in urls if url.partition(":")[0] in FETCHED)
                if not usable:
                    text = f"no source of {data.name}/{file.path} can be read: {', '.join(file.uris)}"
                    raise AfenvError("E732", text, place=str(project.lock_path))
                fetcher.file(LockedFile(urls=usable, size=file.size, sha256=file.sha256), title=file.path)
            inside = "/".join(safe_part(part) for part in file.path.split("/"))
            path = f"data/{safe_part(data.name)}/{inside}"
            items.append(of_blob(path, project.store, digest, "data", f"data {data.name}: {file.path}"))
    yield items


def _absolute(project: Project, uri: str) -> str:
    """A ``file:`` URI relative to the manifest as an absolute one, and a path as a URI."""
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return (project.folder / uri.removeprefix("file:")).resolve().as_uri()
    if ":" not in uri.partition("/")[0]:
        return (project.folder / uri).resolve().as_uri()
    return uri
