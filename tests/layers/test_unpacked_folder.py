"""The folder that an interpreter is unpacked into is checked each time before it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.digest import sha256_bytes
from afenv.layers.interpreter import unpacked_folder
from afenv.store.content import ContentStore

KEY = sha256_bytes(b"an interpreter")


def test_an_unpacked_folder_is_kept_and_a_changed_one_is_made_again(store: ContentStore) -> None:
    made: list[Path] = []

    def unpack(work: Path) -> None:
        made.append(work)
        (work / "python").write_text("sound")

    folder = unpacked_folder(KEY, unpack, store)
    assert unpacked_folder(KEY, unpack, store) == folder
    assert len(made) == 1
    (folder / "python").write_text("changed")
    assert (unpacked_folder(KEY, unpack, store) / "python").read_text() == "sound"
    assert len(made) == 2


def test_a_failure_leaves_no_folder(store: ContentStore) -> None:
    def unpack(work: Path) -> None:
        (work / "python").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        unpacked_folder(KEY, unpack, store)
    assert not any((store.folder / "interpreters").glob("*"))
    assert not any(store.temporary_folder().iterdir())
