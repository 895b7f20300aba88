"""The port of registries, and how its implementation is found (entry point group ``afenv.registries``)."""

from __future__ import annotations

from typing import Protocol

from afenv.errors import AfenvError
from afenv.oci.model import Blobs, Image

GROUP = "afenv.registries"


class Registry(Protocol):
    """What sends images to a kind of registry. Failures are AfenvErrors."""

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


def find_registry(kind: str = "oci") -> Registry:
    """The registry client of that name; E030 if none is installed."""
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=kind):
        registry: Registry = point.load()()
        return registry
    raise AfenvError("E030", f"no client for registries of kind {kind!r} is installed")
