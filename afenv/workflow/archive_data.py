"""The data of an analysis for a bag: each file that is pinned, fetched and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afenv.archive.items import Item, of_blob
from afenv.archive.names import safe_part
from afenv.documents.lock import Lock
from afenv.errors import AfenvError
from afenv.workflow.project import Project


@contextmanager
def data_items(project: Project, lock: Lock) -> Iterator[list[Item]]:
    """The items of all data, in files that last as long as the block.

    E732 for what is not pinned, and the errors of :func:`afenv.data.fetch.fetch_all`.
    """
    from afenv.data.access import DataAccess
    from afenv.data.fetch import fetch_all

    for data in lock.data:
        if not data.pinned:
            raise AfenvError(
                "E732",
                f"the data {data.name} is not pinned: its files, sizes and sha256 are not in the lock",
                place=str(project.lock_path),
                remedy="Run `afenv data pin` first, or archive the references alone, without --data.",
            )
    access = DataAccess(project.settings, project.store, project.folder)
    store = project.store
    with tempfile.TemporaryDirectory(dir=store.temporary_folder(), prefix="data-") as folder:
        wanted = [(data, Path(folder) / str(number)) for number, data in enumerate(lock.data)]
        fetched = fetch_all(wanted, access=access, quiet=project.quiet)
        items = []
        for data, paths in zip(lock.data, fetched, strict=True):
            for file, here in zip(data.files, paths, strict=True):
                assert file.size is not None and file.sha256 is not None
                inside = "/".join(safe_part(part) for part in file.path.split("/"))
                path = f"data/{safe_part(data.name)}/{inside}"
                about = f"data {data.name}: {file.path}"
                if store.trusted(f"sha256:{file.sha256}", file.size):
                    items.append(of_blob(path, store, f"sha256:{file.sha256}", "data", about))
                else:  # it came from this machine, and is ours now
                    items.append(
                        Item(
                            path=path,
                            size=file.size,
                            sha256=file.sha256,
                            part="data",
                            file=here,
                            about=about,
                            link=True,
                        )
                    )
        yield items
