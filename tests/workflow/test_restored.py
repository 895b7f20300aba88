"""A project that comes from a bag takes the bag's image, and builds it only where it is gone or asked to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.record import replace
from afenv.workflow import build as building
from afenv.workflow.archive_bag import open_archive
from afenv.workflow.project import open_project
from afenv.workflow.restored import fits
from afenv.workflow.running import image_to_run

from .conftest import World
from .test_archive import archive


class Site:
    """A project of the world, archived, and what was restored of it where there is no network."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.layers_built = 0
        original = building._layers

        def counted(*arguments: Any) -> Any:
            self.layers_built += 1
            return original(*arguments)

        monkeypatch.setattr(building, "_layers", counted)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        monkeypatch.setenv("AFENV_BUILDER_ID", "https://ci.example.org/dimuon")
        self.bag = archive(world)
        self.built = world.afenv_json("build")[0]
        monkeypatch.delenv("SOURCE_DATE_EPOCH")
        monkeypatch.delenv("AFENV_BUILDER_ID")
        shutil.rmtree(world.cache)
        world.contents.clear()
        world.asked.clear()
        self.layers_built = 0

    @property
    def place(self) -> Path:
        return self.world.project / "again"

    @property
    def layout(self) -> Path:
        return self.place / ".afenv/default.oci"

    def restore(self, *words: str) -> Any:
        return self.world.afenv_json("restore", str(self.bag), "--to", "project", "-o", "again", *words)

    def image_id(self) -> str:
        """That of the image that `afenv run` takes there."""
        found = image_to_run(open_project(self.place, offline=True, quiet=True), "default").image_id
        assert self.world.asked == []
        return found


@pytest.fixture
def site(world: World, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(world, monkeypatch)


def test_the_image_of_the_bag_is_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    restored = site.restore()
    assert restored["images"] == {"default": site.built["image_id"]}
    attached = {path.name: path.read_bytes() for path in (site.layout / "blobs/sha256").iterdir()}
    assert any(b"https://ci.example.org/dimuon" in content for content in attached.values())
    assert site.image_id() == site.built["image_id"]
    # as a user types it; what the bag had attached is as it was
    status, out, err = site.world.afenv("-C", str(site.place), "--offline", "build", "--json")
    assert status == 0, err
    (built,) = json.loads(out)
    assert (built["image_id"], built["manifest_digest"]) == (
        site.built["image_id"],
        site.built["manifest_digest"],
    )
    assert {path.name: path.read_bytes() for path in (site.layout / "blobs/sha256").iterdir()} == attached
    assert site.layers_built == 0
    # another time is asked for: another image
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    assert site.image_id() != site.built["image_id"]
    assert site.layers_built == 1


def test_it_is_taken_from_the_project_where_the_cache_is_gone(site: Site) -> None:
    site.restore()
    shutil.rmtree(site.world.cache)
    assert site.image_id() == site.built["image_id"]
    assert site.layers_built == 0


def test_it_is_built_again_where_that_is_asked_for(site: Site) -> None:
    assert site.restore("--rebuild")["images"] == {}
    assert not site.layout.exists()
    status, _, err = site.world.afenv("restore", str(site.bag), "--to", "oci", "--rebuild")
    assert status == 2 and "E030" in err
    assert site.image_id() == site.built["image_id"]  # as the time of the bag goes along
    assert site.layers_built == 1


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def _largest_damaged(site: Site) -> None:
    shutil.move(site.world.cache, site.world.folder / "cache-as-it-was")
    _flip(max((site.layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size))
    shutil.move(site.world.folder / "cache-as-it-was", site.world.cache)
    for layer in site.built["layers"]:
        digest = layer["digest"].removeprefix("sha256:")
        (site.world.cache / "blobs/sha256" / digest[:2] / digest).unlink(missing_ok=True)


def _gone(site: Site) -> None:
    shutil.rmtree(site.layout)


def _note_damaged(site: Site) -> None:
    (site.place / ".afenv/restored.json").write_text("{")


def _other_image(site: Site) -> None:
    note = site.place / ".afenv/restored.json"
    value = json.loads(note.read_bytes())
    note.write_text(json.dumps(value | {"images": {"default": "sha256:" + "0" * 64}}))


@pytest.mark.parametrize("harm", [_largest_damaged, _gone, _note_damaged, _other_image])
def test_it_is_built_again_where_it_is_gone(
    site: Site, harm: Callable[[Site], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.restore()
    harm(site)
    if harm is _note_damaged:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert site.image_id() == site.built["image_id"]
    assert site.layers_built == 1


def test_a_change_makes_another_image(site: Site) -> None:
    site.restore()
    (site.place / "src/fit.py").write_text("import alpha\n")
    changed = site.image_id()
    assert changed != site.built["image_id"]
    assert site.layers_built == 1


def test_an_image_of_another_lock_is_not_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_archive(site.bag) as bag:
        lock = bag.lock()
        image = bag.image("default")[0].image
        epoch = bag.index.epoch
    assert fits(image, lock, "default", epoch)
    assert not fits(image, lock, "default", epoch + 1)
    environment = replace(lock.environments["default"], variables={"OMP_NUM_THREADS": "1"})
    other = replace(lock, environments={"default": environment})
    assert not fits(image, other, "default", epoch)
    assert not fits(image, replace(lock, name="another"), "default", epoch)

    monkeypatch.setattr("afenv.workflow.archive_project.fits", lambda *_: False)
    status, _, err = site.world.afenv("restore", str(site.bag), "--to", "project", "-o", "again")
    assert status == 0 and "will be built again" in err
    assert not site.layout.exists()
