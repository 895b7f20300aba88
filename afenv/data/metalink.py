"""Metalink (RFC 5854): lists of files and their replicas, as Rucio and others write them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from afenv.documents.data import CHECKSUM_DIGITS, LockedDataFile
from afenv.errors import AfenvError

_SPACE = "{urn:ietf:params:xml:ns:metalink}"
_NAMES = {"sha-1": "sha1", "sha-256": "sha256", "sha-512": "sha512"}  # the IANA names of hash functions
LIMIT = 256 << 20


def read_metalink(path: Path, name: str) -> list[LockedDataFile]:
    """The files that the metalink of the data ``name`` lists, replicas by their priority; E001, E648."""
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot read the metalink of the data {name}: {error.strerror}"
        raise AfenvError("E001", message, place=str(path)) from None
    return parse_metalink(data, str(path))


def parse_metalink(data: bytes, place: str) -> list[LockedDataFile]:
    """The files in the bytes of a metalink; E648 if it is none, or has a document type."""
    if len(data) > LIMIT or re.search(rb"<!(DOCTYPE|ENTITY)", data):  # no document type: nothing to expand
        raise AfenvError("E648", "a metalink has no document type, and is not that large", place=place)
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AfenvError("E648", f"not well-formed: {error}", place=place) from None
    if root.tag != f"{_SPACE}metalink":
        raise AfenvError("E648", f"expected the element metalink of RFC 5854, found {root.tag}", place=place)
    return [_file(element, place) for element in root.iter(f"{_SPACE}file")]


def _file(element: ElementTree.Element, place: str) -> LockedDataFile:
    name = element.get("name", "")
    if not name:
        raise AfenvError("E648", "a file without a name", place=place)
    size = (element.findtext(f"{_SPACE}size") or "").strip()
    if size and not (size.isdecimal() and len(size) < 20):
        raise AfenvError("E648", f"the size of {name} is {size!r}", place=place)
    uris = []
    for position, url in enumerate(element.iter(f"{_SPACE}url")):
        priority = url.get("priority", "")
        known = priority.isdecimal() and len(priority) < 7
        if text := (url.text or "").strip():
            uris.append((int(priority) if known else 999999, position, text))
    if not uris:
        raise AfenvError("E648", f"the file {name} has no place", place=place)
    checksums = {}
    for entry in element.iter(f"{_SPACE}hash"):
        kind = entry.get("type", "").lower()
        algorithm = _NAMES.get(kind, kind)
        digits = (entry.text or "").strip().lower()
        count = CHECKSUM_DIGITS.get(algorithm)
        if count is not None:  # others say nothing to us
            if not re.fullmatch(rf"[0-9a-f]{{1,{count}}}", digits):
                raise AfenvError("E648", f"the {algorithm} of {name} is {digits!r}", place=place)
            checksums[algorithm] = digits.zfill(count)
    return LockedDataFile(
        path=name,
        size=int(size) if size else None,
        checksums=checksums,
        uris=tuple(uri for _, _, uri in sorted(uris)),
    )
