"""Images of other tools, brought into the content store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from afenv.errors import AfenvError
from afenv.layers import gzip_members
from afenv.oci import media
from afenv.oci.base import MEDIA_TYPES
from afenv.oci.image import image_manifest
from afenv.oci.model import Image, ImageLayer
from afenv.oci.read import OpenedImage, open_image
from afenv.store.content import ContentStore
from afenv.store.writing import BlobWriter


def import_image(archive: Path, store: ContentStore) -> Image:
    """The image of an archive or a layout, its layers and documents in ``store``.

    Layers that are not compressed are, the others stay as they are; each is held to its diff_id. The
    config stays as it is, and with it the image ID. E301 for a layer with another content, and what
    :func:`afenv.oci.read.open_image` raises.
    """
    with open_image(archive) as opened:
        layers = tuple(_import_layer(opened, number, store) for number in range(len(opened.image.layers)))
        config = opened.image.config
    manifest = image_manifest(config, layers)
    store.put(config)
    store.put(manifest)
    return Image(config=config, manifest=manifest, layers=layers)


def _import_layer(opened: OpenedImage, number: int, store: ContentStore) -> ImageLayer:
    layer = opened.image.layers[number]
    media_type = MEDIA_TYPES.get(layer.media_type, layer.media_type)
    with opened.blobs.open(layer.digest) as file, store.writer(durable=False) as writer:
        if media_type == media.LAYER_TAR:
            diff_id, expected = _deflated(file, writer), None
            media_type = media.LAYER_GZIP
        else:
            while data := file.read(gzip_members.MEMBER):
                writer.write(data)
            diff_id, expected = layer.diff_id, layer.digest  # the diff_id is checked by those who read it
        if diff_id != layer.diff_id:
            raise AfenvError("E301", f"the config says {layer.diff_id}, the layer is {diff_id}")
        size = writer.size
        digest = writer.commit(expected)
    return ImageLayer(diff_id=diff_id, digest=digest, size=size, media_type=media_type, source=layer.source)


def _deflated(file: BinaryIO, writer: BlobWriter) -> str:
    """Compress a tar and return its diff_id."""
    seen = hashlib.sha256()
    while data := file.read(gzip_members.MEMBER):
        seen.update(data)
        writer.write(gzip_members.member(data))
    return "sha256:" + seen.hexdigest()
