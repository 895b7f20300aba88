"""``afenv archive``: what a bag holds, in the small world of this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .conftest import World

QUICK = ("--no-sif", "--without-afenv")


def archive(world: World, *words: str, output: str = "out/bag") -> Path:
    world.afenv_json("lock")
    world.afenv_json("archive", "-o", output, *QUICK, *words)
    return world.project / output


def index_of(bag: Path) -> Any:
    return json.loads((bag / "data/afenv-archive.json").read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_bag_holds_every_input_as_its_own_tools_expect_it(world: World) -> None:
    bag = archive(world)
    index = index_of(bag)
    by_digest = {one["sha256"]: one["path"] for one in index["files"]}
    lock = world.lock()["environments"]["default"]
    for one in (*lock["debs"], *lock["wheels"], *lock["indexes"]):
        assert one["sha256"] in by_digest
    paths = {one["path"] for one in index["files"]}
    root = "inputs/debian/debian"
    assert {
        f"{root}/dists/bookworm/InRelease",
        f"{root}/dists/bookworm/main/binary-amd64/Packages.xz",
        f"{root}/pool/main/b/base-files/base-files_1.0_amd64.deb",
        "inputs/debian/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz",
        "inputs/debian/keys/test.asc",
        "inputs/pypi/alpha-1.0-py3-none-any.whl",
        "inputs/code/0/files.tar",
        "afenv.yaml",
        "afenv.lock",
        "specs/lock/v1/spec.md",
        "specs/archive/v1/schema.json",
        "specs/errors.toml",
        "attached/default/sbom.spdx.json",
        "attached/default/provenance.json",
    } <= paths
    readme = (bag / "README.md").read_text()
    assert index["environments"]["default"]["image-id"] in readme
    assert readme.encode() == (bag / "data/README.md").read_bytes()
    info = (bag / "bag-info.txt").read_text()
    assert "Internal-Sender-Identifier: small 1.0\n" in info and "Payload-Oxum: " in info


def test_nothing_that_the_store_has_is_copied(world: World) -> None:
    bag = archive(world)
    lock = world.lock()["environments"]["default"]
    for one in index_of(bag)["files"]:
        if one["sha256"] in {each["sha256"] for each in (*lock["debs"], *lock["wheels"])}:
            blob = world.cache / "blobs/sha256" / one["sha256"][:2] / one["sha256"]
            assert (bag / "data" / one["path"]).samefile(blob)


@pytest.mark.parametrize("form", ["", ".tar", ".zip"])
def test_two_archives_of_one_lock_are_the_same_bytes(world: World, form: str) -> None:
    one = archive(world, output=f"one/bag{form}")
    world.afenv_json("cache", "prune", "--older-than", "0")
    world.afenv_json("archive", "-o", f"two/bag{form}", *QUICK)
    other = world.project / f"two/bag{form}"
    if form:
        assert one.read_bytes() == other.read_bytes()
    else:
        assert contents(one) == contents(other)


def test_what_is_not_locked_is_not_archived(world: World) -> None:
    status, _, err = world.afenv("archive", "-o", "bag", *QUICK)
    assert status == 2 and "E020" in err
    world.afenv_json("lock")
    world.write("src/fit.py", "import alpha\n")
    status, _, err = world.afenv("archive", "-o", "bag", *QUICK)
    assert status == 1 and "E021" in err
    assert not (world.project / "bag").exists()


def test_the_bag_can_be_checked_with_sha512sum_alone(world: World) -> None:
    bag = archive(world)
    done = subprocess.run(
        ["sha512sum", "--quiet", "-c", "manifest-sha512.txt"], cwd=bag, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "bagit", "--validate", "--quiet", str(bag)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_results_and_keys_go_along(world: World) -> None:
    world.write("reference/run/hist.json", "[1, 2]\n")
    world.afenv_json("key", "generate", "signing", "--no-password")
    bag = archive(
        world, "--results", "reference", "--sign", "signing", "--key", "signing.pub", output="out/bag"
    )
    assert (bag / "data/results/run/hist.json").read_text() == "[1, 2]\n"
    status, _, err = world.afenv("compare", "reference", "out/bag")
    assert status == 0, err
    assert len(list((bag / "data/keys").iterdir())) == 1
    assert len(list((bag / "data/attached/default/signatures").iterdir())) >= 1
    report = world.afenv_json("verify", str(bag))
    signatures = [one for one in report["checks"] if one["name"] == "signature"]
    assert [one["verdict"] for one in signatures] == ["ok"], report


def test_the_crate_says_who_and_what(world: World) -> None:
    manifest = (world.project / "afenv.yaml").read_text()
    metadata = (
        'metadata: {title: "A fit", license: MIT, authors: [{name: Emmy, orcid: 0000-0002-1825-0097, '
        "affiliation: A laboratory}], funders: [{name: A foundation, award: '42', url: 'https://ror.org/00'}]}\n"
    )
    world.write("afenv.yaml", manifest + metadata)
    bag = archive(world)
    crate = json.loads((bag / "data/ro-crate-metadata.json").read_bytes())
    entities = {one["@id"]: one for one in crate["@graph"]}
    root = entities["./"]
    assert entities["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["author"] == [{"@id": "https://orcid.org/0000-0002-1825-0097"}]
    assert root["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert root["funder"] == [{"@id": "https://ror.org/00"}]
    assert entities["https://ror.org/00"] | {"identifier": "42"} == entities["https://ror.org/00"]
    code = entities["inputs/code/0/files.tar"]
    assert code["identifier"] == [world.lock()["code"][0]["swhid"]]
    reachable = {one["@id"] for one in root["hasPart"]}
    for one in tuple(reachable):
        reachable |= {each["@id"] for each in entities[one].get("hasPart", ())}
    for one in index_of(bag)["files"]:
        assert entities[quote(one["path"])]["sha256"] == one["sha256"]
        assert quote(one["path"]) in reachable


def test_wrong_usage_is_said(world: World) -> None:
    world.afenv_json("lock")
    for words, code in (
        (["-o", "bag.zip", "--part-size", "many"], "E030"),
        (["-o", "bag.zip", "--object", "urn:x"], "E030"),
        (["-o", "bag", "--part-size", "50G"], "E731"),
        (["-o", "src"], "E731"),
        (["-o", "/"], "E731"),
        (["-o", "."], "E731"),
        (["-o", "bag", "--results", "none"], "E001"),
    ):
        status, _, err = world.afenv("archive", *words, *QUICK)
        assert status == 2 and code in err, err
