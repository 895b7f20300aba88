"""Images as values, whether afenv made them or read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from afenv.digest import sha256_bytes
from afenv.oci import media
from afenv.record import field, record


@record
class Descriptor:
    """What points at content: media type, digest and size in bytes (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The descriptor as it stands in a manifest or an index."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


@record
class ImageLayer:
    """One layer of an image.

    ``digest`` and ``size`` are those of the blob, ``diff_id`` that of the uncompressed tar; ``source``
    says for people what the layer holds.
    """

    diff_id: str
    digest: str
    size: int
    media_type: str
    source: str = ""


@record
class Image:
    """An image: the bytes of its config and its manifest, and its layers from the lowest up.

    ``name`` and ``tag`` are what local engines show; they are part of no digest.
    """

    config: bytes
    manifest: bytes
    layers: tuple[ImageLayer, ...]
    name: str = ""
    tag: str = ""
    config_media_type: str = media.IMAGE_CONFIG
    manifest_media_type: str = media.IMAGE_MANIFEST

    @property
    def image_id(self) -> str:
        """The identity of the image: the digest of its config."""
        return sha256_bytes(self.config)

    @property
    def manifest_digest(self) -> str:
        """The digest of the image manifest, by which registries know the image."""
        return sha256_bytes(self.manifest)

    @property
    def reference(self) -> str:
        """``name:tag``, or an empty text for an image without a name."""
        return f"{self.name}:{self.tag}" if self.name and self.tag else self.name

    @property
    def size(self) -> int:
        """Bytes of config, manifest and all layer blobs together."""
        return len(self.config) + len(self.manifest) + sum(layer.size for layer in self.layers)

    def configuration(self) -> dict[str, Any]:
        """The config, parsed."""
        value: dict[str, Any] = json.loads(self.config)
        return value

    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config."""
        return Descriptor(media_type=self.config_media_type, digest=self.image_id, size=len(self.config))

    def manifest_descriptor(self) -> Descriptor:
        """The descriptor of the manifest, with its annotations left out."""
        return Descriptor(
            media_type=self.manifest_media_type, digest=self.manifest_digest, size=len(self.manifest)
        )

    def platform(self) -> dict[str, str]:
        """``os``, ``architecture`` and, where there is one, ``variant``."""
        config = self.configuration()
        return {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}


class Blobs(Protocol):
    """Where blobs are read from; the content store is one."""

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading; an AfenvError if it is not there."""
        ...  # pragma: no cover


@record
class ImageBlobs:
    """The small blobs of an image from memory, everything else from ``rest``."""

    image: Image
    rest: Blobs

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading."""
        import io

        if digest == self.image.image_id:
            return io.BytesIO(self.image.config)
        if digest == self.image.manifest_digest:
            return io.BytesIO(self.image.manifest)
        return self.rest.open(digest)
