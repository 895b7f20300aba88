"""Wheels of afenv's extras in a bag: which are taken along, and those that the index has as source alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from importlib import metadata
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.workflow import archive_self
from afenv.workflow.archive_repack import repacked
from afenv.workflow.archive_self import installed_extras, needed

SOURCE_ALONE = "connection-pool"  # Snakemake needs it


def test_a_wheel_of_what_is_installed() -> None:
    name, wheel = repacked(metadata.distribution(SOURCE_ALONE))
    assert (name, wheel) == repacked(metadata.distribution(SOURCE_ALONE))
    assert name.startswith("connection_pool-") and name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        names = archive.namelist()
        info = name.removesuffix("-py3-none-any.whl") + ".dist-info"
        assert names[-1].startswith(f"{info}/") and "connection_pool/__init__.py" in names
        assert not {f"{info}/INSTALLER", f"{info}/direct_url.json"} & set(names)
        rows = list(csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode())))
        assert sorted(row[0] for row in rows) == sorted(names)
        for path, digest, size in rows:
            if path != f"{info}/RECORD":
                content = archive.read(path)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={found}", len(content))


def test_what_was_compiled_is_not_packed() -> None:
    with pytest.raises(AfenvError, match="not of pure Python") as caught:
        repacked(metadata.distribution("numpy"))
    assert caught.value.code == "E736"


def test_extras_need_more() -> None:
    plain, both = needed(), needed(("rerun", "compare"))
    assert plain.items() < both.items()
    assert {"snakemake", SOURCE_ALONE, "uproot", "numpy"} <= both.keys() - plain.keys()


def test_an_extra_that_is_not_installed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    original = metadata.distribution

    def distribution(name: str) -> metadata.Distribution:
        if name == "yte":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(archive_self.metadata, "distribution", distribution)
    assert installed_extras(("rerun", "compare")) == ("compare",)


def test_what_has_no_wheel_is_packed_and_the_rest_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(_: Any, pins: list[str], packed: Any) -> list[Any]:
        asked.append((pins, packed))
        if any(pin.startswith(SOURCE_ALONE) for pin in pins):
            message = f"E107: {SOURCE_ALONE} has no wheel for this Python and platform: because"
            raise AfenvError("E736", message)
        return []

    monkeypatch.setattr(archive_self, "_resolve", resolve)
    versions = {SOURCE_ALONE: "0.0.3", "throttler": "1.2.2"}
    assert archive_self._resolve_or_repack(None, versions) == ([], [SOURCE_ALONE])  # type: ignore[arg-type]
    assert asked[-1] == (["throttler==1.2.2"], {SOURCE_ALONE: "0.0.3"})

    def broken(_: Any, __: list[str], ___: Any) -> list[Any]:
        raise AfenvError("E736", "E107: numpy has no wheel for this Python and platform: because")

    monkeypatch.setattr(archive_self, "_resolve", broken)
    with pytest.raises(AfenvError, match="not of pure Python"):
        archive_self._resolve_or_repack(None, {"numpy": "1"})  # type: ignore[arg-type]
    with pytest.raises(AfenvError, match="E107"):
        archive_self._resolve_or_repack(None, versions)  # type: ignore[arg-type]
