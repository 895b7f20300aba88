"""Images as one tar file that is an ``oci-archive`` and a ``docker-archive`` at once.

It has the files of an OCI image layout and, for Docker, ``manifest.json``, which names the same blobs.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from afenv import canonical
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci.layout import OCI_LAYOUT, small_blobs
from afenv.oci.model import Image
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.oci.attached import Attachment


def _docker_manifest(image: Image) -> bytes:
    entry: dict[str, Any] = {
        "Config": f"blobs/sha256/{hex_of(image.image_id)}",
        "RepoTags": [image.reference] if image.name and image.tag else None,
        "Layers": [f"blobs/sha256/{hex_of(layer.digest)}" for layer in image.layers],
    }
    return canonical.compact([entry])


def archive_members(
    image: Image, omit: Collection[str] = (), attachments: Sequence[Attachment] = ()
) -> Iterable[tuple[str, int, bytes | str]]:
    """The members of the archive in order: name, size, and either the bytes or the digest of a blob.

    Layers whose diff_id is in ``omit`` are left out, for an engine that has them already.
    """
    index, blobs = small_blobs(image, None, attachments)
    small = (
        ("oci-layout", OCI_LAYOUT),
        ("index.json", index),
        ("manifest.json", _docker_manifest(image)),
        *((f"blobs/sha256/{hex_of(digest)}", data) for digest, data in blobs.items()),
    )
    for name, data in small:
        yield name, len(data), data
    seen = set()
    for layer in image.layers:
        if layer.diff_id not in omit and layer.digest not in seen:
            seen.add(layer.digest)
            yield f"blobs/sha256/{hex_of(layer.digest)}", layer.size, layer.digest


def write_archive(
    image: Image,
    store: ContentStore,
    stream: BinaryIO,
    *,
    omit: Collection[str] = (),
    attachments: Sequence[Attachment] = (),
    advance: Callable[[int], None] | None = None,
) -> None:
    """Write the image as one tar that Docker, Podman, skopeo and umoci's kin accept; same bytes each time.

    It is an ``oci-archive`` and a ``docker-archive``; ``attachments`` go with it as in a layout. ``advance``
    is told the bytes as they go out.
    E305 if the store lacks a layer.
    """

    def out(data: bytes | memoryview) -> None:
        stream.write(data)
        if advance is not None:
            advance(len(data))

    written = 0
    for folder in ("blobs", "blobs/sha256"):  # Apptainer does not make folders that no member names
        information = tarfile.TarInfo(folder)
        information.type = tarfile.DIRTYPE
        information.mode = 0o755
        out(information.tobuf(format=tarfile.GNU_FORMAT))
        written += 512
    for name, size, content in archive_members(image, omit, attachments):
        information = tarfile.TarInfo(name)
        information.size = size
        information.mode = 0o444
        out(information.tobuf(format=tarfile.GNU_FORMAT))
        source: BinaryIO = io.BytesIO(content) if isinstance(content, bytes) else store.open(content)
        with source:
            count = 0
            while data := source.read(1 << 20):
                count += len(data)
                out(data)
        if count != size:
            raise AfenvError("E305", f"{name} has {count} bytes, expected {size}", place=str(store.folder))
        padding = -size % 512
        out(bytes(padding))
        written += 512 + size + padding
    out(bytes(1024 + -(written + 1024) % tarfile.RECORDSIZE))
