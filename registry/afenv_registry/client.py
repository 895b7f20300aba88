"""The client of registries that the core finds: see :class:`afenv.oci.registries.Registry`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from afenv.errors import AfenvError
from afenv.oci.model import Blobs, Image
from afenv.progress import Progress
from afenv.record import replace
from afenv_registry.reference import Reference, parse_reference
from afenv_registry.repository import Repository
from afenv_registry.routes import mirrors, origin
from afenv_registry.session import Session
from afenv_registry.transport import Patience, Transport

if TYPE_CHECKING:
    from afenv.oci.graph import Graph
    from afenv.oci.registries import RemoteImage
    from afenv.store.content import ContentStore

CONNECTIONS = 4


class RegistryClient:
    """Speaks with registries.

    Plain HTTP is used for registries on this machine, for those in ``AFENV_PLAIN_HTTP`` (hosts with
    their ports, separated by spaces), and where ``plain_http`` asks for it.
    """

    def __init__(
        self, *, plain_http: bool = False, connections: int = CONNECTIONS, patience: Patience | None = None
    ) -> None:
        self._plain_http = plain_http
        self._connections = connections
        self._patience = patience or Patience()

    def push(
        self,
        image: Image,
        store: Blobs,
        reference: str,
        *,
        quiet: bool = False,
        mount_from: str | None = None,
    ) -> str:
        """Send the image to ``reference`` and return the manifest's digest.

        ``store`` gives the layers; blobs that the repository has are not sent, nor those that it can
        take from the repository ``mount_from`` of the same registry, or from that of the image's base.
        E603 for a bad reference, E601 without access, E602 for an answer that is an error, E201 if the
        registry cannot be reached, E301 if it names another digest.
        """
        target = parse_reference(reference, need_host=True)
        if target.digest is not None and target.digest != image.manifest_digest:
            raise AfenvError("E603", f"the image's manifest is {image.manifest_digest}", place=reference)
        from afenv_registry.push import ImagePush

        with (
            Progress(f"pushing to {target.host}", 0, quiet=quiet) as progress,
            self._connected(target, "pull,push", progress) as repository,
        ):
            sources = (mount_from,) if mount_from else ()
            push = ImagePush(
                repository, image, store, progress, mount_from=sources, connections=self._connections
            )
            return push.run(target.tag)

    def resolve(self, reference: str, *, platform: str | None = None, quiet: bool = False) -> RemoteImage:
        """What the reference names now, without its layers; indexes are followed for ``platform``."""
        from afenv_registry.resolve import resolve

        with self.repository(reference, actions="pull", quiet=quiet) as repository:
            return resolve(repository, platform=platform)

    def pull(
        self, reference: str, store: ContentStore, *, platform: str | None = None, quiet: bool = False
    ) -> Image:
        """Bring the image into the store: only missing blobs travel, each is checked on the way.

        E301 or E302 for content that is not what its digest or size says (nothing of it is kept), E604
        if there is no such image, E510 if it is none, E601, E602, E603, E201, E402, E403.
        """
        from afenv_registry.pull import pull_image
        from afenv_registry.resolve import resolve

        source = parse_reference(reference)
        with (
            Progress(f"pulling from {source.host}", 0, quiet=quiet) as progress,
            self._connected(source, "pull", progress) as repository,
        ):
            remote = resolve(repository, platform=platform)
            return pull_image(repository, remote, store, progress, self._connections)

    def push_graph(
        self,
        graph: Graph,
        store: Blobs,
        reference: str,
        *,
        quiet: bool = False,
        mount_from: str | None = None,
    ) -> str:
        """Send a manifest or index with all that it names; its digest. Errors as of :meth:`push`."""
        target = parse_reference(reference, need_host=True)
        if target.digest not in (None, graph.root.digest):
            raise AfenvError("E603", f"the manifest is {graph.root.digest}", place=reference)
        from afenv_registry.push import push_graph

        with (
            Progress(f"pushing to {target.host}", 0, quiet=quiet) as progress,
            self._connected(target, "pull,push", progress) as repository,
        ):
            return push_graph(
                repository,
                graph,
                store,
                progress,
                name=target.tag,
                mount_from=(mount_from,) if mount_from else (),
                connections=self._connections,
            )

    def pull_graph(
        self,
        reference: str,
        store: ContentStore,
        *,
        whole: bool = True,
        platform: str | None = None,
        quiet: bool = False,
    ) -> Graph:
        """Bring all that the reference names into the store. Errors as of :meth:`pull`."""
        source = parse_reference(reference)
        from afenv_registry.pull import pull_graph

        with (
            Progress(f"pulling from {source.host}", 0, quiet=quiet) as progress,
            self._connected(source, "pull", progress) as repository,
        ):
            return pull_graph(repository, store, progress, self._connections, whole=whole, platform=platform)

    @contextlib.contextmanager
    def repository(
        self, reference: str, *, actions: str = "pull,push", quiet: bool = False
    ) -> Iterator[Repository]:
        """The repository that the reference names, with its connections, until the block ends."""
        place = parse_reference(reference, need_host="push" in actions)
        with self._connected(place, actions, None) as repository:
            yield repository

    @contextlib.contextmanager
    def _connected(
        self, reference: Reference, actions: str, progress: Progress | None
    ) -> Iterator[Repository]:
        tell = progress.note if progress else lambda _: None
        own = Session(
            Transport(self._patience, tell), origin(reference, plain_http=self._plain_http), actions
        )
        less = replace(self._patience, connect=min(self._patience.connect, 5.0), attempts=2)
        others = [Session(Transport(less, tell), mirror, "pull") for mirror in mirrors(reference)]
        repository = Repository(own.transport, reference, own, others)
        try:
            yield repository
        finally:
            repository.close()
