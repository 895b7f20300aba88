"""The files of a bag, by their names; and which names are safe to have.

The form is BagIt 1.0 (RFC 8493) with RO-Crate inside: the payload folder ``data`` is the crate.
"""

from __future__ import annotations

import re

from afenv.errors import AfenvError

PAYLOAD = "data/"
INDEX = "afenv-archive.json"  # below data/
CRATE = "ro-crate-metadata.json"
README = "README.md"
LOCK = "afenv.lock"
MANIFEST = "afenv.yaml"
IMAGE = "image"  # the OCI layout
VM = "vm"  # virtual machines, a folder for each environment
DECLARATION = "bagit.txt"
INFO = "bag-info.txt"
ALGORITHMS = ("sha256", "sha512")
MANIFESTS = tuple(f"manifest-{one}.txt" for one in ALGORITHMS)
TAG_MANIFESTS = tuple(f"tagmanifest-{one}.txt" for one in ALGORITHMS)
HEAD = (DECLARATION, INFO, README)  # tag files before the payload
TAGS = (*HEAD, *MANIFESTS)  # what the tag manifests name

LONGEST = 1024  # bytes of a path
FILES = 2_000_000  # files that a bag may have

_UNSAFE = re.compile(r"[^A-Za-z0-9._+~@=,!-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udc7f\udd00-\udfff]")  # or of no byte in a file system


def safe_part(text: str) -> str:
    """The text as one part of a path, with ``_`` in the place of what a file system may not like."""
    return _UNSAFE.sub("_", text).lstrip(".") or "_"


def check_path(path: str, place: str) -> str:
    """The path, if it leads to a file inside the bag on every system; else E725."""
    parts = path.split("/")
    if (
        not path
        or _CONTROL.search(path)
        or any(part in ("", ".", "..") for part in parts)
        or re.match(r"[A-Za-z]:", path)
        or len(path.encode("utf-8", "surrogateescape")) > LONGEST
    ):
        raise AfenvError("E725", f"{path[:200]!r} is not the path of a file inside the bag", place=place)
    return path
