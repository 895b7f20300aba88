"""What ``run --live`` mounts, and what lies below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.documents.manifest import AnalysisManifest, CodeSource
from afenv.errors import AfenvError
from afenv.workflow.live import Bind, live_binds


def manifest(*code: CodeSource) -> AnalysisManifest:
    return AnalysisManifest(name="x", version="1", code=code, environments={})


def test_folders_cover_their_destinations(tmp_path: Path) -> None:
    (tmp_path / "project" / "macros").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("project")
    found = live_binds(
        manifest(
            CodeSource(folder="macros", into="/opt/macros/"),
            CodeSource(git="https://example.org/x.git", rev="v1", into="/opt/fit"),
            CodeSource(folder=".", into="/analysis"),
        ),
        tmp_path / "linked",
    )
    real = (tmp_path / "project").resolve()
    assert found == (Bind(real, "/analysis"), Bind(real / "macros", "/opt/macros"))


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("E030", CodeSource(git="https://example.org/x.git", rev="v1")),
        ("E030", CodeSource(folder=".", into="/")),
        ("E001", CodeSource(folder="none")),
    ],
)
def test_what_cannot_be_mounted(code: str, source: CodeSource, tmp_path: Path) -> None:
    with pytest.raises(AfenvError) as caught:
        live_binds(manifest(source), tmp_path)
    assert caught.value.code == code


def test_it_is_told_before_anything_is_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from afenv.cli import main

    code = "code: [{git: 'https://example.org/x.git', rev: v1}]"
    environments = "environments: {default: {base: {debian: bookworm}}}"
    (tmp_path / "afenv.yaml").write_text(f"afenv: 1\nname: x\n{code}\n{environments}\n")
    assert main(["run", "-C", str(tmp_path), "--offline", "--live", "--", "true"]) == 2
    assert "error E030" in capsys.readouterr().err
    assert not (tmp_path / "afenv.lock").exists()
