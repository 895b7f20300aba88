"""Sizes and digests of archives that a channel or a foreign lock does not tell: the archive is downloaded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.resolve.conda.channels import without_secrets
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import Patience, SourceError, Transport

_KEY = "conda-archive"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an archive: its size in bytes and its digests in hexadecimal."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def complete(self) -> bool:
        """Whether a lock can name the archive by it."""
        return self.size is not None and self.sha256 is not None


def complete(
    archives: Mapping[str, Known],
    *,
    settings: Settings,
    store: ContentStore,
    quiet: bool = False,
) -> dict[str, Known]:
    """Every archive with size and SHA-256, by URL; those that lack one are downloaded into the store.

    What is known beforehand has to be true: E301, E302. Other errors: E103, E201, E202, E203.
    """
    result = dict(archives)
    missing = []
    for url, known in archives.items():
        if known.complete:
            continue
        learnt = _remembered(url, known, store)
        if learnt is None:
            missing.append(url)
        else:
            result[url] = learnt
    if missing:
        with Progress(
            "Downloading archives without digest", len(missing), unit="file", quiet=quiet
        ) as progress:
            for url in missing:
                result[url] = _download(url, archives[url], settings, store)
                progress.advance(1)
    return result


def _identity(url: str, known: Known) -> str:
    return sha256_bytes(canonical.compact([url, known.size, known.sha256, known.md5]))


def _remembered(url: str, known: Known, store: ContentStore) -> Known | None:
    if known.sha256 is not None and store.trusted("sha256:" + known.sha256):
        return Known(store.path("sha256:" + known.sha256).stat().st_size, known.sha256, known.md5)
    if known.md5 is None:
        return None
    match store.load_key(_KEY, _identity(url, known)):
        case {"size": int(size), "sha256": str(sha256)}:
            return Known(size, sha256, known.md5)
    return None


def _download(url: str, known: Known, settings: Settings, store: ContentStore) -> Known:
    source = settings.rewrite(url)
    place = without_secrets(source)
    if settings.offline and not source.startswith("file:"):
        raise AfenvError("E203", "the digest is not known, and connections are not allowed", place=place)
    patience = Patience()
    transport = Transport(patience)
    for attempt in range(1, patience.attempts + 1):
        try:
            found = _receive(source, transport, store)
            break
        except SourceError as error:
            if not error.again or attempt == patience.attempts:
                raise AfenvError(error.code, f"conda archive: {error.reason}", place=place) from None
            time.sleep(patience.pause(attempt, error.pause))
    for name, least in (("sha256", "E301"), ("md5", "E301"), ("size", "E302")):
        stated, has = getattr(known, name), getattr(found, name)
        if stated is not None and stated != has:
            raise AfenvError(least, f"the {name} is {has}, expected {stated}", place=place)
    store.save_key(_KEY, _identity(url, known), {"size": found.size, "sha256": found.sha256})
    return Known(found.size, found.sha256, known.md5)


def _receive(source: str, transport: Transport, store: ContentStore) -> Known:
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with store.writer() as writer, transport.open(source, {}) as answer:
        for data in answer.chunks:
            md5.update(data)
            size += len(data)
            writer.write(data)
        if answer.length is not None and answer.length != size:
            raise SourceError("E302", f"{size} of {answer.length} bytes", again=True)
        digest = writer.commit()
    return Known(size, digest.removeprefix("sha256:"), md5.hexdigest())
