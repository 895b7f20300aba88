"""Files as artifacts: SIFs in the form in which Apptainer keeps them in registries, locks, manifests.

A SIF is one layer and an empty config, both of Sylabs' media types; that is what ``apptainer pull oras://…``
expects. The other files have the form of image-spec 1.1 (manifest.md, "Guidelines for artifact usage").
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from afenv import canonical
from afenv.digest import sha256_bytes, sha256_file
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.graph import Graph, descriptors, walk
from afenv.oci.registries import RemoteManifest
from afenv.record import record

EMPTY = b"{}"
DOCUMENTS = {
    "afenv.lock": media.LOCK,
    "afenv.yaml": media.ANALYSIS_MANIFEST,
    "afenv.yml": media.ANALYSIS_MANIFEST,
}


@record
class FileBlob:
    """Where the blobs of a file's graph are: the file itself, and an empty config."""

    path: Path
    digest: str

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading."""
        import io

        if digest == self.digest:
            return self.path.open("rb")
        return io.BytesIO(EMPTY)


def kind_of(path: Path) -> str | None:
    """The media type under which a file is kept in registries; None if it is none of those known."""
    from afenv.oci.sif import is_sif

    try:
        with path.open("rb") as file:
            if is_sif(file.read(64)):
                return media.SIF_LAYER
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    return DOCUMENTS.get(path.name, media.LOCK if path.suffix == ".lock" else None)


def file_graph(path: Path, kind: str) -> tuple[Graph, FileBlob]:
    """The graph of a file's artifact, and its blobs; the file is read once, for its digest."""
    digest = sha256_file(path)
    sif = kind == media.SIF_LAYER
    value = {
        "schemaVersion": 2,
        "mediaType": media.IMAGE_MANIFEST,
        **({} if sif else {"artifactType": kind}),
        "config": {
            "mediaType": media.SIF_CONFIG if sif else media.EMPTY,
            "digest": sha256_bytes(EMPTY),
            "size": len(EMPTY),
        },
        "layers": [
            {
                "mediaType": kind,
                "digest": digest,
                "size": path.stat().st_size,
                "annotations": {media.TITLE: path.name},
            }
        ],
    }
    root = RemoteManifest(content=canonical.compact(value), media_type=media.IMAGE_MANIFEST)
    return walk(root, _nothing), FileBlob(path=path, digest=digest)


def _nothing(_: object) -> RemoteManifest:
    raise AssertionError("an artifact names no other manifest")


@record
class File:
    """A file in an artifact; ``title`` is a plain file name, or empty."""

    title: str
    media_type: str
    digest: str
    size: int


def files_of(manifest: RemoteManifest) -> tuple[File, ...] | None:
    """The files of an artifact; None for a container image. E304 for a title that is not a file name."""
    config = manifest.document().get("config") or {}
    if config.get("mediaType") in (media.IMAGE_CONFIG, media.DOCKER_CONFIG):
        return None
    found = []
    for one in descriptors(manifest, "layers"):
        title = str((one.get("annotations") or {}).get(media.TITLE) or "")
        if title in (".", "..") or "/" in title or "\0" in title:
            raise AfenvError("E304", f"{title!r} is not a file name", place=manifest.digest)
        kind = str(one.get("mediaType") or "")
        found.append(File(title=title, media_type=kind, digest=one["digest"], size=one["size"]))
    return tuple(found)
