"""An OCFL store that others write to as well, or that is damaged."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from afenv.archive.items import of_bytes
from afenv.archive.ocfl import DEFAULT_OBJECT, OcflBag, add_to_store, object_folder
from afenv.errors import AfenvError


def add(root: Path, name: str, advance=lambda _: None) -> None:
    items = [of_bytes("content", name.encode(), "documents")]
    add_to_store(root, DEFAULT_OBJECT, name, items, {"Source": "test"}, b"read me", 0, advance)


def change(root: Path, data: bytes) -> None:
    """Another inventory, with a digest that fits it."""
    folder = object_folder(root, DEFAULT_OBJECT)
    (folder / "inventory.json").write_bytes(data)
    (folder / "inventory.json.sha512").write_text(f"{hashlib.sha512(data).hexdigest()} inventory.json\n")


def test_two_bags_are_added_at_once(tmp_path):
    other = threading.Thread(target=add, args=(tmp_path / "store", "other"))

    def begin_the_other(_: int) -> None:
        if not other.ident:
            other.start()
            other.join(0.5)

    add(tmp_path / "store", "one", begin_the_other)
    other.join()
    for name in ("one", "other"):
        with OcflBag(tmp_path / "store", name).open("data/content") as file:
            assert file.read() == name.encode()


@pytest.mark.parametrize(
    "inventory",
    [
        {"head": "v9"},
        {"head": None},
        {"head": "newest"},
        {"versions": []},
        {"versions": {"v1": {}}},
        {"versions": {"v1": {"state": "x"}}},
        {"versions": {"v1": {"state": {"a": 1}}}},
        {"versions": {"v1": {"state": {"a": [{}]}}}},
        {"versions": {"v1": {"state": {"a": ["one/bagit.txt"]}}}},
        {"manifest": {"a": {"a": 1}}},
        {"manifest": {"a": []}},
        b"[" * 100_000,
        b"[]",
    ],
)
def test_an_inventory_that_is_none(tmp_path, inventory):
    add(tmp_path / "store", "one")
    if not isinstance(inventory, bytes):
        whole = json.loads(
            (object_folder(tmp_path / "store", DEFAULT_OBJECT) / "inventory.json").read_bytes()
        )
        inventory = json.dumps(whole | inventory).encode()
    change(tmp_path / "store", inventory)
    for attempt in (lambda: OcflBag(tmp_path / "store", "one"), lambda: add(tmp_path / "store", "other")):
        with pytest.raises(AfenvError, match="E734"):
            attempt()


@pytest.mark.parametrize("layout", [b"{", b"[]", b"{}", b"[" * 100_000])
def test_a_layout_that_is_none(tmp_path, layout):
    add(tmp_path / "store", "one")
    (tmp_path / "store" / "ocfl_layout.json").write_bytes(layout)
    with pytest.raises(AfenvError, match="E734"):
        add(tmp_path / "store", "other")
