"""A bag as an artifact in an OCI registry: its files are the layers, each with its name."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.oci import media
from afenv.oci.artifact import EMPTY
from afenv.oci.graph import Graph, walk
from afenv.oci.registries import RemoteManifest
from afenv.record import record
from afenv.submit.files import Sent


@record
class BagFiles:
    """Where the blobs of the artifact are: the files, and an empty config."""

    paths: Mapping[str, Path]

    def open(self, digest: str) -> BinaryIO:
        """The blob, opened for reading."""
        path = self.paths.get(digest)
        return io.BytesIO(EMPTY) if path is None else path.open("rb")


def bag_graph(files: Sequence[Sent], annotations: Mapping[str, str]) -> tuple[Graph, BagFiles]:
    """The graph of a bag's artifact, and its blobs; the files have their digests."""
    value = {
        "schemaVersion": 2,
        "mediaType": media.IMAGE_MANIFEST,
        "artifactType": media.ARCHIVE,
        "config": {"mediaType": media.EMPTY, "digest": sha256_bytes(EMPTY), "size": len(EMPTY)},
        "layers": [
            {
                "mediaType": media.ARCHIVE,
                "digest": f"sha256:{file.sha256}",
                "size": file.size,
                "annotations": {media.TITLE: file.name},
            }
            for file in files
        ],
        "annotations": dict(annotations),
    }
    root = RemoteManifest(content=canonical.compact(value), media_type=media.IMAGE_MANIFEST)
    return walk(root, _nothing), BagFiles(paths={f"sha256:{file.sha256}": file.path for file in files})


def _nothing(_: object) -> RemoteManifest:
    raise AssertionError("an artifact names no other manifest")
