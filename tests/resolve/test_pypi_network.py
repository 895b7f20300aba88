"""The example's stack from the public index, twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from afenv.documents.lock import LockedPython
from afenv.documents.manifest import PypiSection
from afenv.resolve.pypi import resolve_pypi
from afenv.settings import Settings
from afenv.store.content import ContentStore

STACK = ("numpy", "awkward", "uproot>=5", "vector", "hist", "iminuit", "matplotlib", "mplhep")
PYTHON = LockedPython(version="3.11.2", executable="/usr/bin/python3.11", site_packages="/s", scripts="/b")


@pytest.mark.network
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_the_example_stack(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)

    def once(cache: str) -> object:
        settings = Settings(cache_folder=tmp_path / cache)
        return resolve_pypi(
            PypiSection(dependencies=STACK), tmp_path, PYTHON, (2, 36), platform,
            datetime(2026, 6, 1, tzinfo=UTC), settings=settings, store=ContentStore(settings.cache_folder),
        )  # fmt: skip

    first = once("one")
    assert first == once("one") == once("two")
    wheels = {wheel.name: wheel for wheel in first}  # type: ignore[attr-defined]
    assert wheels["numpy"].version == "2.4.6"
    assert "numpy" in wheels["awkward"].dependencies
    assert {name for name, wheel in wheels.items() if wheel.requested} == {
        text.split(">")[0] for text in STACK
    }
    machine = "x86_64" if platform == "linux/amd64" else "aarch64"
    for wheel in wheels.values():
        assert wheel.file.urls[0].startswith("https://files.pythonhosted.org/packages/")
        assert wheel.file.size > 0
        assert "-none-any.whl" in wheel.file.file_name or machine in wheel.file.file_name
