"""The port by which layers that other machines wrote are known here, before their bytes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from afenv.layers.model import PlannedLayer


class Elsewhere(Protocol):
    """What others found out under the keys that :class:`afenv.store.content.ContentStore` uses too.

    ``layer`` leads to a layer's digests and size, ``owners`` and ``deb-owners`` to which package has which
    path. Whoever implements this answers for the values: layers are taken as they are named.
    """

    def values(self, kind: str, keys: Sequence[str]) -> Mapping[str, Any]:
        """The values of those keys that are known."""
        ...  # pragma: no cover

    def bring(self, digest: str) -> None:
        """Bring a small blob that a value names into the content store, if it can be had."""
        ...  # pragma: no cover

    def used(self, kind: str, key: str, value: Any, planned: PlannedLayer | None = None) -> None:
        """Hear of a value that this build uses; ``planned`` is the layer that it is about."""
        ...  # pragma: no cover
