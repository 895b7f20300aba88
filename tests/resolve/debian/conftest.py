"""A small Debian archive, made and signed by the test, and a fetcher that serves it from memory."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedDeb, LockedFile
from afenv.documents.manifest import DebianBase
from afenv.errors import AfenvError
from afenv.resolve.debian import DebianResult, resolve_debian
from afenv.store.content import ContentStore

DAY = timedelta(days=1)
DATE = datetime(2024, 3, 1, 12, 0, 0, tzinfo=UTC)
AS_OF = DATE + DAY
LIVE = "https://deb.debian.org"
SNAPSHOT = "https://snapshot.debian.org/archive"


@cache
def make_key(user: str = "Test archive <test@example.org>") -> tuple[Any, bytes]:
    """A signing key and its certificate, ASCII-armoured."""
    from pysequoia import Tsk

    key = Tsk.generate(user)
    return key, str(key.extract_certificate()).encode()


def clear_sign(text: str, key: Any) -> bytes:
    from pysequoia import SignatureMode, sign

    return bytes(sign(key.signer(), text.encode(), mode=SignatureMode.CLEAR))


def stanza(name: str, version: str = "1", **fields: str) -> str:
    """The stanza of a package; ``Pre_Depends`` stands for ``Pre-Depends``."""
    given = {key.replace("_", "-"): value for key, value in fields.items()}
    architecture = given.pop("Architecture", "amd64")
    base = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "Nobody <nobody@example.org>",
        **given,
        "Filename": f"pool/main/{name[0]}/{name}/{name}_{version.split(':')[-1]}_{architecture}.deb",
        "Size": str(1000 + len(name)),
        "SHA256": hashlib.sha256(f"{name} {version} {architecture}".encode()).hexdigest(),
        "Description": f"the package {name}",
    }
    return "".join(f"{key}: {value}\n" for key, value in base.items())


def in_release(
    suite: str,
    files: dict[str, bytes],
    *,
    date: datetime = DATE,
    valid_until: datetime | None = None,
    by_hash: bool = True,
) -> str:
    lines = [
        "Origin: Debian",
        "Suite: oldstable",
        f"Codename: {suite}",
        f"Date: {format_datetime(date).replace('+0000', 'UTC')}",
    ]
    if valid_until is not None:
        lines.append(f"Valid-Until: {format_datetime(valid_until).replace('+0000', 'UTC')}")
    if by_hash:
        lines.append("Acquire-By-Hash: yes")
    lines.append("SHA256:")
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data):8} {path}" for path, data in files.items()]
    return "\n".join(lines) + "\n"


@dataclass
class Mirror:
    """What the servers have, by URL; ``get`` and ``file`` are what the resolver needs of a fetcher."""

    folder: Path
    documents: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    checks: bool = True  # whether ``file`` verifies what it serves, as the real fetcher does

    def get(self, url: str) -> bytes:
        self.calls.append(url)
        if url not in self.documents:
            raise AfenvError("E103", "not found", place=url)
        return self.documents[url]

    def file(self, file: LockedFile, *, title: str | None = None) -> Path:
        for url in file.urls:
            self.calls.append(url)
            if url in self.documents:
                data = self.documents[url]
                if self.checks and hashlib.sha256(data).hexdigest() != file.sha256:
                    raise AfenvError("E301", "another digest", place=url)
                path = self.folder / file.sha256
                path.write_bytes(data)
                return path
        raise AfenvError("E103", "not found", place=file.urls[0])

    def publish(
        self,
        stanzas: Sequence[str],
        *,
        suite: str = "bookworm",
        archive: str = "debian",
        root: str = LIVE,
        ending: str = ".xz",
        key: Any = None,
        by_hash: bool = True,
        architecture: str = "amd64",
        **how: Any,
    ) -> str:
        """Put a signed index and its packages on the server; returns the URL of the index."""
        text = "\n".join(stanzas).encode()
        data = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes}[ending](text)
        path = f"main/binary-{architecture}/Packages{ending}"
        release = in_release(suite, {path: data}, by_hash=by_hash, **how)
        dists = f"{root}/{archive}/dists/{suite}"
        self.documents[f"{dists}/InRelease"] = clear_sign(release, key or make_key()[0])
        where = path.rsplit("/", 1)[0] + "/by-hash/SHA256/" + hashlib.sha256(data).hexdigest()
        self.documents[f"{dists}/{where if by_hash else path}"] = data
        return f"{dists}/InRelease"

    def publish_all(
        self,
        stanzas: Sequence[str],
        *,
        updates: Sequence[str] = (),
        security: Sequence[str] = (),
        suite: str = "bookworm",
        **how: Any,
    ) -> None:
        """Publish the three archives of a suite."""
        self.publish(stanzas, suite=suite, **how)
        self.publish(updates, suite=f"{suite}-updates", **how)
        self.publish(security, suite=f"{suite}-security", archive="debian-security", **how)


@dataclass
class World:
    """A mirror, a store and the resolver over them."""

    mirror: Mirror
    store: ContentStore
    keys: tuple[bytes, ...]

    def resolve(
        self,
        *packages: str,
        as_of: datetime = AS_OF,
        suite: str = "bookworm",
        platform: str = "linux/amd64",
        locked: Sequence[LockedDeb] = (),
        update: frozenset[str] | None = None,
    ) -> DebianResult:
        return resolve_debian(
            DebianBase(suite=suite, packages=packages),
            platform,
            as_of,
            self.mirror,
            self.store,
            locked=locked,
            update=update,
            keys=self.keys,
        )

    def names(self, *packages: str, **how: Any) -> list[str]:
        """The packages resolved, as ``name=version``."""
        return [f"{deb.name}={deb.version}" for deb in self.resolve(*packages, **how).debs]

    def code(self, *packages: str, **how: Any) -> str:
        """The code and message of the error that resolving gives."""
        with pytest.raises(AfenvError) as caught:
            self.resolve(*packages, **how)
        return "\n".join(f"{problem.code} {problem.message}" for problem in caught.value.problems)


@pytest.fixture
def world(tmp_path: Path) -> World:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    return World(Mirror(downloads), ContentStore(tmp_path / "store"), (make_key()[1],))
