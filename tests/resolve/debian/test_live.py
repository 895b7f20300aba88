"""The public archive, as it is now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from afenv.documents.manifest import DebianBase
from afenv.resolve.debian import resolve_debian
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher

pytestmark = pytest.mark.network


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_the_example_base(suite: str, platform: str) -> None:
    settings = load_settings()
    store = ContentStore(settings.cache_folder)
    as_of = datetime.now(UTC)

    def resolve() -> object:
        base = DebianBase(suite=suite, packages=("python3", "ca-certificates"))
        return resolve_debian(base, platform, as_of, Fetcher(store, settings, quiet=True), store)

    first = resolve_debian(
        DebianBase(suite=suite, packages=("python3", "ca-certificates")),
        platform,
        as_of,
        Fetcher(store, settings, quiet=True),
        store,
    )
    names = {deb.name for deb in first.debs}
    assert {"python3", "ca-certificates", "libc6", "sed", "grep", "usr-is-merged"} <= names
    assert "perl" not in names
    assert 60 < len(names) < 120
    assert {deb.architecture for deb in first.debs} <= {platform.removeprefix("linux/"), "all"}
    assert resolve() == first


def test_a_package_comes_with_its_digest(tmp_path: Path) -> None:
    settings = load_settings()
    store = ContentStore(settings.cache_folder)
    fetcher = Fetcher(store, settings, quiet=True)
    base = DebianBase(suite="bookworm")
    (deb,) = (
        deb
        for deb in resolve_debian(base, "linux/amd64", datetime.now(UTC), fetcher, store).debs
        if deb.name == "usr-is-merged"
    )
    assert fetcher.file(deb.file).read_bytes().startswith(b"!<arch>\n")
