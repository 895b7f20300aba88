"""Layers as values: what is planned, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from afenv.documents.lock import LockedCode, LockedDeb, LockedWheel

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# Every file of a package has this modification time (1980-01-01T00:00:00Z, the earliest that a zip
# archive can hold), so that a layer depends on its packages alone and can be shared by analyses.
PACKAGE_MTIME = 315532800


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedLayer:
    """One layer to be written: a name for people, and the inputs that it holds.

    ``debs`` and ``wheels`` are sorted by name. ``kind`` tells which writer takes it: ``debian`` and
    ``pypi`` hold packages, ``system`` the files that Debian's maintainer scripts would have made,
    ``code`` the analysis code.
    """

    name: str
    kind: Literal["debian", "system", "pypi", "code"]
    debs: tuple[LockedDeb, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    code: LockedCode | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer in the content store.

    ``diff_id`` is the digest of the uncompressed tar, ``digest`` and ``size`` (bytes) those of the blob
    as it is stored; ``source`` says for people what it holds; ``listing`` is the digest of its
    listing in the content store (see :mod:`afenv.layers.listing`).
    """

    diff_id: str
    digest: str
    size: int
    source: str
    listing: str
    media_type: str = GZIP_LAYER
