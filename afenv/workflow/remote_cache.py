"""The remote build cache: what one machine wrote, another mounts instead of building it.

For each key of the local cache (:func:`afenv.layers.write.layer_key` and the like) a repository of a registry
holds a signed entry that says what the key leads to, and the blobs that it names. Only entries signed by a
trusted key are believed, and only if they are about the key that was asked for: whoever can write to the
repository can make a build slower, not different. See ``docs/explanation/remote-cache.md``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from afenv.attest.keys import PrivateKey, PublicKey
from afenv.attest.licenses import wheel_licenses
from afenv.documents.lock import LockedBase, LockedEnvironment, LockedFile
from afenv.errors import AfenvError
from afenv.layers.model import PlannedLayer
from afenv.layers.write_job import Files
from afenv.oci import media
from afenv.oci.attached import EMPTY
from afenv.oci.model import Image
from afenv.oci.registries import Repository, find_registry
from afenv.progress import Progress, counted
from afenv.store.content import ContentStore
from afenv.workflow.cache_entry import (
    embedded_envelope,
    entry_envelope,
    entry_manifest,
    entry_tag,
    read_entry,
    value_blobs,
)
from afenv.workflow.project import Project

THREADS = 6
UNREADABLE = ("E201", "E601", "E602")
LICENSES = "licenses"  # in the value of a layer: what its wheels state, by sha256
LARGEST = 64 << 20  # bytes of an entry or a listing

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheOptions:
    """Where to read and write (``HOST/NAME``), the key to sign with, and the public keys to trust."""

    source: str | None = None
    destination: str | None = None
    key: Path | None = None
    trust: tuple[Path, ...] = ()


@dataclass(kw_only=True)
class RemoteCache:
    """A cache in one or two repositories; also the port :class:`afenv.layers.elsewhere.Elsewhere`.

    ``messages`` gathers what people should know. It is also where the blobs of an image are read from
    (:class:`afenv.oci.model.Blobs`): from the store, else they are brought there first.
    """

    store: ContentStore
    source: Repository | None
    destination: Repository | None
    trusted: tuple[PublicKey, ...]
    signer: PrivateKey | None
    licenses: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    found: int = 0
    quiet: bool = False
    _sizes: dict[str, int] = field(default_factory=dict)
    _used: dict[tuple[str, str], tuple[Any, PlannedLayer | None]] = field(default_factory=dict)
    _from_there: set[tuple[str, str]] = field(default_factory=set)
    _gone: set[tuple[str, str]] = field(default_factory=set)
    _refused: int = 0
    _readable: bool = True
    _guard: threading.Lock = field(default_factory=threading.Lock)

    # reading

    def values(self, kind: str, keys: Sequence[str]) -> Mapping[str, Any]:
        """The values of those keys that the repository has, signed by a trusted key."""
        source = self.source
        if source is None or not self._readable:
            return {}
        try:
            entries = _for_all(lambda key: self._read(source, kind, key), keys)
        except AfenvError as error:
            # a cache that is not there, or may not be read, makes a build slower and no more
            self._readable = False
            self.messages.append(f"the build cache is not used: {error.problems[0].render()}")
            return {}
        values = {key: value for key, value in zip(keys, entries, strict=True) if value is not None}
        for key, value in values.items():
            self._from_there.add((kind, key))
            if kind == "layer":
                self.licenses |= value.pop(LICENSES, None) or {}
                self._sizes[value["digest"]] = value["size"]
                self.found += 1
            else:
                self.store.save_key(kind, key, value)
        return values

    def _read(self, repository: Repository, kind: str, key: str) -> Any | None:
        manifest = repository.find_manifest(entry_tag(kind, key))
        if manifest is None:
            return None
        try:
            digest, envelope = embedded_envelope(manifest.content)
            if envelope is None:
                envelope = repository.get_blob(digest, limit=LARGEST)
            value = read_entry(envelope, kind, key, self.trusted)
        except AfenvError as error:
            if error.code in UNREADABLE:
                raise
            value = None
        if value is None:
            with self._guard:
                self._refused += 1
        elif kind == "layer" and not self._is_there(repository, value["digest"]):
            with self._guard:
                self._gone.add((kind, key))
            value = None
        return value

    def _is_there(self, repository: Repository, digest: str) -> bool:
        """Whether a layer can be had: registries may lose or delete the blobs of an entry."""
        return self.store.trusted(digest) or repository.has_blob(digest)

    def bring(self, digest: str) -> None:
        """Bring a small blob into the store."""
        if self.source is not None:
            self.store.put(self.source.get_blob(digest, limit=LARGEST))

    def used(self, kind: str, key: str, value: Any, planned: PlannedLayer | None = None) -> None:
        """Remember a value, to publish it."""
        self._used[kind, key] = (value, planned)

    def has_base(self, base: LockedBase) -> bool:
        """Whether the blobs of a base image can be had; its config and manifest are brought at once."""
        if self.source is None or base.digest not in self.values("base", [base.digest]):
            return False
        try:
            for digest in (base.config, base.digest):
                if not self.store.trusted(digest):
                    self.bring(digest)
        except AfenvError:
            return False
        self._sizes |= {layer.digest: layer.size for layer in base.layers}
        return True

    def open(self, digest: str) -> BinaryIO:
        """A blob of the image, from the store; brought there first if it is only in the cache."""
        self.fetch([digest])
        return self.store.open(digest)

    def complete(self, image: Image, *, bring: bool) -> bool:
        """Whether the store has all layers of the image; with ``bring`` those that it lacks are fetched."""
        if bring:
            self.fetch([layer.digest for layer in image.layers])
        return all(self.store.trusted(layer.digest, layer.size) for layer in image.layers)

    def fetch(self, digests: Sequence[str]) -> None:
        """Bring blobs of layers into the store, those that it lacks."""
        source = self.source
        wanted = [one for one in digests if one in self._sizes and not self.store.trusted(one)]
        if source is None or not wanted:
            return
        quiet = self.quiet or len(wanted) == 1
        with Progress("Fetching layers", sum(self._sizes[one] for one in wanted), quiet=quiet) as progress:

            def bring(digest: str) -> None:
                source.fetch_blob(digest, self._sizes[digest], self.store)
                with self._guard:
                    progress.advance(self._sizes[digest])

            _for_all(bring, wanted)

    def conclusions(self) -> list[str]:
        """What people should know of the cache at the end."""
        entries = counted(self._refused, "entry", "entries")
        refused = f"left aside in the build cache: {entries} not signed by a key that is trusted"
        layers = counted(len(self._gone), "layer")
        gone = f"the registry of the build cache lacked {layers}, built here instead"
        return [*self.messages, *([refused] if self._refused else []), *([gone] if self._gone else [])]

    def mountable(self, reference: str) -> str | None:
        """The source's path if it is at the registry of ``reference``, to mount blobs from."""
        return _same_registry(self.source.name, reference) if self.source else None

    # writing

    def publish(self, environment: LockedEnvironment, pushed: str | None) -> int:
        """Publish what this build used and the repository lacks; the number of new entries.

        ``pushed`` is where the image went: blobs are mounted from there if that is the same registry.
        """
        destination = self.destination
        if destination is None or self.signer is None:
            return 0
        mount_from = _same_registry(pushed, destination.name) if pushed else None
        base = environment.base
        if base is not None:
            self._used["base", base.digest] = ({"blobs": _base_blobs(base)}, None)
        same = self.source is not None and self.source.name == destination.name
        new = [
            (kind, key, value, planned)
            for (kind, key), (value, planned) in self._used.items()
            if not (same and (kind, key) in self._from_there)
        ]
        if not new:
            return 0
        stated = wheel_licenses(environment, self.store, self.licenses)
        destination.put_bytes(EMPTY)

        def put(item: tuple[str, str, Any, PlannedLayer | None]) -> bool:
            kind, key, value, planned = item
            if kind == "layer" and planned is not None:
                wheels = {one.file.sha256 for one in planned.wheels}
                known = {one: stated[one] for one in sorted(wheels) if one in stated}
                value = value | ({LICENSES: known} if known else {})
            return self._put(destination, kind, key, value, mount_from)

        return sum(_for_all(put, new))

    def _put(self, repository: Repository, kind: str, key: str, value: Any, mount_from: str | None) -> bool:
        assert self.signer is not None
        tag = entry_tag(kind, key)
        there = repository.find_manifest(tag)
        if (
            there is not None
            and (kind, key) not in self._gone  # what is missing is put there again
            and self._is_settled(repository, there.content, kind, key, value)
        ):
            return False
        listing = value.get("listing") if kind == "layer" else None
        listing_size = self.store.path(listing).stat().st_size if listing and self.store.has(listing) else 0
        blobs = value_blobs(kind, value, listing_size)
        sources = (mount_from,) if mount_from else ()
        for blob in blobs:
            if not repository.has_blob(blob.digest):
                repository.put_blob(blob.digest, blob.size, _opener(self, blob.digest), mount_from=sources)
        envelope = entry_envelope(kind, key, value, self.signer)
        repository.put_bytes(envelope)
        repository.put_manifest(entry_manifest(envelope, blobs), media.IMAGE_MANIFEST, tag)
        return True

    def _is_settled(self, repository: Repository, manifest: bytes, kind: str, key: str, value: Any) -> bool:
        """Whether a trusted entry is there; one that says something else stays, and is told of."""
        try:
            digest, envelope = embedded_envelope(manifest)
            envelope = envelope or repository.get_blob(digest, limit=LARGEST)
            known = read_entry(envelope, kind, key, self.trusted)
        except AfenvError:
            return False
        if known is None:
            return False
        if kind == "layer" and known.get("diff_id") != value.get("diff_id"):
            with self._guard:
                self.messages.append(
                    f"the build cache has the layer {known.get('diff_id')} where {value.get('diff_id')} was "
                    "built: one of the two builds was not reproducible, or was tampered with"
                )
        return True


class BuildingFiles:
    """Brings files, and builds wheels from source before the first of them is asked for.

    Where the remote cache has the layers of such wheels, none is asked for.
    """

    def __init__(self, files: Files, project: Project, environment: LockedEnvironment) -> None:
        self._files, self._project, self._environment = files, project, environment
        self._built = {one.file.sha256 for one in environment.wheels if one.built_from is not None}

    def files(self, files: Sequence[LockedFile], *, title: str) -> list[Path]:
        """The files in the store, checked."""
        if any(one.sha256 in self._built for one in files):
            from afenv.workflow.sdists import ensure_built

            ensure_built(self._project, self._environment)
        return self._files.files(files, title=title)


def _opener(cache: RemoteCache, digest: str) -> Callable[[], BinaryIO]:
    return lambda: cache.open(digest)


def _for_all(work: Callable[[Item], Any], items: Iterable[Item]) -> list[Any]:
    items = list(items)
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items)), thread_name_prefix="cache") as pool:
        return list(pool.map(work, items))


def _base_blobs(base: LockedBase) -> list[tuple[str, str, int]]:
    blobs = [(layer.media_type, layer.digest, layer.size) for layer in base.layers]
    return [
        *blobs,
        (media.IMAGE_CONFIG, base.config, base.config_size),
        (base.media_type, base.digest, base.size),
    ]


@contextlib.contextmanager
def open_cache(
    options: CacheOptions, folder: Path, store: ContentStore, *, quiet: bool = False
) -> Iterator[RemoteCache]:
    """The cache that the options name; files of keys are relative to ``folder``.

    E615 if there is no key to trust or to sign with; E603 for a bad reference.
    """
    from afenv.attest.keys import read_public
    from afenv.workflow.sign import read_signing_key

    signer = read_signing_key(folder / options.key) if options.key else None
    trusted = [read_public(folder / path) for path in options.trust]
    trusted += [signer.public] if signer else []
    if options.source and not trusted:
        raise AfenvError(
            "E615", f"no key is named whose entries in {options.source} can be believed", place=options.source
        )
    if options.destination and signer is None:
        raise AfenvError(
            "E615",
            f"entries in {options.destination} have to be signed",
            place=options.destination,
            remedy="Name the private key with --cache-key; `afenv key generate` makes one.",
        )
    registry = find_registry()
    with contextlib.ExitStack() as stack:
        source = (
            stack.enter_context(registry.repository(options.source, actions="pull"))
            if options.source
            else None
        )
        destination = (
            stack.enter_context(registry.repository(options.destination)) if options.destination else None
        )
        cache = RemoteCache(
            store=store,
            source=source,
            destination=destination,
            trusted=tuple(trusted),
            signer=signer,
            quiet=quiet,
        )
        yield cache


def _same_registry(repository: str, reference: str) -> str | None:
    """The path of a repository (``HOST/NAME[:TAG][@DIGEST]``) if it is at the registry of ``reference``."""
    host, _, name = repository.partition("@")[0].partition("/")
    folder, slash, last = name.rpartition("/")
    name = folder + slash + last.partition(":")[0]
    return name if host == reference.partition("/")[0] else None
