"""What the tests of data share."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest

from afenv.data.access import DataAccess
from afenv.documents.data import LockedData, LockedDataFile
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import Patience

QUICK = Patience(connect=2.0, stall=0.5, attempts=3, gain=1, first_pause=0.01, longest_pause=0.02)


def checksums(content: bytes) -> dict[str, str]:
    """The three checksums that pinning finds."""
    return {
        "adler32": f"{zlib.adler32(content):08x}",
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def locked(*files: LockedDataFile, name: str = "events") -> LockedData:
    """A reference with these files."""
    return LockedData(name=name, uri="rucio:a:b", request="sha256:" + "0" * 64, files=files)


def pinned(content: bytes, *uris: str, path: str = "events.root") -> LockedDataFile:
    """A file of that content, fully known."""
    return LockedDataFile(path=path, size=len(content), checksums=checksums(content), uris=uris)


@pytest.fixture
def access(settings: Settings, store: ContentStore, tmp_path: Path) -> DataAccess:
    """Access without patience, for a manifest in ``tmp_path``."""
    return DataAccess(settings, store, tmp_path, patience=QUICK)
