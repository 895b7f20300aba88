"""References to data: what a manifest says of them, and what the lock knows. Frozen values.

Design goals: a reference is one URI that a person can write down; what it leads to, files with sizes,
checksums and places, is found once and written into the lock; data that is not pinned is still named. The
norms are ``specs/manifest/v1`` and ``specs/lock/v1``. :mod:`afenv.data` reads and fetches the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.record import field, record

# References that are looked up in a service; others are a file, or a folder if the path ends with a slash.
_RECORD = re.compile(
    r"(?:rucio|cernopendata|doi):|https?://(?:(?:dx\.)?doi\.org/10\.|opendata\.cern\.ch/record/[0-9]|"
    r"(?:www\.)?zenodo\.org/records?/[0-9]+/?\Z)"
)
CHECKSUM_DIGITS = {"adler32": 8, "md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f]+"
INSIDE = re.compile(rf"{_PART}(?:/{_PART})*\Z")  # a relative path that stays inside its folder


@record
class DataReference:
    """What a manifest says of data.

    ``size`` is in bytes; ``checksums`` are hexadecimal digits by algorithm; both are of the one file that
    ``uri`` is. ``replicas`` are other URIs of the same file, ``select`` patterns for the files that are
    wanted of a record or a folder, ``metalink`` a list of replicas (RFC 5854), relative to the manifest.
    """

    name: str
    uri: str
    size: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    replicas: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    metalink: str | None = None


@record
class LockedDataFile:
    """One file of data.

    ``path`` is relative to the folder that the data is fetched into, and never leads out of it. ``uris`` are
    its replicas, the preferred one first; a ``file:`` URI is relative to the manifest. What is not known is
    None, or not among ``checksums`` (hexadecimal digits by algorithm).
    """

    path: str
    size: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    uris: tuple[str, ...]

    @property
    def sha256(self) -> str | None:
        """The sha256 in hexadecimal digits, where it is known."""
        return self.checksums.get("sha256")

    @property
    def pinned(self) -> bool:
        """Whether size and sha256 are known, so that the file cannot be another one."""
        return self.size is not None and "sha256" in self.checksums


@record
class LockedData:
    """What the lock knows of one reference.

    ``request`` is the digest of what the manifest says of it. Without ``files``, it was not resolved.
    """

    name: str
    uri: str
    request: str
    files: tuple[LockedDataFile, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether every file is."""
        return bool(self.files) and all(file.pinned for file in self.files)

    @property
    def size(self) -> int | None:
        """The bytes of all files together; None if that is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes or not sizes else sum(size for size in sizes if size is not None)


def data_request(reference: DataReference, folder: Path) -> str:
    """The digest of what a manifest in ``folder`` says of data; E001 if its metalink cannot be read."""
    value = {
        "uri": reference.uri,
        "size": reference.size,
        "checksums": dict(reference.checksums),
        "replicas": list(reference.replicas),
        "select": list(reference.select),
        "metalink": metalink_digest(reference, folder),
    }
    return sha256_bytes(canonical.compact({key: entry for key, entry in value.items() if entry}))


def metalink_digest(reference: DataReference, folder: Path) -> str | None:
    """The digest of the reference's list of replicas; None if it has none; E001 if it cannot be read."""
    if reference.metalink is None:
        return None
    path = folder / reference.metalink
    try:
        return sha256_bytes(path.read_bytes())
    except OSError as error:
        message = f"cannot read the metalink of the data {reference.name}: {error.strerror}"
        raise AfenvError("E001", message, place=str(path)) from None


def is_uri(text: str) -> bool:
    """Whether a URI can be taken apart: not so with half an IPv6 address, or a port that is none."""
    try:
        return urlsplit(text).port != 0 and text.isprintable()  # asking for the port checks it
    except ValueError:
        return False


def is_record(uri: str) -> bool:
    """Whether a URI names a record: what its files are has to be looked up."""
    return bool(_RECORD.match(uri))


def is_one_file(uri: str) -> bool:
    """Whether a URI names a file itself: no record, and no folder."""
    return not is_record(uri) and not urlsplit(uri).path.endswith("/")


def file_name(uri: str) -> str:
    """The last part of a URI's path, as a file may be called; ``data`` where it gives none."""
    name = PurePosixPath(unquote(urlsplit(uri).path)).name
    return name if name not in ("", ".", "..") and name.isprintable() else "data"


def stated_data(reference: DataReference, folder: Path) -> LockedData:
    """What is known of a reference before anything was looked up."""
    files: tuple[LockedDataFile, ...] = ()
    if is_one_file(reference.uri) and not reference.select:
        files = (
            LockedDataFile(
                path=file_name(reference.uri),
                size=reference.size,
                checksums=dict(reference.checksums),
                uris=(reference.uri, *reference.replicas),
            ),
        )
    return LockedData(
        name=reference.name, uri=reference.uri, request=data_request(reference, folder), files=files
    )


def locked_data(
    references: Iterable[DataReference], old: Iterable[LockedData], folder: Path
) -> tuple[LockedData, ...]:
    """The lock's entries for a manifest's data, by name: what was found before stays where it still fits."""
    known = {data.name: data for data in old}
    found = []
    for reference in references:
        before = known.get(reference.name)
        fits = before is not None and before.request == data_request(reference, folder)
        found.append(before if before is not None and fits else stated_data(reference, folder))
    return tuple(sorted(found, key=lambda data: data.name))


def data_misfits(
    references: Sequence[DataReference], locked: Sequence[LockedData], folder: Path
) -> list[str]:
    """What of a manifest's data the lock does not fit: one phrase each; empty if it fits."""
    known = {data.name: data for data in locked}
    found = []
    for reference in references:
        data = known.pop(reference.name, None)
        if data is None:
            found.append(f"the data {reference.name} is not locked")
        elif data.request != data_request(reference, folder):
            found.append(f"the data {reference.name} has changed in the manifest")
    return found + [f"the data {name} is locked and not in the manifest" for name in sorted(known)]
