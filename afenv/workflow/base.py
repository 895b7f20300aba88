"""Base images: from a registry into the content store, and from there to those who read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from afenv.documents.lock import LockedBase, LockedBuilder, LockedEnvironment
from afenv.errors import AfenvError
from afenv.workflow.project import Project

if TYPE_CHECKING:
    from afenv.layers.base_tree import OpenBase
    from afenv.oci.base import StoredBase


def pull_base(project: Project, reference: str, platform: str) -> tuple[LockedBase, StoredBase]:
    """What the reference names now, pulled into the store, as a base.

    E203 if connections are not allowed; E112 if it cannot be a base; and the errors of registries.
    """
    from afenv.oci.base import base_of_image, check_layers
    from afenv.oci.registries import find_registry

    if project.settings.offline:
        raise AfenvError("E203", "offline, and the base image is not locked yet", place=reference)
    registry = find_registry()
    found = registry.resolve(reference, platform=platform, quiet=project.quiet)
    check_layers(found.document(), reference)
    image = registry.pull(found.reference, project.store, platform=platform, quiet=project.quiet)
    index = found.index.digest if found.index is not None else None
    return base_of_image(image, project.store, reference=reference, platform=platform, index=index)


def base_opener(project: Project, environment: LockedEnvironment) -> Callable[[], OpenBase] | None:
    """What opens the base image of an environment when it is needed; None if it has none."""
    base = environment.base
    if base is None:
        return None

    def opened() -> OpenBase:
        from afenv.oci.base import open_base

        ensure_base(project, base, environment.platform, made_by=environment.builder)
        return open_base(base, project.store)

    return opened


def bring_base(project: Project, base: LockedBase, platform: str) -> StoredBase:
    """The base that a lock has, with its blobs in the store; raises as :func:`ensure_base`."""
    from afenv.oci.base import open_base

    ensure_base(project, base, platform)
    return open_base(base, project.store)


def ensure_base(
    project: Project, base: LockedBase, platform: str, *, made_by: LockedBuilder | None = None
) -> None:
    """Pull the blobs of a base that a lock has, by digest, if the store lacks any.

    What another tool has made (``made_by``) is in no registry: E417 if the store lacks it. E203 if blobs are
    needed and connections are not allowed; E103 if the registry does not have the image any more; E301 if it
    has another content; and the other errors of registries.
    """
    if not _is_here(project, base):
        if made_by is not None:
            message = f"{made_by.name} made this image on another machine, or for a cache that is gone"
            raise AfenvError("E417", message, place=base.reference)
        _pull(project, base, platform)
        if not _is_here(project, base):
            raise AfenvError(
                "E301", "the image does not have the blobs that the lock names", place=base.reference
            )


def _is_here(project: Project, base: LockedBase) -> bool:
    blobs = [(layer.digest, layer.size) for layer in base.layers]
    blobs += [(base.config, base.config_size), (base.digest, base.size)]
    return all(project.store.trusted(digest, size) for digest, size in blobs)


def _pull(project: Project, base: LockedBase, platform: str) -> None:
    from afenv.oci.registries import find_registry

    if project.settings.offline:
        raise AfenvError("E203", "offline, and the cache lacks the base image", place=base.reference)
    name = base.reference.partition("@")[0]
    host, slash, rest = name.rpartition("/")
    pinned = f"{host}{slash}{rest.partition(':')[0]}@{base.digest}"
    try:
        find_registry().pull(pinned, project.store, platform=platform, quiet=project.quiet)
    except AfenvError as error:
        if error.code != "E604":
            raise
        raise AfenvError(
            "E103",
            f"the registry does not have the base image {base.digest} any more",
            place=base.reference,
            remedy=f"Move to what the tag names now with `afenv lock --update {base.reference}`.",
        ) from error
