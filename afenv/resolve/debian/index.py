"""``Packages``, the list of an archive's packages: parsed once, then read from a compact form.

The compact form holds, of each package, only the fields that resolving needs. It begins with one line of
JSON::

    {"names": {NAME: [START, END, …]}, "provides": {VIRTUAL: [NAME, …]}, "essential": [NAME, …]}

and goes on with the stanzas, which are found by those byte ranges (counted from the end of that line). So
a resolution reads some hundred stanzas and not all 63,000.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedFile
from afenv.errors import AfenvError
from afenv.store.content import ContentStore

FORM = 1  # of the compact form
CONTROL_FIELDS = (
    "Pre-Depends",
    "Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Essential",
    "Multi-Arch",
    "Priority",
)
_FILE_FIELDS = ("Package", "Version", "Architecture", "Source", "Filename", "Size", "SHA256")
_KEPT = frozenset(field.encode() for field in (*_FILE_FIELDS, *CONTROL_FIELDS))


class Fetcher(Protocol):
    """What this package needs of :class:`afenv.store.fetch.Fetcher`."""

    def get(self, url: str) -> bytes: ...

    def file(self, file: LockedFile, *, title: str | None = None) -> Path: ...


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """The packages of one archive, architecture and component."""

    names: Mapping[str, list[int]]
    provides: Mapping[str, list[str]]
    essential: tuple[str, ...]
    stanzas: memoryview

    def stanzas_of(self, name: str) -> list[dict[str, str]]:
        """The fields of each version of a package; none if there is no package of that name."""
        places = self.names.get(name, ())
        return [
            dict(
                line.split(": ", 1)
                for line in str(self.stanzas[start:end], "utf-8").split("\n")
                if ": " in line
            )
            for start, end in zip(places[::2], places[1::2], strict=True)
        ]


def compact_form(packages: bytes) -> bytes:
    """The compact form of a ``Packages`` file; E303 if a stanza lacks a field that every package has."""
    names: dict[str, list[int]] = {}
    provides: dict[str, list[str]] = {}
    essential: set[str] = set()
    kept: list[bytes] = []
    position = 0
    for stanza in packages.split(b"\n\n"):
        fields = {}
        for line in stanza.replace(b"\n ", b"\r").replace(b"\n\t", b"\r").split(b"\n"):
            field, _, value = line.partition(b":")
            if field in _KEPT:
                fields[field] = value.strip().replace(b"\r", b" ")
        if not fields:
            continue
        try:
            name = fields[b"Package"].decode("ascii")
            if not (fields[b"Version"] and fields[b"Filename"] and fields[b"SHA256"] and fields[b"Size"]):
                raise KeyError(name)
        except (KeyError, UnicodeDecodeError):
            raise AfenvError("E303", f"the package list has a damaged stanza: {stanza[:60]!r}") from None
        text = b"\n".join([field + b": " + value for field, value in fields.items()])
        kept.append(text)
        names.setdefault(name, []).extend((position, position + len(text)))
        position += len(text) + 1
        if fields.get(b"Essential") == b"yes":
            essential.add(name)
        for item in fields.get(b"Provides", b"").split(b","):
            virtual = item.partition(b"(")[0].strip().partition(b":")[0].decode("ascii", "replace")
            if virtual and name not in provides.setdefault(virtual, []):
                provides[virtual].append(name)
    head = {"names": names, "provides": provides, "essential": sorted(essential)}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"\n".join(kept)


def open_index(form: bytes) -> PackageIndex:
    """The index that a compact form holds."""
    end = form.index(b"\n")
    head: dict[str, Any] = json.loads(form[:end])
    return PackageIndex(
        head["names"], head["provides"], tuple(head["essential"]), memoryview(form)[end + 1 :]
    )


def _unpack(data: bytes, name: str) -> bytes:
    import gzip
    import lzma

    try:
        if name.endswith(".xz"):
            return lzma.decompress(data)
        if name.endswith(".gz"):
            return gzip.decompress(data)
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise AfenvError("E303", f"the package list cannot be unpacked: {error}", place=name) from error
    return data


def load_index(
    file: LockedFile, name: str, fetcher: Fetcher, store: ContentStore, *, title: str
) -> PackageIndex:
    """The index of a ``Packages`` file, from the compact form in the store if it was parsed before.

    ``name`` is its name in the archive (its ending tells the compression). E301 if the content has not the
    digest that the signed index gives it; and the errors of downloading.
    """
    key = sha256_bytes(f"{FORM} {file.sha256}".encode())
    known = store.load_key("debian-index", key)
    if isinstance(known, str) and store.has(known):
        return open_index(store.read(known))
    raw = fetcher.file(file, title=title).read_bytes()
    found = sha256_bytes(raw)
    if found != file.digest:
        raise AfenvError("E301", f"expected {file.digest}, found {found}", place=file.urls[0])
    form = compact_form(_unpack(raw, name))
    store.save_key("debian-index", key, store.put(form))
    return open_index(form)
