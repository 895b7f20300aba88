"""Sending what is not a single image: images for several platforms, SIFs, locks and manifests."""

from __future__ import annotations

import json
from pathlib import Path

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.registries import find_registry


def holds_one_image(path: Path) -> bool:
    """Whether a folder is plainly a layout of one image, so that nothing else need be looked for."""
    try:
        (entry,) = json.loads((path / "index.json").read_bytes())["manifests"]
        return "index" not in entry["mediaType"] and "list" not in entry["mediaType"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def push_other(
    path: Path,
    reference: str,
    *,
    quiet: bool = False,
    mount_from: str | None = None,
    signed: bool = False,
) -> str | None:
    """Push images for several platforms, a SIF, a lock or a manifest; None if it is none of these.

    The digest of the index or manifest comes back. E001 if there is nothing at ``path``;
    E030, before anything is sent, if it should be ``signed``: only single images are;
    E510 for a SIF that is not whole.
    """
    unsigned = "only images for one platform can be signed while they are pushed; see `afenv sign`"
    registry = find_registry()
    if path.is_file():
        from afenv.oci.artifact import file_graph, kind_of
        from afenv.oci.sif import read_sif

        kind = kind_of(path)
        if kind is not None:
            if signed:
                raise AfenvError("E030", unsigned, place=str(path))
            if kind == media.SIF_LAYER:
                read_sif(path)
            graph, blob = file_graph(path, kind)
            return registry.push_graph(graph, blob, reference, quiet=quiet, mount_from=mount_from)
    from afenv.oci.graph_layout import open_graph

    try:
        with open_graph(path) as found:
            if found is None:
                return None
            if signed:
                raise AfenvError("E030", unsigned, place=str(path))
            return registry.push_graph(*found, reference, quiet=quiet, mount_from=mount_from)
    except AfenvError as error:
        if error.code == "E510":  # a docker-archive, or nothing at all: others say it better
            return None
        raise
