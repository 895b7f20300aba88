"""The unpacked image in the cache, for runtimes that run a folder."""

from __future__ import annotations

from pathlib import Path

from afenv.oci.model import Image
from afenv.store.content import ContentStore


def root_of(image: Image, store: ContentStore, *, make: bool, quiet: bool) -> Path:
    """The folder with the image's files; without ``make`` it may not be there yet."""
    from afenv.oci.unpack import unpacked_root

    return unpacked_root(image.layers, store, quiet=quiet)
