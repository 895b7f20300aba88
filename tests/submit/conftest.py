"""Servers for the tests of submissions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import TOKEN, CapServer, InvenioServer, Listener


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The token in the environment, and no other."""
    for name in ("ZENODO_TOKEN", "CAP_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFENV_SUBMIT_TOKEN", TOKEN)
    return TOKEN


@pytest.fixture
def invenio() -> Iterator[InvenioServer]:
    """An InvenioRDM server."""
    server = InvenioServer()
    yield server
    server.close()


@pytest.fixture
def cap() -> Iterator[CapServer]:
    """A server of CERN Analysis Preservation."""
    server = CapServer()
    yield server
    server.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Another host."""
    server = Listener()
    yield server
    server.close()
