"""Layers as values: what is planned, and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from afenv.digest import PATTERN
from afenv.documents.cvmfs import LockedCvmfsPart
from afenv.documents.lock import LockedCode, LockedConda, LockedDeb, LockedWheel
from afenv.record import field, record

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# Every file of a package has this modification time (1980-01-01T00:00:00Z, the earliest that a zip
# archive can hold), so that a layer depends on its packages alone and can be shared by analyses.
PACKAGE_MTIME = 315532800

# Where programs are looked for in every image.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@record
class PlannedLayer:
    """One layer to be written: a name for people, and the inputs that it holds.

    ``debs``, ``conda`` and ``wheels`` are sorted by name. ``kind`` tells which writer takes it:
    ``debian``, ``conda`` and ``pypi`` hold packages, ``system`` the files that Debian's maintainer
    scripts would have made, ``conda-environment`` those of a conda environment that belong to no
    package, ``cvmfs`` parts of CVMFS repositories, ``code`` the analysis code.
    """

    name: str
    kind: Literal["debian", "system", "cvmfs", "conda", "conda-environment", "pypi", "code"]
    debs: tuple[LockedDeb, ...] = ()
    conda: tuple[LockedConda, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    cvmfs: tuple[LockedCvmfsPart, ...] = ()
    code: LockedCode | None = None


@record
class Layer:
    """A layer in the content store.

    ``diff_id`` is the digest of the uncompressed tar, ``digest`` and ``size`` (bytes) those of the blob
    as it is stored; ``source`` says for people what it holds; ``listing`` is the digest of its
    listing in the content store (see :mod:`afenv.layers.listing`). ``variables`` are what the layer adds
    to the environment of the image, and ``entrypoint`` what a container has to start with before its
    command.
    """

    diff_id: str
    digest: str
    size: int
    source: str
    listing: str
    media_type: str = GZIP_LAYER
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    entrypoint: tuple[str, ...] = ()


def is_layer(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether what was kept of a layer has its form; its source and media type may be left out."""
    if not isinstance(value, dict) or not value.keys() <= Layer.__annotations__.keys():
        return False
    variables, entrypoint = value.get("variables", {}), value.get("entrypoint", ())
    digests = (value.get("diff_id"), value.get("digest"), value.get("listing"))
    return (
        all(isinstance(one, str) and PATTERN.match(one) for one in digests)
        and isinstance(value.get("size"), int)
        and isinstance(variables, dict)
        and isinstance(entrypoint, list | tuple)
        and all(isinstance(value.get(name, ""), str) for name in ("source", "media_type"))
        and all(isinstance(one, str) for one in (*variables.values(), *entrypoint))
    )
