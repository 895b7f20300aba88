"""``afenv verify BAG``: whole, complete, and built again from itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.archive import tags
from afenv.archive.names import MANIFESTS, TAG_MANIFESTS

from .conftest import World
from .test_archive import QUICK, archive


def resealed(bag: Path) -> None:
    """Make the manifests anew, as somebody would who changes a bag on purpose."""
    payload = {
        str(one.relative_to(bag)): one.read_bytes() for one in (bag / "data").rglob("*") if one.is_file()
    }
    for names, files in (
        (MANIFESTS, payload),
        (
            TAG_MANIFESTS,
            {
                name: (bag / name).read_bytes()
                for name in ("bagit.txt", "bag-info.txt", "README.md", *MANIFESTS)
            },
        ),
    ):
        for name in names:
            algorithm = name.removesuffix(".txt").rpartition("-")[2]
            if names is TAG_MANIFESTS:
                files = {path: (bag / path).read_bytes() for path in files}
            digests = {path: hashlib.new(algorithm, data).hexdigest() for path, data in files.items()}
            (bag / name).write_bytes(tags.dump_manifest(digests))


def change_index(bag: Path, change: Callable[[Any], object]) -> None:
    path = bag / "data/afenv-archive.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))
    resealed(bag)


def replace_file(bag: Path, path: str, data: bytes) -> None:
    """Another content for a file, with index and manifests that fit it."""
    place = bag / "data" / path
    place.unlink()
    place.write_bytes(data)

    def change(value: Any) -> None:
        for one in value["files"]:
            if one["path"] == path:
                one |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    change_index(bag, change)


def remove_file(bag: Path, path: str) -> None:
    (bag / "data" / path).unlink()
    change_index(
        bag, lambda value: value.update(files=[one for one in value["files"] if one["path"] != path])
    )


def verdicts(report: Any, name: str) -> list[str]:
    return [one["verdict"] for one in report["checks"] if one["name"] == name]


@pytest.mark.parametrize("path", ["ro-crate-metadata.json", "image/index.json"])
def test_documents_that_are_no_json_but_have_digests_that_fit(world: World, path: str) -> None:
    bag = archive(world)
    for data in (b"{", b"[" * 100_000):
        replace_file(bag, path, data)
        status, out, err = world.afenv("verify", str(bag))
        assert status == 5 and "E900" not in err, out


@pytest.mark.parametrize("form", ["", ".tar", ".zip"])
def test_a_bag_is_verified_and_built_again_without_the_cache_and_the_servers(world: World, form: str) -> None:
    bag = archive(world, output=f"out/bag{form}")
    shutil.rmtree(world.cache)
    world.contents.clear()
    asked = len(world.asked)
    report = world.afenv_json("verify", str(bag), "--rebuild")
    assert report["verified"] and report["problems"] == []
    for name in (
        "fixity",
        "documents",
        "crate",
        "inputs",
        "debian",
        "image",
        "sbom",
        "provenance",
        "rebuild",
    ):
        assert verdicts(report, name) == ["ok"], name
    assert len(world.asked) == asked


def test_parts_are_verified_too(world: World) -> None:
    world.afenv_json("lock")
    done = world.afenv_json("archive", "-o", "bag.zip", "--part-size", "100k", *QUICK)
    assert len(done["paths"]) > 2
    for name in ("bag.zip", "bag.zip.parts.json"):
        assert world.afenv_json("verify", name)["verified"]
    (world.project / "bag.zip.002").unlink()
    status, out, _ = world.afenv("verify", "bag.zip", "--json")
    assert status == 5
    assert "E730" in {one["code"] for one in json.loads(out)["problems"]}


def test_damage_is_named_with_its_code_and_the_exit_status(world: World) -> None:
    bag = archive(world)
    path = bag / "data/inputs/pypi/alpha-1.0-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    path.write_bytes(data)
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5
    assert "E721: data/inputs/pypi/alpha-1.0-py3-none-any.whl has another content" in out


def test_what_the_lock_names_and_the_bag_lacks_is_named(world: World) -> None:
    bag = archive(world)
    remove_file(bag, "inputs/pypi/alpha-1.0-py3-none-any.whl")
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5
    assert "E728: the bag lacks the wheel of alpha 1.0" in out


def test_a_newer_format_is_said(world: World) -> None:
    bag = archive(world)
    change_index(bag, lambda value: value.update({"afenv-archive": 2}))
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5 and "E726" in out


def test_an_index_that_no_key_signed_is_found(world: World) -> None:
    bag = archive(world)
    path = "inputs/debian/debian/dists/bookworm/InRelease"
    lock = json.loads((bag / "data/afenv.lock").read_bytes())
    data = (bag / "data" / path).read_bytes().replace(b"Origin: Debian", b"Origin: Mallory")
    for one in lock["environments"]["default"]["indexes"]:
        if one["suite"] == "bookworm":
            one["sha256"] = hashlib.sha256(data).hexdigest()
    replace_file(bag, path, data)
    replace_file(bag, "afenv.lock", json.dumps(lock).encode())
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5
    assert "no valid signature by a trusted key" in out


def test_a_rebuild_that_differs_names_layer_and_path(world: World) -> None:
    """The code in the bag, and the lock that names it, are not those of the image."""
    bag = archive(world)
    world.write("src/fit.py", "import alpha\n")
    world.afenv_json("lock")
    world.afenv_json("archive", "-o", "other", *QUICK)
    other = world.project / "other"
    for path in ("inputs/code/0/files.tar", "afenv.lock"):
        replace_file(bag, path, (other / "data" / path).read_bytes())
    tree = json.loads((other / "data/afenv-archive.json").read_bytes())["code"][0]["tree"]
    change_index(bag, lambda value: value["code"][0].update(tree=tree))
    status, out, _ = world.afenv("verify", str(bag), "--rebuild", "--no-content")
    assert status == 5
    assert "(code:/analysis): ~ analysis/fit.py" in out, out


def test_verify_tells_a_bag_from_an_image(world: World) -> None:
    world.afenv_json("lock")
    world.afenv_json("build")
    status, _, err = world.afenv("verify", ".afenv/default.oci", "--rebuild")
    assert status == 2 and "E030" in err
    assert "image" in world.afenv_json("verify", ".afenv/default.oci")
