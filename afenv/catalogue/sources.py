"""Where a catalogue is: a file, or a repository of a registry, with a copy on this host.

The copy is what is used offline, and where the registry does not answer. What is older than the copy is not
taken for new.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from afenv.catalogue.file import LARGEST, Catalogue
from afenv.catalogue.signed import TrustedKey, check_signature
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.record import record
from afenv.store.content import ContentStore

COPY = "catalogue"  # what is kept of a repository's tag: digest, serial, time


@record
class Place:
    """Where a catalogue is: ``path``, or ``reference`` without its tag, and ``tag``."""

    path: Path | None = None
    reference: str = ""
    tag: str = "latest"

    def __str__(self) -> str:
        return str(self.path) if self.path is not None else f"{self.reference}:{self.tag}"


@record
class Opened:
    """A catalogue that is trusted, the key that vouches for it, and what is to be said of it."""

    catalogue: Catalogue
    signer: str | None
    remarks: tuple[str, ...] = ()


def find_place(text: str, folder: Path) -> Place:
    """The place that a text names: a file (one that is there, or ends in ``.zst``), else a repository."""
    path = folder / text
    if path.is_file() or text.endswith(".zst") or text.startswith(("/", "./", "../")):
        return Place(path=path)
    bare = text.partition("@")[0]
    base, slash, last = bare.rpartition("/")
    name, _, tag = last.partition(":")
    if not slash:
        message = f"{text!r} is neither a file nor a repository of a registry"
        raise AfenvError("E620", message, remedy="Write HOST[:PORT]/NAME[:TAG], or a file's name.")
    return Place(reference=f"{base}/{name}", tag=tag or "latest")


def read_file(path: Path) -> Catalogue:
    """The catalogue in a file, not yet trusted; E620 if there is none, E622."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise AfenvError("E620", f"cannot be read: {error.strerror}", place=str(path)) from None
    return Catalogue(data, str(path))


def open_catalogue(
    place: Place,
    keys: Sequence[TrustedKey],
    store: ContentStore,
    *,
    offline: bool = False,
    check: bool = True,
) -> Opened:
    """The catalogue at a place, with its signature checked unless ``check`` is False.

    E620, E621, E622; E601 to E604 and E201 from the registry, where there is no copy to go on with.
    """
    if place.path is not None:
        found = read_file(place.path)
        remarks: list[str] = []
    else:
        found, remarks = _of_registry(place, keys, store, offline, check)
    signer = check_signature(found, keys, store) if check else None
    return Opened(catalogue=found, signer=signer, remarks=tuple(remarks))


def _of_registry(
    place: Place, keys: Sequence[TrustedKey], store: ContentStore, offline: bool, check: bool
) -> tuple[Catalogue, list[str]]:
    key = sha256_bytes(str(place).encode())
    kept = store.load_key(COPY, key)
    copy = kept if isinstance(kept, dict) and store.has(str(kept.get("digest"))) else None
    if offline:
        if copy is None:
            message = "there is no copy of it on this machine"
            raise AfenvError("E620", message, place=str(place), remedy="Ask once without --offline.")
        return _copied(copy["digest"], place, store), []
    try:
        found = _fetched(place, copy, store)
    except AfenvError as error:
        if error.code != "E201" or copy is None:
            raise
        remark = f"{place} is not reached; the copy of {copy.get('time')} is used"
        return _copied(copy["digest"], place, store), [remark]
    if check:
        check_signature(found, keys, store)  # what is not trusted does not replace a copy
    if copy is not None and found.serial < copy.get("serial", 0):
        remark = f"{place} gave version {found.serial}; the copy here is version {copy['serial']} and is used"
        return _copied(copy["digest"], place, store), [remark]
    if check and (copy is None or copy["digest"] != found.digest):
        store.put(found.data)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        store.save_key(COPY, key, {"digest": found.digest, "serial": found.serial, "time": when})
    return found, []


def _copied(digest: str, place: Place, store: ContentStore) -> Catalogue:
    return Catalogue(store.read(digest), str(place))


def _fetched(place: Place, copy: dict[str, object] | None, store: ContentStore) -> Catalogue:
    from afenv.catalogue.remote import current, fetch
    from afenv.oci.registries import find_registry

    reference = f"{place.reference}:{place.tag}"
    with find_registry().repository(reference, actions="pull") as repository:
        newest = current(repository, place.tag)
        if newest is None:
            raise AfenvError("E620", "there is no catalogue", place=reference)
        manifest, digest = newest
        if copy is not None and copy["digest"] == digest:
            return _copied(digest, place, store)
        return fetch(repository, manifest)
