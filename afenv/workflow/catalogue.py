"""``afenv catalogue``: images are added, removed and looked for again, in a file or in a registry."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.catalogue.file import Catalogue
from afenv.catalogue.merge import Contents, contents_of, now, with_records, without_records
from afenv.catalogue.record import Checked, ImageRecord
from afenv.catalogue.signed import TrustedKey, check_signature, sign_catalogue
from afenv.catalogue.sources import Place, open_catalogue, read_file
from afenv.errors import AfenvError
from afenv.record import record, replace
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.workflow.catalogue_place import place_of, trusted_keys
from afenv.workflow.catalogue_record import Beside, record_of_image, same_image

if TYPE_CHECKING:
    from afenv.attest.keys import PrivateKey
    from afenv.oci.registries import Registry, Repository

CONNECTIONS = 8  # images that are asked for at once
Change = Callable[[Contents], Contents]


@record
class Keeper:
    """Who changes a catalogue: the key that signs it, and the keys whose signature on the old one counts."""

    place: Place
    key: PrivateKey
    trusted: tuple[TrustedKey, ...]
    name: str | None = None


def keeper(
    text: str | None, folder: Path, *, key: Path | None, trust: Sequence[Path], name: str | None = None
) -> Keeper:
    """Who changes the catalogue that ``text`` names; E620 without one, E621 without a key."""
    from afenv.workflow.sign import read_signing_key

    place = place_of(text, folder)
    if key is None:
        remedy = "Name your private key with --key or AFENV_CATALOGUE_KEY; `afenv key generate` makes one."
        raise AfenvError("E621", "a catalogue is signed when it changes", place=str(place), remedy=remedy)
    private = read_signing_key(folder / key)
    own = TrustedKey(pem=private.public.pem, place=str(key))
    return Keeper(place=place, key=private, trusted=(own, *trusted_keys(trust, folder)), name=name)


def change(who: Keeper, how: Change) -> Catalogue:
    """Make a change that takes contents and gives contents; the catalogue that is there then.

    In a registry others may change it at the same time: nothing is lost (see :mod:`afenv.catalogue.remote`).
    """
    if who.place.path is not None:
        return _change_file(who, who.place.path, how)
    from afenv.catalogue.remote import Writer
    from afenv.oci.registries import find_registry

    with find_registry().repository(f"{who.place.reference}:{who.place.tag}") as repository:
        writer = Writer(repository, who.place.tag, key=who.key, trusted=who.trusted, name=who.name)
        return writer.change(how)


def _change_file(who: Keeper, path: Path, how: Change) -> Catalogue:
    from afenv.store.content import write_error

    try:
        with _locked(path):
            if path.exists():
                before = read_file(path)
                check_signature(before, who.trusted)
                contents = contents_of(before)
            else:
                contents = Contents(name=who.name or path.name.removesuffix(".zst"))
            made = how(contents)
            if contents.serial and made.same(contents):
                return before
            catalogue = sign_catalogue(made.file(contents.serial + 1), who.key)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                temporary.write_bytes(catalogue.data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(error, path) from error
    return catalogue


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The only writer of a file, as long as the block lasts."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add(
    who: Keeper,
    references: Sequence[str],
    store: ContentStore,
    *,
    platforms: Sequence[str] = (),
    content: bool = False,
    beside: Beside | None = None,
    quiet: bool = False,
) -> tuple[Catalogue, list[ImageRecord]]:
    """Put images into the catalogue, or anew; the catalogue, and the records. Errors of the registry."""
    from afenv.oci.registries import find_registry

    if beside is not None and (beside.sif or beside.cvmfs) and len(references) * len(platforms or "1") > 1:
        raise AfenvError("E030", "--sif and --cvmfs are for one image")
    registry, time = find_registry(), now()
    found = [
        record_of_image(
            registry,
            reference,
            store,
            time=time,
            platform=platform,
            content=content,
            beside=beside,
            quiet=quiet,
        )
        for reference in references
        for platform in (platforms or (None,))
    ]

    def how(contents: Contents) -> Contents:
        known = contents.records
        new = [one for one in found if one.key not in known or not same_image(one, known[one.key])]
        return with_records(contents, new, time)

    return change(who, how), found


def remove(who: Keeper, names: Sequence[str]) -> tuple[Catalogue, list[str]]:
    """Take images out by reference or name; the catalogue, and the identities. E624 if one is not there."""
    gone: list[str] = []

    def how(contents: Contents) -> Contents:
        gone[:] = []
        for name in names:
            fitting = [key for key, one in contents.records.items() if names_record(name, one)]
            if not fitting:
                raise AfenvError("E624", f"there is no image {name}", place=str(who.place))
            gone.extend(fitting)
        return without_records(contents, gone, now())

    return change(who, how), gone


def names_record(text: str, one: ImageRecord) -> bool:
    """Whether a text names a record: by reference, with its digest or not, by digest, or by title."""
    bare, at, digest = text.partition("@")
    if at:
        return digest == one.digest and bare in ("", one.reference, one.repository)
    return text in (one.reference, one.digest, one.title, one.key)


@record
class Looked:
    """What refreshing found of an image."""

    record: ImageRecord
    state: str
    found: str | None = None


def refresh(
    who: Keeper, *, settings: Settings, prune: bool = False, quiet: bool = False
) -> tuple[Catalogue, list[Looked]]:
    """Ask the registries for all images again; the catalogue, and what was found. Nothing is dropped."""
    from afenv.oci.registries import find_registry

    store = ContentStore(settings.cache_folder)
    opened = open_catalogue(who.place, who.trusted, store)
    records = list(opened.catalogue.records())
    found = look_again(find_registry(), records, quiet=quiet)
    time = now()

    def how(contents: Contents) -> Contents:
        new = []
        for one in found:
            known = contents.records.get(one.record.key)
            if known is not None:
                checked = Checked(time=time, state=one.state, found=one.found)
                old = known.checked
                if old is None or (old.state, old.found) != (one.state, one.found):
                    new.append(replace(known, checked=checked))
        return with_records(contents, new, time)

    catalogue = change(who, how)
    if prune and who.place.path is None:
        from afenv.catalogue.remote import prune as remove_old

        reference = f"{who.place.reference}:{who.place.tag}"
        with find_registry().repository(reference, actions="pull,push,delete") as repository:
            remove_old(repository, who.place.tag)
    return catalogue, found


def look_again(registry: Registry, records: Sequence[ImageRecord], *, quiet: bool = False) -> list[Looked]:
    """What the registries have of some images now."""
    from afenv.progress import Progress

    groups: dict[str, list[ImageRecord]] = {}
    for one in records:
        groups.setdefault(one.repository, []).append(one)
    with Progress("looking for images", len(records), unit="image", quiet=quiet) as progress:

        def of_repository(group: list[ImageRecord]) -> list[Looked]:
            found = []
            try:
                with registry.repository(group[0].reference, actions="pull", quiet=True) as repository:
                    for one in group:
                        found.append(_look(repository, one))
                        progress.advance(1)
            except AfenvError:
                found += [Looked(record=one, state="unreached") for one in group[len(found) :]]
            return found

        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="refresh") as pool:
            done = list(pool.map(of_repository, groups.values()))
    return [one for some in done for one in some]


def _look(repository: Repository, one: ImageRecord) -> Looked:
    tag = one.reference.rpartition("/")[2].partition(":")[2] or "latest"
    try:
        tagged = repository.find_own(tag)
        if tagged == one.digest:
            return Looked(record=one, state="same")
        if tagged is not None and _holds(repository, tagged, one.digest):
            return Looked(record=one, state="same")
        state = "moved" if repository.find_own(one.digest) is not None else "vanished"
        return Looked(record=one, state=state, found=tagged)
    except AfenvError as error:
        return Looked(record=one, state="changed" if error.code == "E301" else "unreached")


def _holds(repository: Repository, index: str, digest: str) -> bool:
    """Whether what a tag names is an index with the image, which is there."""
    entries: Any = repository.get_manifest(index).document().get("manifests") or ()
    named = any(isinstance(entry, dict) and entry.get("digest") == digest for entry in entries)
    return named and repository.find_own(digest) is not None
