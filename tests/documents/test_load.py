"""Loading a manifest: values, all problems at once, the cache, what is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import afenv.documents.load as loading
from afenv.documents.cvmfs import CvmfsSource
from afenv.documents.load import find_manifest, load_manifest, load_manifest_cached, parse_manifest
from afenv.documents.manifest import (
    AnalysisManifest,
    Author,
    CodeSource,
    DebianBase,
    Environment,
    Metadata,
    OciBase,
    PypiSection,
)
from afenv.errors import AfenvError
from afenv.store.content import ContentStore

TEXT = """\
afenv: 1
name: dimuon
version: "1.0"
metadata: {title: Z → μμ, license: MIT, authors: [{name: Author Name}]}
code: [{path: .}, {git: "https://example.org/a.git", rev: v1, into: /opt/a}]
environments:
  default:
    base: {debian: bookworm, packages: [python3]}
    pypi: {dependencies: ["uproot>=5"], owners: {a/b.py: uproot}}
    cvmfs: [{path: /cvmfs/sft.cern.ch}]
    build: []
    variables: {A: "1"}
    bytecode: false
    entrypoint: [python3, -V]
    workdir: /analysis
  image: {base: {oci: almalinux, packages: [git]}, build: [make]}
"""


def _codes(text: str) -> list[str]:
    with pytest.raises(AfenvError) as caught:
        parse_manifest(text.encode(), "afenv.yaml")
    return [problem.code for problem in caught.value.problems]


def test_values() -> None:
    assert parse_manifest(TEXT.encode(), "afenv.yaml") == AnalysisManifest(
        name="dimuon",
        version="1.0",
        metadata=Metadata(title="Z → μμ", license="MIT", authors=(Author(name="Author Name"),)),
        code=(CodeSource(folder="."), CodeSource(git="https://example.org/a.git", rev="v1", into="/opt/a")),
        environments={
            "default": Environment(
                debian=DebianBase(suite="bookworm", packages=("python3",)),
                pypi=PypiSection(dependencies=("uproot>=5",), owners={"a/b.py": "uproot"}),
                variables={"A": "1"},
                bytecode=False,
                entrypoint=("python3", "-V"),
                workdir="/analysis",
                cvmfs=(CvmfsSource(path="/cvmfs/sft.cern.ch"),),
            ),
            "image": Environment(oci=OciBase(reference="almalinux", packages=("git",)), build=("make",)),
        },
    )


def test_problems_come_all_at_once_in_the_order_of_lines() -> None:
    text = "afenv: 1\nname: A\nname: b\nenvirons: {}\nenvironments:\n  x: {base: {debian: 12}, pypi: {}}\n"
    assert _codes(text) == ["E013", "E003", "E010", "E011", "E012"]


def test_another_format_version_is_the_only_problem() -> None:
    assert _codes("afenv: 3\nnew: [key]\n") == ["E015"]


def test_what_was_reported_while_reading_is_not_reported_again() -> None:
    text = "afenv: 1\nname: !x 1\nenvironments: {a: {base: {debian: !y z}}}\n"
    assert _codes(text) == ["E004", "E004"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        find_manifest(tmp_path)
    assert caught.value.code == "E001"
    assert "afenv init" in str(caught.value)
    for path in (tmp_path, tmp_path / "afenv.yaml"):
        with pytest.raises(AfenvError) as caught:
            load_manifest(path)
        assert caught.value.code == "E001"


def test_cache(tmp_path: Path, store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "afenv.yaml"
    path.write_text(TEXT, encoding="utf-8")
    assert find_manifest(tmp_path) == path
    checked: list[str] = []
    check = loading._valid_tree

    def record(data: bytes, place: str) -> dict[str, Any]:
        checked.append(place)
        return check(data, place)

    monkeypatch.setattr(loading, "_valid_tree", record)
    first = load_manifest_cached(path, store)
    assert load_manifest_cached(path, store) == first == load_manifest(path)
    assert checked == [str(path), str(path)]  # the first time, and without the cache
    path.write_text(TEXT.replace("dimuon", "dielectron"), encoding="utf-8")
    assert load_manifest_cached(path, store).name == "dielectron"
    monkeypatch.setattr("afenv.__version__", "0.0.0")
    load_manifest_cached(path, store)
    assert len(checked) == 4


def test_a_wrong_manifest_is_never_cached(tmp_path: Path, store: ContentStore) -> None:
    path = tmp_path / "afenv.yaml"
    path.write_text(TEXT.replace("bookworm", "bokworm"), encoding="utf-8")
    for _ in range(2):
        with pytest.raises(AfenvError, match="did you mean 'bookworm'"):
            load_manifest_cached(path, store)


def test_the_second_time_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "afenv.yaml"
    path.write_text(TEXT, encoding="utf-8")
    program = f"""
import sys
from pathlib import Path
from afenv.documents.load import load_manifest_cached
from afenv.store.content import ContentStore
load_manifest_cached(Path({str(path)!r}), ContentStore(Path({str(tmp_path / "cache")!r})))
print(*[name for name in ("ruamel.yaml", "jsonschema", "packaging", "difflib") if name in sys.modules])
"""

    def imported() -> str:
        run = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, encoding="utf-8"
        )
        return run.stdout.strip()

    assert "jsonschema" in imported()
    assert imported() == ""
