"""A bag as a project: manifest, lock, code, data and images in a folder, every input in the cache.

The images are put where a build puts them, so that `afenv run` and `afenv rerun` take them as they are; the
inputs are there for when something changes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.documents.data import INSIDE
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.store.content import ContentStore
from afenv.workflow.archive_bag import Bag, new_folder
from afenv.workflow.archive_rebuild import project_of_bag
from afenv.workflow.archive_restore import Restored, bring_image
from afenv.workflow.rerun_data import fetched_folder, local_path
from afenv.workflow.restored import fits, note_restored

if TYPE_CHECKING:
    from afenv.documents.lock import Lock
    from afenv.workflow.project import Project


def restore_project(
    bag: Bag, folder: Path, store: ContentStore, *, images: bool = True, quiet: bool = False
) -> Restored:
    """The analysis of a bag in a folder that is empty or not there yet.

    With ``images`` those of the bag go along, save those that lack layers because of licences. An image that
    does not say that it was made from the lock is left, with a warning: it is built again. E032 for a
    folder that is not empty, E721 and E722 for files of the bag.
    """
    folder = folder.absolute()
    lock = bag.lock()
    names = sorted(bag.index.environments)
    found: dict[str, str] = {}
    with new_folder(folder), project_of_bag(bag, lock, names, folder, store, quiet=quiet) as project:
        _bring_data(bag, lock, project)
        if images:
            found = _bring_images(bag, lock, names, project)
        note_restored(project, bag.index.epoch, found)
    return Restored(
        form="project", environment=None, path=str(folder), files=len(bag.index.files), images=found
    )


def _bring_images(bag: Bag, lock: Lock, names: list[str], project: Project) -> dict[str, str]:
    """Image IDs by environment of what was written."""
    from afenv.oci.layout import write_layout

    found = {}
    left_out = bag.left_out()
    for name in names:
        opened, attachments = bag.image(name)
        image = opened.image
        if any(layer.digest in left_out for layer in image.layers):
            continue  # it is built again, where the inputs are to be had
        if not fits(image, lock, name, bag.index.epoch):
            if not project.quiet:
                text = f"the image of {name} in the bag is not one of the lock there, and will be built again"
                sys.stderr.write(f"warning: {text}\n")
            continue
        bring_image(bag, image, project.store, quiet=project.quiet)
        write_layout(image, project.store, project.work_folder() / f"{name}.oci", attachments=attachments)
        found[name] = image.image_id
    return found


def _bring_data(bag: Bag, lock: Lock, project: Project) -> None:
    """The data that the bag holds, where `afenv data fetch` and `afenv rerun` look for it."""
    known = bag.index.by_digest()
    wanted = []
    for data in lock.data:
        for file in data.files:
            kept = known.get(f"sha256:{file.sha256}")
            if kept is None or local_path(file, project.folder, exists=True) is not None:
                continue  # a reference alone, or part of the code
            if not INSIDE.match(file.path):
                raise AfenvError("E644", f"{file.path!r} leads out of its folder", place=bag.place)
            wanted.append((kept, fetched_folder(project, data.name) / file.path))
    with Progress("restoring data", sum(file.size for file, _ in wanted), quiet=project.quiet) as progress:
        for kept, target in wanted:
            bag.copy(kept, target, progress.advance)
