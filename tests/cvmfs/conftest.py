"""Repositories to read: those that the server's tools made, and those that are made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.cvmfs.configuration import Configuration
from afenv.cvmfs.repository import Repository
from afenv.settings import Settings
from afenv.store.content import ContentStore


@pytest.fixture(scope="session", params=["sft.afenv.test", "data.afenv.test"])
def real_name(request: pytest.FixtureRequest) -> str:
    """Each of the repositories that the server's tools made."""
    name: str = request.param
    return name


@pytest.fixture
def open_made(store: ContentStore, settings: Settings, cvmfs: Any) -> Callable[..., Repository]:
    """Opens the repository of a maker: from its folder, or from URLs."""

    def open_(
        maker: Any,
        *strata: str,
        keys: tuple[Path, ...] | None = None,
        now: Any = cvmfs.NOW,
        timeout: float = 5.0,
        proxies: tuple[str, ...] = (),
    ) -> Repository:
        configuration = Configuration(
            strata=strata or (maker.folder.as_uri(),),
            keys=(maker.key,) if keys is None else keys,
            timeout=timeout,
            proxies=proxies,
        )
        return Repository(maker.name, configuration, store, settings, now=now)

    return open_


@pytest.fixture
def maker(cvmfs: Any, tmp_path: Path) -> Any:
    """A repository in a folder, empty so far."""
    return cvmfs.CvmfsMaker(tmp_path / "stratum")
