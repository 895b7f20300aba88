"""Bringing images into the content store: only what is missing travels."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from afenv.errors import AfenvError
from afenv.oci.graph import Graph, descriptors, walk
from afenv.oci.model import Image
from afenv.oci.registries import RemoteImage, RemoteManifest
from afenv.progress import Progress
from afenv.store.content import ContentStore
from afenv_registry.download import fetch
from afenv_registry.parallel import for_each
from afenv_registry.resolve import member, parse_config, resolve

if TYPE_CHECKING:
    from afenv_registry.repository import Repository


def pull_blobs(
    repository: Repository,
    blobs: Iterable[tuple[str, int]],
    store: ContentStore,
    progress: Progress,
    connections: int,
) -> None:
    """Bring blobs (digest, size) into the store, those that it lacks.

    They are trusted by this process from then on. The disk is not waited for: after that, whoever needs
    them first hashes them once more, unless this process calls the store's ``sync``.
    """
    wanted = dict(blobs)
    missing = [(digest, size) for digest, size in wanted.items() if not store.trusted(digest, size)]
    if not missing:
        return
    total = sum(size for _, size in missing)
    progress.total += total
    missing.sort(key=lambda blob: -blob[1])  # the largest first, so that the end is even
    stop = threading.Event()

    def abort() -> None:
        stop.set()
        repository.close()

    def one(blob: tuple[str, int]) -> None:
        # threads that hash are worth it only for a blob for whose end the others wait: they cost a third
        alone = 2 * blob[1] > total
        fetch(repository.sessions, *blob, store, progress, stop, alone=alone)

    with store.in_use():
        for_each(missing, one, threads=connections, name="pull", abort=abort)


def _keep(store: ContentStore, content: bytes) -> None:
    """Store a small document, without waiting for the disk: that would wait for all the large ones too."""
    with store.writer(durable=False) as writer:
        writer.write(content)
        writer.commit()


def pull_image(
    repository: Repository, remote: RemoteImage, store: ContentStore, progress: Progress, connections: int
) -> Image:
    """Bring the layers of a resolved image, its config and manifest into the store."""
    from afenv.oci.read import image_from

    parse_config(remote)
    place = str(repository.reference)
    try:
        image = image_from(
            remote.config, remote.manifest, f"{repository.name}:{repository.reference.tag}", place
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AfenvError("E510", f"this is not an image: {error}", place=place) from None
    manifest = RemoteManifest(content=remote.manifest, media_type=remote.media_type)
    layers = descriptors(manifest, "layers")
    pull_blobs(repository, ((one["digest"], one["size"]) for one in layers), store, progress, connections)
    _keep(store, remote.config)
    _keep(store, remote.manifest)
    if remote.index is not None:
        _keep(store, remote.index.content)
    return image


def pull_graph(
    repository: Repository,
    store: ContentStore,
    progress: Progress,
    connections: int,
    *,
    whole: bool = True,
    platform: str | None = None,
) -> Graph:
    """Bring what the repository's reference names, with all that this names, into the store.

    Unless ``whole``, an index is followed to the one manifest for the platform.
    """
    reference = repository.reference
    if whole:
        root = repository.get_manifest(reference.digest or reference.tag)
    else:
        remote = resolve(repository, platform=platform)
        _keep(store, remote.config)
        root = RemoteManifest(content=remote.manifest, media_type=remote.media_type)
    graph = walk(root, lambda descriptor: member(repository, descriptor))
    pull_blobs(repository, graph.blobs.items(), store, progress, connections)
    for manifest in graph.manifests().values():
        _keep(store, manifest.content)
    return graph
