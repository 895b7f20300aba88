"""Sending images: only what is missing travels, the manifest last."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci.model import Blobs, Image
from afenv.progress import Progress
from afenv_registry.parallel import for_each
from afenv_registry.repository import ACCEPT

if TYPE_CHECKING:
    from afenv.oci.graph import Graph
    from afenv_registry.repository import Repository

BASE_NAME = "org.opencontainers.image.base.name"


class ImagePush:
    """One push of one image to one repository."""

    def __init__(
        self,
        repository: Repository,
        image: Image,
        store: Blobs,
        progress: Progress,
        *,
        mount_from: Sequence[str] = (),
        connections: int,
    ) -> None:
        self._repository = repository
        self._image = image
        self._store = store
        self._progress = progress
        self._connections = connections
        self._mount_from = tuple(dict.fromkeys((*mount_from, *base_repositories(repository, image.manifest))))
        for source in self._mount_from:
            repository.own.authorization.also_from(source)  # the first token is to be good for all

    def run(self, name: str) -> str:
        """Send what is missing, then the manifest, as the tag or digest ``name``; the manifest's digest."""
        repository, image = self._repository, self._image
        digest, known = self._present(name)
        if digest == image.manifest_digest:
            return digest
        blobs = {layer.digest: layer.size for layer in image.layers}
        blobs[image.image_id] = len(image.config)
        self._send_all((one, size) for one, size in blobs.items() if one not in known)
        answer = repository.send_manifest(image.manifest, image.manifest_media_type, name)
        if answer.status in (400, 404) and known and b"BLOB_UNKNOWN" in answer.body:
            # the repository lost blobs of an image that it still lists
            self._send_all((one, size) for one, size in blobs.items() if one in known)
            answer = repository.send_manifest(image.manifest, image.manifest_media_type, name)
        return repository.stored(answer, image.manifest_digest).digest

    def _present(self, name: str) -> tuple[str, set[str]]:
        """The digest of what the tag names now, and the blobs of which it is made."""
        own = self._repository.own
        answer = own.send("GET", f"manifests/{name}", headers={"Accept": ACCEPT})
        if answer.status in (401, 403):
            raise own.refused(answer)
        if answer.status != 200:
            return "", set()
        try:
            document = json.loads(answer.body)
            parts = [document["config"], *document["layers"]]
            return sha256_bytes(answer.body), {str(part["digest"]) for part in parts}
        except (ValueError, KeyError, TypeError, RecursionError):
            return "", set()

    def _send_all(self, blobs: Iterable[tuple[str, int]]) -> None:
        send_blobs(
            self._repository,
            blobs,
            self._opener,
            self._progress,
            mount_from=self._mount_from,
            connections=self._connections,
        )

    def _opener(self, digest: str) -> Callable[[], BinaryIO]:
        if digest == self._image.image_id:
            return lambda: io.BytesIO(self._image.config)
        return lambda: self._store.open(digest)


def push_graph(
    repository: Repository,
    graph: Graph,
    store: Blobs,
    progress: Progress,
    *,
    name: str,
    mount_from: Sequence[str] = (),
    connections: int,
) -> str:
    """Send a graph: its blobs, the manifests inside, and the root as ``name`` (a tag); the root's digest."""
    sources = list(mount_from)
    for manifest in graph.manifests().values():
        sources += base_repositories(repository, manifest.content)
    for source in sources:
        repository.own.authorization.also_from(source)
    there = repository.find_own(name)
    if there == graph.root.digest:
        return there

    def opener(digest: str) -> Callable[[], BinaryIO]:
        return lambda: store.open(digest)

    send_blobs(
        repository,
        graph.blobs.items(),
        opener,
        progress,
        mount_from=tuple(dict.fromkeys(sources)),
        connections=connections,
    )
    for manifest in graph.inner:
        if repository.find_own(manifest.digest) is None:
            repository.put_manifest(manifest.content, manifest.media_type)
    return repository.put_manifest(graph.root.content, graph.root.media_type, name).digest


def base_repositories(repository: Repository, manifest: bytes) -> list[str]:
    """The repository of the image's base, if it is at the same registry: its blobs can be mounted."""
    if BASE_NAME.encode() not in manifest:
        return []
    from afenv_registry.reference import parse_reference

    try:
        base = parse_reference(str(json.loads(manifest)["annotations"][BASE_NAME]))
    except (AfenvError, KeyError, TypeError, ValueError):
        return []
    same = base.host == repository.reference.host and base.repository != repository.reference.repository
    return [base.repository] if same else []


def send_blobs(
    repository: Repository,
    blobs: Iterable[tuple[str, int]],
    opener: Callable[[str], Callable[[], BinaryIO]],
    progress: Progress,
    *,
    mount_from: Sequence[str] = (),
    connections: int,
) -> None:
    """Send those of the blobs (digest, size) that the repository lacks."""
    wanted = sorted(blobs, key=lambda blob: -blob[1])  # the largest first, so that the end is even
    guard = threading.Lock()

    def send(blob: tuple[str, int]) -> None:
        digest, size = blob
        if repository.has_blob(digest):
            return
        with guard:
            progress.total += size
        repository.put_blob(digest, size, opener(digest), mount_from=mount_from, sent=progress.advance)

    for_each(wanted, send, threads=connections, name="push", abort=repository.transport.close)
