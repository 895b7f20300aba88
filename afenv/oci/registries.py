"""The port of registries, and how its implementation is found (entry point group ``afenv.registries``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci.model import Blobs, Image
from afenv.record import record

if TYPE_CHECKING:
    from afenv.oci.graph import Graph
    from afenv.store.content import ContentStore

GROUP = "afenv.registries"
BUILT_IN = {"oci": "afenv_registry.client:RegistryClient"}  # to ask the entry points takes 20 ms


@record
class RemoteManifest:
    """A manifest or an index as a registry gave it."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return sha256_bytes(self.content)

    def document(self) -> dict[str, Any]:
        """The content, parsed; E602 if it is not a JSON object."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise AfenvError("E602", "a manifest is not a JSON object", place=self.digest)
        return value


@record
class RemoteImage:
    """An image in a registry, its small documents at hand.

    ``reference`` is ``HOST/NAME[:TAG]@DIGEST``, with the digest of the manifest that was chosen;
    ``index`` is the outermost index by way of which it was found. ``config`` is that of the image, or
    what an artifact has in its place.
    """

    reference: str
    media_type: str
    manifest: bytes
    config: bytes
    index: RemoteManifest | None = None

    @property
    def digest(self) -> str:
        """The digest of the image manifest."""
        return sha256_bytes(self.manifest)

    def document(self) -> dict[str, Any]:
        """The manifest, parsed."""
        value: dict[str, Any] = json.loads(self.manifest)
        return value

    def platform(self) -> Mapping[str, str]:
        """``os``, ``architecture`` and, where there is one, ``variant``, as the config has them."""
        try:
            config = json.loads(self.config)
            return {key: str(config[key]) for key in ("architecture", "os", "variant") if config.get(key)}
        except (ValueError, AttributeError, RecursionError):
            return {}


@record
class Stored:
    """A manifest that a registry took; ``subject`` is what it says to have noted the manifest as a
    referrer of (``OCI-Subject``), None if it does not know referrers."""

    digest: str
    subject: str | None = None


class Readable(Protocol):
    """A blob on its way."""

    def readinto(self, view: memoryview) -> int:
        """Some bytes; 0 at the end."""
        ...  # pragma: no cover


class Repository(Protocol):
    """One repository of a registry. Names of manifests are tags or digests; failures are AfenvErrors.

    E601 without access, E602 for an answer that is an error or breaks the protocol, E604 for what is not
    there, E201 if the registry cannot be reached, E301 for content that is not what it should be.
    """

    @property
    def name(self) -> str:
        """``HOST[:PORT]/NAME``."""
        ...  # pragma: no cover

    def find_manifest(self, name: str) -> RemoteManifest | None:
        """The manifest, checked; None if there is none."""
        ...  # pragma: no cover

    def find_own(self, name: str) -> str | None:
        """The digest of what the registry itself, no mirror, has under a tag or digest; None if nothing."""
        ...  # pragma: no cover

    def get_manifest(self, name: str) -> RemoteManifest:
        """The manifest, checked; E604 if there is none."""
        ...  # pragma: no cover

    def put_manifest(self, content: bytes, media_type: str, name: str | None = None) -> Stored:
        """Store a manifest under a tag, or under its digest alone."""
        ...  # pragma: no cover

    def delete_manifest(self, digest: str) -> bool:
        """Remove a manifest; False if it was not there. Needs ``actions="pull,push,delete"``."""
        ...  # pragma: no cover

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is in this repository."""
        ...  # pragma: no cover

    def get_blob(self, digest: str, *, limit: int = ...) -> bytes:
        """A small blob, checked."""
        ...  # pragma: no cover

    def open_blob(self, digest: str) -> AbstractContextManager[Readable]:
        """A blob as it comes, **not checked**."""
        ...  # pragma: no cover

    def fetch_blob(self, digest: str, size: int, store: ContentStore) -> None:
        """Bring a blob of any size into the content store, resumable and checked.

        The disk is not waited for: the store's ``sync`` makes other processes trust it without hashing.
        """
        ...  # pragma: no cover

    def put_blob(
        self,
        digest: str,
        size: int,
        open_file: Callable[[], BinaryIO],
        *,
        mount_from: Sequence[str] = (),
        sent: Callable[[int], None] = ...,
    ) -> None:
        """Send a blob of any size, or let the registry take it from a repository of its own."""
        ...  # pragma: no cover

    def put_bytes(self, content: bytes) -> str:
        """Send a small blob unless it is there; its digest."""
        ...  # pragma: no cover

    def mount_blob(self, digest: str, source: str) -> bool:
        """Let the registry take a blob from its repository ``source``; whether it did."""
        ...  # pragma: no cover

    def tags(self) -> Iterator[str]:
        """The tags."""
        ...  # pragma: no cover

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> list[dict[str, Any]] | None:
        """The descriptors of what refers to a manifest; None if the registry lacks the referrers API."""
        ...  # pragma: no cover


class Registry(Protocol):
    """What speaks with a kind of registry. Failures are AfenvErrors."""

    def push(
        self,
        image: Image,
        store: Blobs,
        reference: str,
        *,
        quiet: bool = False,
        mount_from: str | None = None,
    ) -> str:
        """Send the image to ``reference``, with progress unless ``quiet``; the manifest's digest."""
        ...  # pragma: no cover

    def resolve(self, reference: str, *, platform: str | None = None, quiet: bool = False) -> RemoteImage:
        """What the reference names now, without its layers.

        ``platform`` (``linux/amd64``, ``linux/arm64/v8``) chooses from an index; default: Linux on this
        machine's processor. E604 if there is no such image, or none for the platform.
        """
        ...  # pragma: no cover

    def pull(
        self, reference: str, store: ContentStore, *, platform: str | None = None, quiet: bool = False
    ) -> Image:
        """Bring an image into the content store: its config, manifest and layers, each checked."""
        ...  # pragma: no cover

    def push_graph(
        self,
        graph: Graph,
        store: Blobs,
        reference: str,
        *,
        quiet: bool = False,
        mount_from: str | None = None,
    ) -> str:
        """Send a manifest or index with all that it names; ``store`` gives the blobs. Its digest."""
        ...  # pragma: no cover

    def pull_graph(
        self,
        reference: str,
        store: ContentStore,
        *,
        whole: bool = True,
        platform: str | None = None,
        quiet: bool = False,
    ) -> Graph:
        """Bring what the reference names, with all that this names, into the content store.

        Unless ``whole``, an index is followed to the one manifest for ``platform``, as :meth:`resolve` does.
        """
        ...  # pragma: no cover

    def repository(
        self, reference: str, *, actions: str = "pull,push", quiet: bool = False
    ) -> AbstractContextManager[Repository]:
        """The repository that the reference names, with its connections, until the block ends."""
        ...  # pragma: no cover


def find_registry(kind: str = "oci") -> Registry:
    """The registry client of that name; E030 if none is installed."""
    module, _, name = BUILT_IN.get(kind, "").partition(":")
    if module:
        from importlib import import_module

        built_in: Registry = getattr(import_module(module), name)()
        return built_in
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=kind):
        registry: Registry = point.load()()
        return registry
    raise AfenvError("E030", f"no client for registries of kind {kind!r} is installed")
