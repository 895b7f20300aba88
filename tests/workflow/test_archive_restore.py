"""``afenv restore`` and ``afenv check`` with a bag: in the form that is needed, reading what is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from afenv.archive import source as sources
from afenv.cli import main
from afenv.oci.read import open_image
from afenv.workflow import archive_restore
from afenv.workflow.lock import existing_lock, load
from afenv.workflow.project import open_project
from afenv.workflow.rerun_data import Checksums, data_of_run

from .conftest import World
from .test_archive import QUICK, archive

PROFILE = """\
afenv-facility: 1
name: a cluster
architecture: %s
kernel: {release: "5.14.0"}
user-namespaces: true
runtimes: [{name: %s, version: "%s"}]
"""


def elsewhere(world: World) -> None:
    """Another facility: no cache and no servers."""
    shutil.rmtree(world.cache, ignore_errors=True)
    world.contents.clear()


@pytest.mark.parametrize("form", ["", ".tar", ".zip"])
def test_an_image_is_restored_as_a_layout_with_what_is_attached(world: World, form: str) -> None:
    bag = archive(world, output=f"out/bag{form}")
    built = world.afenv_json("build")[0]
    elsewhere(world)
    restored = world.afenv_json("restore", str(bag), "--to", "oci", "-o", "image")
    assert restored["image_id"] == built["image_id"]
    with open_image(world.project / "image") as opened:
        assert opened.image.manifest_digest == built["manifest_digest"]
    report = world.afenv_json("verify", "image")
    assert {"sbom", "provenance", "lock", "manifest"} <= set(report["attached"])


def test_parts_of_a_bag_are_restored_as_files(world: World) -> None:
    bag = archive(world, "--results", "src")
    restored = world.afenv_json("restore", str(bag), "--only", "results", "--only", "documents", "-o", "some")
    some = world.project / "some"
    assert (some / "results/fit.py").read_text() == "import beta\n"
    assert (some / "afenv.lock").is_file() and not (some / "inputs").exists()
    assert restored["files"] == sum(1 for one in some.rglob("*") if one.is_file())
    status, _, err = world.afenv("restore", str(bag), "--only", "results", "-o", "some")
    assert status != 0 and "E032" in err


def test_a_project_is_restored_with_its_data(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user types it: in the folder at hand, with names that are relative; a rerun finds the data."""
    world.write("inside/events.txt", "twelve events\n")
    (world.folder / "beside.txt").write_text("eight\n")
    manifest = world.project / "afenv.yaml"
    uris = ("file:inside/events.txt", f"file://{world.folder}/beside.txt", "file:src/fit.py")
    data = ", ".join(f"{{name: d{number}, uri: '{uri}'}}" for number, uri in enumerate(uris))
    manifest.write_text(f"{manifest.read_text()}\ndata: [{data}]\n")
    world.afenv_json("lock")
    world.afenv_json("data", "pin")
    bag = archive(world, "--data")
    image_id = world.afenv_json("build")[0]["image_id"]
    elsewhere(world)
    (world.folder / "beside.txt").unlink()
    place = world.folder / "facility b"
    place.mkdir()
    monkeypatch.chdir(place)
    assert main(["restore", str(bag), "--to", "project", "-o", "again"]) == 0
    assert main(["-C", "again", "build", "--offline", "--locked"]) == 0
    assert world.capsys is not None and image_id in world.capsys.readouterr().out
    kept = place / "again/.afenv/data"
    assert sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*.*")) == [
        "d0/events.txt",
        "d1/beside.txt",
    ]
    project = open_project(Path("again"), offline=True)
    lock = existing_lock(project)
    assert lock is not None
    sums = Checksums(place / "sums.json")
    found = data_of_run(project, load(project).data, lock.data, ("d0", "d1", "d2"), {}, sums)
    sources = [found[name].files[0].source for name in sorted(found)]
    assert [source.read_text() for source in sources] == ["twelve events\n", "eight\n", "import beta\n"]
    assert sources[2] == place / "again/src/fit.py"


class Counted:
    """What is opened of a bag."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: set[str] = set()
        for kind in (sources.FolderBag, sources.FileBag):
            original = kind.open

            def opening(bag: object, path: str, original: object = original) -> object:
                self.opened.add(path)
                return original(bag, path)  # type: ignore[operator]

            monkeypatch.setattr(kind, "open", opening)


@pytest.mark.parametrize("form", ["", ".tar", ".zip"])
def test_a_partial_restore_does_not_read_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    bag = archive(world, output=f"out/bag{form}")
    counted = Counted(monkeypatch)
    world.afenv_json("restore", str(bag), "--to", "oci", "-o", "image")
    assert counted.opened
    assert not any(path.startswith(("data/inputs", "data/specs")) for path in counted.opened)
    counted.opened.clear()
    world.afenv_json("restore", str(bag), "--only", "documents", "-o", "documents")
    assert not any(path.startswith(("data/inputs", "data/image")) for path in counted.opened)


def test_from_the_parts_at_hand_what_they_hold_is_restored(world: World) -> None:
    """The first part and the last, which has the manifests; the image and the inputs lie between."""
    world.afenv_json("lock")
    done = world.afenv_json("archive", "-o", "bag.tar", "--part-size", "100k", *QUICK)
    parts = sorted(path for path in map(Path, done["paths"]) if path.suffix != ".json")
    assert len(parts) > 4
    index = json.loads((world.project / "bag.tar.parts.json").read_bytes())
    wanted = {"bagit.txt", "data/afenv-archive.json", "manifest-sha256.txt", "tagmanifest-sha256.txt"}
    wanted |= {one["path"] for one in index["members"] if one["path"].startswith("data/inputs/pypi")}
    needed = set()
    for one in index["members"]:
        if one["path"] in wanted:
            first, last = (one["offset"] // 100_000, (one["offset"] + one["size"] - 1) // 100_000)
            needed |= set(range(first, last + 1))
    assert len(needed) < len(parts)
    lost = [number for number in range(len(parts)) if number not in needed]
    for number in lost:
        parts[number].unlink()
    # the files of a part of the bag that are in lost pieces are named, and the piece as well
    status, _, err = world.afenv("restore", "bag.tar", "--to", "oci", "-o", "image")
    assert status == 5 and "E730" in err and parts[lost[0]].name.rpartition(".")[0] in err


def test_what_is_restored_is_checked(world: World) -> None:
    bag = archive(world)
    layer = max((bag / "data/image/blobs/sha256").iterdir(), key=lambda one: one.stat().st_size)
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 4
    layer.unlink()
    layer.write_bytes(data)
    elsewhere(world)
    status, _, err = world.afenv("restore", str(bag), "--to", "oci", "-o", "image")
    assert status == 5 and "E721" in err and layer.name in err
    assert not (world.project / "image").exists()


@pytest.mark.parametrize("form", ["files", "project"])
def test_nothing_is_left_of_a_restore_that_fails(world: World, form: str) -> None:
    bag = archive(world)
    wheel = bag / "data/inputs/pypi/beta-1.0-py3-none-any.whl"
    whole = wheel.read_bytes()
    wheel.unlink()
    wheel.write_bytes(whole[:-1])
    elsewhere(world)
    (world.project / "empty").mkdir()
    for place in ("new", "empty"):
        status, _, err = world.afenv("restore", str(bag), "--to", form, "-o", place)
        assert status == 5 and "E721" in err
    assert not (world.project / "new").exists() and not list((world.project / "empty").iterdir())
    wheel.write_bytes(whole)
    for place in ("new", "empty"):
        world.afenv_json("restore", str(bag), "--to", form, "-o", place)
        assert (world.project / place / "afenv.lock").is_file()


def test_the_project_is_restored_and_builds_offline_to_the_same_image(world: World) -> None:
    bag = archive(world)
    built = world.afenv_json("build")[0]
    elsewhere(world)
    asked = len(world.asked)
    world.afenv_json("restore", str(bag), "--to", "project", "-o", "again/project")
    status, out, err = world.afenv(
        "-C", str(world.project / "again/project"), "--offline", "build", "--locked", "--json"
    )
    assert status == 0, err
    assert json.loads(out)[0]["image_id"] == built["image_id"]
    assert len(world.asked) == asked


def test_check_takes_a_bag(world: World) -> None:
    bag = archive(world, output="bag.zip")
    world.write("good.yaml", PROFILE % ("amd64", "docker", "24.0.7"))
    world.write("bad.yaml", PROFILE % ("arm64", "docker", "24.0.7"))
    (verdict,) = world.afenv_json("check", str(bag), "--facility", "good.yaml")
    assert (verdict["outcome"], verdict["runtime"]) == ("runs", "docker")
    status, out, _ = world.afenv("check", str(bag), "--facility", "bad.yaml")
    assert status == 1 and "cannot run" in out


def test_the_facility_chooses_the_form(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = archive(world)
    for runtime, version, form in (
        ("apptainer", "1.3.4", "apptainer"),
        ("docker", "24.0.7", "docker"),
        ("containerd", "1.7.0", "registry"),
    ):
        monkeypatch.setitem(archive_restore.FORMS, form, lambda _, form=form: f"made by {form}")
        world.write("facility.yaml", PROFILE % ("amd64", runtime, version))
        restored = world.afenv_json("restore", str(bag), "--facility", "facility.yaml")
        assert (restored["form"], restored["path"]) == (form, f"made by {form}")
    world.write("facility.yaml", PROFILE % ("arm64", "docker", "24.0.7"))
    status, _, err = world.afenv("restore", str(bag), "--facility", "facility.yaml")
    assert status == 1 and "E735" in err and "a cluster" in err and "`afenv restore --to vm`" in err
    status, out, _ = world.afenv("check", str(bag), "--facility", "facility.yaml")
    assert status == 1 and "`afenv restore --to vm`" in out and "afenv run" not in out


def test_wrong_usage_of_restore_is_said(world: World) -> None:
    bag = str(archive(world))
    for words, code in (
        ([bag], "E030"),
        ([bag, "--to", "floppy"], "E030"),
        ([bag, "--to", "registry"], "E030"),
        ([bag, "--only", "everything"], "E030"),
        ([bag, "--only", "image", "--to", "docker"], "E030"),
        ([bag, "--to", "oci", "-e", "other"], "E031"),
        ([bag, "--only", "data"], "E784"),
        (["none", "--to", "oci"], "E001"),
    ):
        status, _, err = world.afenv("restore", *words)
        assert status in (2, 5) and code in err, (words, err)
