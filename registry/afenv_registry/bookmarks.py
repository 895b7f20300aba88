"""How far the uploads of large blobs came, so that the next process goes on there.

A bookmark is ``tmp/upload-…`` in the content store: the URL at which the registry takes the rest. It is
for its owner alone, as who knows the URL may be able to write to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from afenv.digest import hex_of, sha256_bytes
from afenv.settings import load_settings

LONGEST = 7 * 86_400.0  # seconds; registries forget uploads that are older


def _path(place: str, digest: str) -> Path:
    name = hex_of(sha256_bytes(f"{place} {digest}".encode()))[:32]
    return load_settings().cache_folder / "tmp" / f"upload-{name}"


def load_bookmark(place: str, digest: str) -> str | None:
    """The URL of an upload of the blob to this repository that was broken off; None if there is none."""
    path = _path(place, digest)
    try:
        if time.time() - path.stat().st_mtime > LONGEST:
            return None
        value = json.loads(path.read_bytes())
        return str(value["url"]) if value["digest"] == digest and value["place"] == place else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_bookmark(place: str, digest: str, url: str) -> None:
    """Remember where the upload goes on; a failure to do so is none of the upload."""
    path = _path(place, digest)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"place": place, "digest": digest, "url": url}, file)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def remove_bookmark(place: str, digest: str) -> None:
    """Forget the upload."""
    with contextlib.suppress(OSError):
        _path(place, digest).unlink(missing_ok=True)
