"""A catalogue in a repository of a registry: read, and changed by any number of writers at once.

A registry cannot compare and set. So each version has a tag of its own, and a writer is done only when no
version as new as its own lacks its change; otherwise it merges and writes again (section 4 of the norm,
``specs/catalogue/v1``).
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from afenv import canonical
from afenv.catalogue.file import LARGEST, Catalogue
from afenv.catalogue.merge import Contents, contents_of, merged
from afenv.catalogue.signed import TrustedKey, check_signature, sign_catalogue
from afenv.digest import PATTERN, hex_of, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import EMPTY, EMPTY_DIGEST
from afenv.oci.registries import RemoteManifest, Repository
from afenv.record import record

ATTEMPTS = 40  # to write while others write too
LOOKS = 12  # for a tag that is listed: some registries list it a moment before they have it
KEPT = 20  # versions that are left when old ones are removed
DIGITS = 16  # of the digest in a tag


@record
class Version:
    """A version of a catalogue, by its tag."""

    serial: int
    digits: str
    tag: str


def artifact(catalogue: Catalogue) -> bytes:
    """The manifest of a catalogue in a registry."""
    return canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_MANIFEST,
            "artifactType": media.CATALOGUE,
            "config": {"mediaType": media.EMPTY, "digest": EMPTY_DIGEST, "size": len(EMPTY)},
            "layers": [
                {
                    "mediaType": media.CATALOGUE,
                    "digest": catalogue.digest,
                    "size": len(catalogue.data),
                    "annotations": {media.TITLE: "catalogue.zst"},
                }
            ],
            "annotations": {
                "org.afenv.catalogue.name": catalogue.name,
                "org.afenv.catalogue.serial": str(catalogue.serial),
            },
        }
    )


def file_digest(manifest: RemoteManifest, place: str) -> str:
    """The digest of the file that a manifest names; E620 if it is of something else than a catalogue."""
    try:
        value = json.loads(manifest.content)
        (layer,) = value["layers"]
        digest, size = str(layer["digest"]), int(layer["size"])
        if value["artifactType"] != media.CATALOGUE or not PATTERN.match(digest):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AfenvError("E620", "what is there is no catalogue", place=place) from None
    if not 0 < size <= LARGEST:
        message = f"it has {size >> 20} MiB, more than {LARGEST >> 20}"
        raise AfenvError("E622", message, place=place)
    return digest


def current(repository: Repository, tag: str) -> tuple[str, str] | None:
    """The digests of the newest version's manifest and of its file; None if there is no such tag."""
    digest = repository.find_own(tag)
    if digest is None:
        return None
    return digest, file_digest(repository.get_manifest(digest), f"{repository.name}:{tag}")


def fetch(repository: Repository, name: str) -> Catalogue:
    """The catalogue under a tag or a digest, not yet trusted; E604, E620, E622."""
    place = f"{repository.name}{'@' if name.startswith('sha256:') else ':'}{name}"
    digest = file_digest(repository.get_manifest(name), place)
    return Catalogue(repository.get_blob(digest, limit=LARGEST), place)


def versions(repository: Repository, tag: str) -> list[Version]:
    """The versions that have a tag of their own, the oldest first."""
    form = re.compile(rf"{re.escape(tag)}\.(\d{{1,15}})\.([0-9a-f]{{{DIGITS}}})\Z")
    found = [
        Version(serial=int(match[1]), digits=match[2], tag=match[0])
        for match in map(form.match, repository.tags())
        if match
    ]
    return sorted(found, key=lambda one: (one.serial, one.digits))


class Writer:
    """One change of a catalogue in a registry, repeated until it is certain to stay."""

    def __init__(
        self,
        repository: Repository,
        tag: str,
        *,
        key: Any,
        trusted: Sequence[TrustedKey],
        name: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.repository = repository
        self.tag = tag
        self.key = key
        self.trusted = trusted
        self.name = name
        self.pause = pause
        self._read: dict[str, Contents] = {}

    def change(self, how: Callable[[Contents], Contents]) -> Catalogue:
        """Make a change that takes contents and gives contents; what is in the registry then.

        E621 if what is there is not signed by a trusted key, E623 if others keep changing it.
        """
        before = self._newest(versions(self.repository, self.tag))
        mine = how(before)
        if before.serial and mine.same(before):
            return fetch(self.repository, self.tag)
        version = self._put(mine)
        moved: Version | None = None
        for attempt in range(ATTEMPTS):
            mine = self._contents(version.tag)
            beside = [
                (one, self._contents(one.tag))
                for one in versions(self.repository, self.tag)
                if one.serial >= version.serial and one != version
            ]
            lacking = [other for _, other in beside if not mine.same(merged(mine, other))]
            with_mine = [
                one
                for one, other in beside
                if one.serial > version.serial and other.same(merged(mine, other))
            ]
            if with_mine:  # somebody went on from this version
                version = with_mine[-1]
            elif lacking:
                self.pause(random.uniform(0, 0.02 * (attempt + 1)))  # noqa: S311 - who goes first
                version = self._put(merged(mine, *lacking))
            elif moved == version:
                return fetch(self.repository, version.tag)
            else:
                self._move(version)
                moved = version
        raise AfenvError("E623", f"{ATTEMPTS} attempts were overtaken", place=self.repository.name)

    def _newest(self, known: Sequence[Version]) -> Contents:
        """What the versions with the highest serial say together, or else what the tag names."""
        if known:
            heads = [self._contents(one.tag) for one in known if one.serial == known[-1].serial]
            return merged(*heads)
        if self.repository.find_own(self.tag) is not None:
            return self._contents(self.tag)
        return Contents(name=self.name or self.repository.name.rpartition("/")[2])

    def _contents(self, tag: str) -> Contents:
        if tag not in self._read or tag == self.tag:
            digest = self._find(tag)
            catalogue = fetch(self.repository, digest)
            check_signature(catalogue, self.trusted)
            self._read[tag] = contents_of(catalogue)
        return self._read[tag]

    def _find(self, tag: str) -> str:
        for look in range(LOOKS):
            digest = self.repository.find_own(tag)
            if digest is not None:
                return digest
            self.pause(0.02 * 2 ** min(look, 6))
        raise AfenvError("E602", f"it lists {tag} and has no such tag", place=self.repository.name)

    def _put(self, mine: Contents) -> Version:
        """Put the contents under a tag of their own, with the next serial."""
        catalogue = sign_catalogue(mine.file(mine.serial + 1), self.key)
        manifest = artifact(catalogue)
        digits = hex_of(sha256_bytes(manifest))[:DIGITS]
        version = Version(
            serial=catalogue.serial, digits=digits, tag=f"{self.tag}.{catalogue.serial}.{digits}"
        )
        self.repository.put_bytes(EMPTY)
        self.repository.put_bytes(catalogue.data)
        self.repository.put_manifest(manifest, media.IMAGE_MANIFEST, version.tag)
        return version

    def _move(self, version: Version) -> None:
        """Let the tag name a version."""
        manifest = self.repository.get_manifest(version.tag)
        self.repository.put_manifest(manifest.content, media.IMAGE_MANIFEST, self.tag)


def prune(repository: Repository, tag: str) -> int:
    """Remove old versions but for the newest :data:`KEPT`; how many. A registry may refuse."""
    removed = 0
    for one in versions(repository, tag)[:-KEPT]:
        with contextlib.suppress(AfenvError):
            digest = repository.find_own(one.tag)
            removed += bool(digest and repository.delete_manifest(digest))
    return removed
