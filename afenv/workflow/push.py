"""Sending an image that was built to a registry."""

from __future__ import annotations

from pathlib import Path

from afenv.oci.read import open_image
from afenv.oci.registries import find_registry


def push_layout(path: Path, reference: str, *, quiet: bool = False) -> str:
    """Push an image layout or archive to a registry and return the manifest's digest."""
    with open_image(path) as opened:
        return find_registry().push(opened.image, opened.blobs, reference, quiet=quiet)
