"""What the code layer writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.documents.manifest import CodeSource
from afenv.errors import AfenvError
from afenv.layers.code import write_code
from afenv.resolve.code import resolve_code
from afenv.settings import Settings
from afenv.store.content import ContentStore


class Recorder:
    """Notes what is written."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int, bytes | str]] = []

    def directory(self, path: str, mode: int = 0o755) -> None:
        self.entries.append((path, mode, "folder"))

    def file(self, path: str, mode: int, data: bytes) -> None:
        self.entries.append((path, mode, data))

    def symlink(self, path: str, target: str) -> None:
        self.entries.append((path, 0o777, target))


@pytest.mark.parametrize(
    ("into", "prefix"), [("/analysis", "analysis/"), ("/", ""), ("/opt/my/code", "opt/my/code/")]
)
def test_modes_are_normal_and_paths_sorted(into: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(cache_folder=tmp_path / "cache")
    store = ContentStore(settings.cache_folder)
    folder = tmp_path / "work"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "data").write_text("2")
    (folder / "b" / "data").chmod(0o600)
    (folder / "b.sh").write_text("3")
    (folder / "b.sh").chmod(0o700)
    (folder / "a").symlink_to("b/data")
    code = resolve_code(CodeSource(folder=".", into=into), folder, store, settings)
    writer = Recorder()
    write_code(code, folder, store, settings, writer)
    top = [(prefix.rstrip("/"), 0o755, "folder")] if prefix else []
    assert writer.entries == [
        *top,
        (prefix + "a", 0o777, "b/data"),
        (prefix + "b.sh", 0o755, b"3"),
        (prefix + "b/data", 0o644, b"2"),
    ]
    (folder / "b.sh").write_text("changed")
    empty = Recorder()
    with pytest.raises(AfenvError) as caught:
        write_code(code, folder, store, settings, empty)
    assert caught.value.code == "E021"
    assert empty.entries == top
