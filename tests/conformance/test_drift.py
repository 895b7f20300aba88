"""The schemas and the frozen values say the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from afenv.documents import cvmfs, data, lock, manifest, steps
from afenv.specs import specs_folder


def _schema(document: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((specs_folder() / document / "v1" / "schema.json").read_bytes())
    return schema


MANIFEST, LOCK = _schema("manifest"), _schema("lock")


def _fields(kind: type) -> set[str]:
    return {field.name.replace("_", "-") for field in dataclasses.fields(kind)}


def _properties(schema: dict[str, Any], name: str) -> set[str]:
    return set((schema["$defs"][name] if name else schema)["properties"])


def _defaults(kind: type) -> dict[str, Any]:
    return {
        field.name.replace("_", "-"): field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING and field.default not in (None, ())
    }


def test_manifest_keys_are_fields() -> None:
    assert _properties(MANIFEST, "") == _fields(manifest.AnalysisManifest) | {"afenv"}
    assert _properties(MANIFEST, "metadata") == _fields(manifest.Metadata)
    assert _properties(MANIFEST, "author") == _fields(manifest.Author)
    assert _properties(MANIFEST, "funder") == _fields(manifest.Funder)
    assert _properties(MANIFEST, "code") - {"path"} == _fields(manifest.CodeSource) - {"folder"}
    assert _properties(MANIFEST, "pypi") == _fields(manifest.PypiSection)
    assert _properties(MANIFEST, "conda") == _fields(manifest.CondaSection)
    assert _properties(MANIFEST, "gpu") == _fields(manifest.GpuSection)
    assert _properties(MANIFEST, "cvmfs") == _fields(cvmfs.CvmfsSource)
    assert _properties(MANIFEST, "data") == _fields(data.DataReference)
    kept = {"debian", "oci", "conda-base"}
    assert _properties(MANIFEST, "step") == _fields(steps.Step)
    assert _properties(MANIFEST, "parameter") == _fields(steps.Parameter)
    assert _properties(MANIFEST, "resources") == _fields(steps.Resources)
    assert _properties(MANIFEST, "environment") == ((_fields(manifest.Environment) - kept) | {"base"})
    assert _properties(MANIFEST, "base") == {"debian", "packages", "oci", "conda"}
    assert _fields(manifest.DebianBase) == {"suite", "packages"}
    assert _fields(manifest.OciBase) == {"reference", "packages"}
    assert _properties(MANIFEST, "condaBase") == _fields(manifest.CondaBase)


def test_manifest_defaults_are_those_of_the_fields() -> None:
    for name, kind in (
        ("", manifest.AnalysisManifest),
        ("environment", manifest.Environment),
        ("code", manifest.CodeSource),
        ("pypi", manifest.PypiSection),
        ("conda", manifest.CondaSection),
        ("condaBase", manifest.CondaBase),
        ("gpu", manifest.GpuSection),
        ("step", steps.Step),
    ):
        properties = (MANIFEST["$defs"][name] if name else MANIFEST)["properties"]
        stated = {key: value["default"] for key, value in properties.items() if "default" in value}
        assert stated == _defaults(kind)


def test_lock_keys_are_fields() -> None:
    assert _properties(LOCK, "") == _fields(lock.Lock) - {"extra"} | {"afenv-lock"}
    assert _properties(LOCK, "environment") == _fields(lock.LockedEnvironment) - {"extra"}
    file = _fields(lock.LockedFile)
    assert _properties(LOCK, "deb") == _fields(lock.LockedDeb) - {"file"} | file
    assert _properties(LOCK, "conda") == _fields(lock.LockedConda) - {"file"} | file
    assert _properties(LOCK, "wheel") == _fields(lock.LockedWheel) - {"file"} | file
    assert _properties(LOCK, "base") == _fields(lock.LockedBase)
    assert _properties(LOCK, "baseLayer") == _fields(lock.LockedBaseLayer)
    assert _properties(LOCK, "index") == _fields(lock.LockedIndex)
    assert _properties(LOCK, "python") == _fields(lock.LockedPython)
    assert _properties(LOCK, "code") == _fields(lock.LockedCode)
    assert _properties(LOCK, "source") == _fields(lock.LockedSource) - {"file"} | file
    assert _properties(LOCK, "gpu") == _fields(lock.LockedGpu)
    assert _properties(LOCK, "cvmfs") == _fields(cvmfs.LockedCvmfs)
    assert _properties(LOCK, "cvmfsPart") == _fields(cvmfs.LockedCvmfsPart)
    assert _properties(LOCK, "cvmfsResult") == _fields(cvmfs.LockedCvmfsResult)
    assert _properties(LOCK, "data") == _fields(data.LockedData)
    assert _properties(LOCK, "dataFile") == _fields(data.LockedDataFile)
    assert _properties(LOCK, "result") == _fields(lock.LockedResult)


def test_lock_defaults_are_those_of_the_fields() -> None:
    for name, kind in (
        ("deb", lock.LockedDeb),
        ("conda", lock.LockedConda),
        ("base", lock.LockedBase),
        ("code", lock.LockedCode),
        ("cvmfs", cvmfs.LockedCvmfs),
        ("environment", lock.LockedEnvironment),
    ):
        properties = LOCK["$defs"][name]["properties"]
        stated = {key: value["default"] for key, value in properties.items() if "default" in value}
        assert stated == _defaults(kind)


def _objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "the top", schema
    yield from ((name, entry) for name, entry in schema["$defs"].items() if "properties" in entry)


@pytest.mark.parametrize("schema", [MANIFEST, LOCK], ids=["manifest", "lock"])
def test_schema_is_one(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, entry in _objects(schema):
        for key, value in entry["properties"].items():
            assert value.get("title"), f"{name}.{key} has no title"
            assert value.get("description", "").endswith("."), f"{name}.{key} has no description"


def test_manifest_is_closed() -> None:
    for name, entry in _objects(MANIFEST):
        assert entry["additionalProperties"] is False, name


def test_lock_is_open_at_the_top_and_in_environments_only() -> None:
    opened = {name for name, entry in _objects(LOCK) if "additionalProperties" not in entry}
    assert opened == {"the top", "environment"}


def test_the_schema_says_what_is_not_supported_yet() -> None:
    said = {
        name: {key for key, value in entry["properties"].items() if "x-support" in value}
        for name, entry in _objects(MANIFEST)
    }
    assert not any(said.values())
