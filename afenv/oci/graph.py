"""A manifest or index with everything that it names, as registries and layouts hold it.

That is what is sent and brought as a whole: images for several platforms, SIFs, documents. The walk over it
is a function of what ``get`` gives; it ends, whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afenv.digest import PATTERN, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.registries import RemoteManifest
from afenv.record import record

DEPTH = 4  # indexes inside indexes
MANIFESTS = 1000  # in one graph
INDEXES = (media.IMAGE_INDEX, media.DOCKER_INDEX)
IMAGES = (media.IMAGE_MANIFEST, media.DOCKER_MANIFEST)

Get = Callable[[Mapping[str, Any]], RemoteManifest]


@record
class Graph:
    """``inner`` are the manifests that ``root`` names, each after those that it names itself.

    ``blobs`` are sizes in bytes by digest.
    """

    root: RemoteManifest
    inner: tuple[RemoteManifest, ...]
    blobs: Mapping[str, int]

    def manifests(self) -> dict[str, RemoteManifest]:
        """All manifests by digest, the root last."""
        return {one.digest: one for one in (*self.inner, self.root)}


def is_index(manifest: RemoteManifest) -> bool:
    """Whether it is an index, by its type or, where that is missing, by its form."""
    if manifest.media_type in INDEXES:
        return True
    return manifest.media_type not in IMAGES and "manifests" in manifest.document()


def check_descriptor(value: Any, place: str) -> None:
    """E602 unless it is a descriptor with a sha256 digest and a size (OCI image-spec, descriptor.md)."""
    good = (
        isinstance(value, dict)
        and isinstance(value.get("digest"), str)
        and PATTERN.match(value["digest"])
        and type(value.get("size")) is int
        and value["size"] >= 0
        and isinstance(value.get("mediaType", ""), str)
        and isinstance(value.get("platform") or {}, dict)
        and isinstance(value.get("annotations") or {}, dict)
    )
    if not good:
        raise AfenvError("E602", f"a manifest has a descriptor that is none: {str(value)[:200]}", place=place)


def descriptors(manifest: RemoteManifest, key: str) -> list[dict[str, Any]]:
    """The descriptors in a list of a manifest or index; E602 if one is malformed."""
    found, place = manifest.document().get(key) or [], manifest.digest
    for one in found if isinstance(found, list) else [None]:
        check_descriptor(one, place)
    return list(found)


def walk(root: RemoteManifest, get: Get) -> Graph:
    """The graph under ``root``; ``get`` gives the manifest that a descriptor names, checked.

    E602 for what is malformed, nested too deeply, or too much.
    """
    inner: dict[str, RemoteManifest] = {}
    blobs: dict[str, int] = {}

    def visit(manifest: RemoteManifest, above: tuple[str, ...]) -> None:
        digest = manifest.digest
        if len(above) > DEPTH or digest in above:
            raise AfenvError("E602", "its indexes are nested too deeply", place=digest)
        if not is_index(manifest):
            config = manifest.document().get("config")
            if config is None:
                raise AfenvError("E602", "its manifest is of a kind that is not supported", place=digest)
            check_descriptor(config, digest)
            for one in (config, *descriptors(manifest, "layers")):
                if blobs.setdefault(one["digest"], one["size"]) != one["size"]:
                    raise AfenvError("E602", f"{one['digest']} has two sizes", place=digest)
            return
        for one in descriptors(manifest, "manifests"):
            if one["digest"] in inner:
                continue
            if len(inner) >= MANIFESTS:
                raise AfenvError("E602", f"it has more than {MANIFESTS} manifests", place=digest)
            found = get(one)
            visit(found, (*above, digest))
            inner[one["digest"]] = found

    visit(root, ())
    return Graph(root=root, inner=tuple(inner.values()), blobs=blobs)


def checked_member(content: bytes, descriptor: Mapping[str, Any]) -> RemoteManifest:
    """The manifest of these bytes, which a descriptor names; E301 or E302 if they are not those."""
    if len(content) != descriptor["size"]:
        text = f"{descriptor['digest']} has {len(content)} bytes, not {descriptor['size']}"
        raise AfenvError("E302", text)
    if (found := sha256_bytes(content)) != descriptor["digest"]:
        raise AfenvError("E301", f"{descriptor['digest']} has another content: {found}")
    return RemoteManifest(
        content=content, media_type=str(descriptor.get("mediaType") or media.IMAGE_MANIFEST)
    )
