"""afenv against a channel's server that fails: what is retried, what is refused, and with which error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.manifest import CondaSection
from afenv.errors import AfenvError
from afenv.resolve.conda.resolver import CondaResult, resolve_conda
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher
from afenv.store.transport import Patience

ALIAS = "https://conda.anaconda.org/conda-forge"
PACKAGE = "/conda-forge/noarch/toyenv-1.2-0.conda"
INDEXES = tuple(f"/conda-forge/{subdir}/repodata.json.zst" for subdir in ("linux-64", "noarch"))


@pytest.fixture
def here(toy_channel: Path, serve_channel: Callable[[Path, str], str], store: ContentStore) -> Settings:
    """Settings with the toy channel, served, in the place of conda-forge."""
    url = serve_channel(toy_channel, "/conda-forge")
    return Settings(cache_folder=store.folder, mirrors=((ALIAS, url),), jobs=2)


def solve(here: Settings, folder: Path, store: ContentStore, *specs: str) -> CondaResult:
    """Solve for the base of bookworm."""
    section = CondaSection(channels=("conda-forge",), dependencies=specs or ("toyenv",))
    time = datetime.now(UTC)
    return resolve_conda(
        section, folder, "linux/amd64", (2, 36), None, time, settings=here, store=store, quiet=True
    )


def fetch(here: Settings, store: ContentStore, result: CondaResult) -> Path:
    """Download the first package, without patience."""
    fetcher = Fetcher(store, here, quiet=True, patience=Patience(first_pause=0.01, longest_pause=0.02))
    return fetcher.file(result.records[0].file)


def test_a_channel_that_works(
    here: Settings, store: ContentStore, tmp_path: Path, toy_channel: Path, http_server: Any
) -> None:
    result = solve(here, tmp_path, store)
    assert [record.name for record in result.records] == ["toyenv"]
    assert result.records[0].file.urls == (f"{ALIAS}/noarch/toyenv-1.2-0.conda",)
    got = fetch(here, store, result).read_bytes()
    assert got == (toy_channel / "noarch" / "toyenv-1.2-0.conda").read_bytes()
    assert http_server.count(PACKAGE) == 1


def test_the_index_is_asked_for_again_by_its_tag(
    here: Settings, store: ContentStore, tmp_path: Path, http_server: Any
) -> None:
    first = solve(here, tmp_path, store)
    http_server.requests.clear()
    assert solve(here, tmp_path, store) == first
    asked = [headers for path, headers in http_server.requests if path in INDEXES]
    assert len(asked) == 2
    assert all("if-none-match" in headers for headers in asked)


@pytest.mark.parametrize("kind", ["cut", "reset", "slow", "busy"])
def test_a_download_goes_on(
    kind: str, here: Settings, store: ContentStore, tmp_path: Path, http_server: Any, fault: Any
) -> None:
    result = solve(here, tmp_path, store)
    faults = {"cut": fault.cut(100), "reset": fault.reset(100), "slow": fault.slow(0.001)}
    http_server.faults[PACKAGE] = [faults.get(kind) or fault.status(503)]
    assert fetch(here, store, result).stat().st_size == result.records[0].file.size


@pytest.mark.parametrize(("kind", "code"), [("missing", "E103"), ("wrong", "E301"), ("cut", "E201")])
def test_a_download_fails(
    kind: str, code: str, here: Settings, store: ContentStore, tmp_path: Path, http_server: Any, fault: Any
) -> None:
    result = solve(here, tmp_path, store)
    faults = {"missing": fault.status(404), "wrong": fault.wrong(), "cut": fault.cut(0)}
    http_server.faults[PACKAGE] = [faults[kind]] * 100
    with pytest.raises(AfenvError) as caught:
        fetch(here, store, result)
    assert caught.value.code == code
    assert not store.has(result.records[0].file.digest)


@pytest.mark.parametrize("kind", ["missing", "cut", "garbage"])
def test_an_index_that_fails(
    kind: str, here: Settings, store: ContentStore, tmp_path: Path, http_server: Any, fault: Any
) -> None:
    faults = {"missing": fault.status(403), "cut": fault.cut(50), "garbage": fault.status(200, b"<html>")}
    for path in INDEXES:
        http_server.faults[path] = [faults[kind]] * 100
    with pytest.raises(AfenvError) as caught:
        solve(here, tmp_path, store)
    assert caught.value.code in ("E120", "E201", "E202")
    assert "panic" not in str(caught.value)
    http_server.faults.clear()
    assert solve(here, tmp_path, store).records  # nothing bad was kept
