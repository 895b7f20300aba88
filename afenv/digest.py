"""Digests in the form that OCI uses: ``sha256:<64 hexadecimal digits>``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from afenv.errors import AfenvError

PATTERN = re.compile(r"sha256:[0-9a-f]{64}\Z")
CHUNK = 1 << 20


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    """The digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_form(digest: str) -> str:
    """Return ``digest`` if it has the right form; raise E305 otherwise."""
    if not PATTERN.match(digest):
        raise AfenvError("E305", f"{digest!r} is not a sha256 digest")
    return digest


def hex_of(digest: str) -> str:
    """The hexadecimal part of a digest of the right form."""
    return check_form(digest)[len("sha256:") :]
