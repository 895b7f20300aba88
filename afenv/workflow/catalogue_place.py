"""Which catalogue is meant, and whose signature on it counts: by options, or by the host's settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from afenv.catalogue.signed import TrustedKey, read_trusted
from afenv.catalogue.sources import Place, find_place
from afenv.errors import AfenvError


def place_of(text: str | None, folder: Path) -> Place:
    """The place of the catalogue that an option names, or else ``AFENV_CATALOGUE``; E620 if neither does."""
    text = text or os.environ.get("AFENV_CATALOGUE")
    if not text:
        raise AfenvError("E620", "no catalogue is named")
    return find_place(text, folder)


def trusted_keys(trust: Sequence[Path], folder: Path) -> tuple[TrustedKey, ...]:
    """The keys in these files, or else in those of ``AFENV_CATALOGUE_TRUST``, separated by colons; E001."""
    paths = [folder / path for path in trust]
    paths = paths or [
        Path(path).expanduser() for path in os.environ.get("AFENV_CATALOGUE_TRUST", "").split(":") if path
    ]
    return read_trusted(paths)
