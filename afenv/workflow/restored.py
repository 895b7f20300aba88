"""Images that a bag brought into a project, taken as they are while the lock is the one that came along.

``afenv restore --to project`` writes them where a build does, ``.afenv/ENVIRONMENT.oci``, and notes in
``.afenv/restored.json`` for which lock and which time they were made. Whatever does not fit (another lock or
time, a layout that was written anew or is damaged) means: nothing was restored, build as usual.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes, sha256_file
from afenv.documents.lock import Lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.image import inputs_digest, rfc3339
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage, open_image
from afenv.store.content import ContentStore
from afenv.workflow.project import WORK_FOLDER, Project

NOTE = "restored.json"
_CHUNK = 1 << 20


def note_restored(project: Project, epoch: int, images: Mapping[str, str]) -> None:
    """Note when the images of a bag were made for the lock, and which (IDs by environment) lie here."""
    value = {"lock": sha256_file(project.lock_path), "epoch": epoch, "images": dict(images)}
    (project.work_folder() / NOTE).write_bytes(canonical.indented(value))


def _note(project: Project) -> Mapping[str, Any]:
    """The note, if it is about the lock that is there now; else nothing."""
    try:
        value = json.loads((project.folder / WORK_FOLDER / NOTE).read_bytes())
        if value["lock"] == sha256_file(project.lock_path) and isinstance(value["images"], dict):
            return {"epoch": int(value["epoch"]), "images": value["images"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def restored_epoch(project: Project) -> int | None:
    """The time of the images of the bag that the project came from, in seconds since 1970.

    None where the project came from no bag, or is locked anew since.
    """
    found: int | None = _note(project).get("epoch")
    return found


def restored_image(
    project: Project, lock: Lock, name: str, created: int
) -> tuple[Image, list[Attachment]] | None:
    """The image of an environment that a bag brought, and what is attached to it; None where there is none.

    It is the one that was noted, it fits the lock, and its layers are in the store afterwards, checked.
    """
    image_id = _note(project).get("images", {}).get(name)
    if image_id is None:
        return None
    path = project.folder / WORK_FOLDER / f"{name}.oci"
    try:
        with open_image(path) as opened:
            image = opened.image
            if image.image_id != image_id or not fits(image, lock, name, created):
                return None
            _bring(opened, project.store)
        return image, _attachments(project, path, image)
    except AfenvError:
        return None


def fits(image: Image, lock: Lock, name: str, created: int) -> bool:
    """Whether an image says of itself that it was made from the lock, at that time.

    A label has the digest of all that decides its content; the layers of its base, and of what was run in
    the sandbox, are those of the lock. Only building it again proves more: `afenv verify --rebuild`.
    """
    environment = lock.environments[name]
    config = image.configuration()
    found = (config.get("config") or {}).get("Labels") or {}
    stated = [found.get(key) for key in (media.ANALYSIS, media.ENVIRONMENT, media.INPUTS)]
    if stated != [lock.name, name, inputs_digest(lock, environment)] or config["created"] != rfc3339(created):
        return False
    diff_ids = [layer.diff_id for layer in image.layers]
    below = [layer.diff_id for layer in environment.base.layers] if environment.base else []
    if diff_ids[: len(below)] != below:
        return False
    return all(ran.diff_id in diff_ids for ran in (environment.linked, environment.built) if ran is not None)


def _bring(opened: OpenedImage, store: ContentStore) -> None:
    for layer in opened.image.layers:
        if store.trusted(layer.digest, layer.size):
            continue
        with opened.blobs.open(layer.digest) as file, store.writer(durable=False) as writer:
            while data := file.read(_CHUNK):
                writer.write(data)
            writer.commit(layer.digest)
    store.sync()
    store.put(opened.image.config)
    store.put(opened.image.manifest)


def _attachments(project: Project, path: Path, image: Image) -> list[Attachment]:
    """What the layout has; none if it is about other documents than those of the project."""
    from afenv.oci.attach_layout import layout_attachments

    found = layout_attachments(path, image.manifest_digest)
    for kind, document in (
        (media.LOCK, project.lock_path),
        (media.ANALYSIS_MANIFEST, project.manifest_path),
    ):
        attached = {one.digest for one in found if one.artifact_type == kind}
        if attached and sha256_bytes(document.read_bytes()) not in attached:
            return []
    return found
