"""Archives of every kind of environment and code: built again from the bag alone, used by others' tools."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pygit2
import pytest

from afenv.archive.limits import restriction
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image

from .conftest import World
from .test_archive import QUICK, archive, contents, index_of
from .test_archive_verify import verdicts
from .test_base import DEBIAN, PYTHON, SETTINGS, WHEELS, manifest, serve
from .test_conda import MANIFEST as CONDA_MANIFEST
from .test_conda import add_package


def rebuilt(world: Any, bag: Path) -> Any:
    """What verify says of a bag when nothing else is there."""
    shutil.rmtree(world.cache)
    world.contents.clear()
    report = world.afenv_json("verify", str(bag), "--rebuild")
    assert verdicts(report, "rebuild") == ["ok"], report
    assert verdicts(report, "inputs") == ["ok"], report
    return report


@pytest.fixture
def conda_world(world: World) -> World:
    channel = world.project / "channel"
    add_package(channel, "tool", "1.0", "0", ["base >=1"])
    add_package(channel, "base", "1.0", "0", ["__glibc >=2.17"])
    add_package(channel, "gpulib", "1.0", "cpu_0", [])
    world.write("afenv.yaml", CONDA_MANIFEST)
    return world


def test_conda_packages_are_a_channel_and_build_again(conda_world: World) -> None:
    bag = archive(conda_world)
    (repodata,) = (bag / "data/inputs/conda").glob("*/linux-64/repodata.json")
    listed = json.loads(repodata.read_bytes())
    names = ("base-1.0-0", "gpulib-1.0-cpu_0", "tool-1.0-0")
    assert sorted(listed["packages"]) == [f"{name}.tar.bz2" for name in names]
    for name, record in listed["packages"].items():
        data = (repodata.parent / name).read_bytes()
        assert (record["sha256"], record["size"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert listed["packages"]["tool-1.0-0.tar.bz2"]["depends"] == ["base >=1"]
    assert (repodata.parents[1] / "noarch/repodata.json").is_file()
    shutil.rmtree(conda_world.project / "channel")
    rebuilt(conda_world, bag)


@pytest.mark.parametrize("form", ["", ".zip"])
def test_a_base_image_is_stored_once_and_builds_again(world: World, tmp_path: Path, form: str) -> None:
    images = ContentStore(tmp_path / "elsewhere")
    base = make_foreign_image(images, [DEBIAN, PYTHON], settings=SETTINGS)
    manifest(world, serve(world, images, base), WHEELS)
    bag = archive(world, output=f"out/bag{form}")
    rebuilt(world, bag)
    if not form:
        held = [one["path"] for one in index_of(bag)["files"]]
        assert sorted(path.rpartition("/")[2] for path in held if path.startswith("inputs/base/")) == sorted(
            digest.removeprefix("sha256:") for digest in (base.manifest_digest, base.image_id)
        )
        for layer in base.layers:
            assert f"image/blobs/sha256/{layer.digest.removeprefix('sha256:')}" in held


def _commit(repository: pygit2.Repository, message: str) -> str:
    index = repository.index
    index.add_all()
    index.write()
    who = pygit2.Signature("Emmy", "emmy@example.org", 1_700_000_000, 0)
    parents = [] if repository.head_is_unborn else [repository.head.target]
    return str(repository.create_commit("HEAD", who, who, message, index.write_tree(), parents))


@pytest.fixture
def git_world(world: World) -> World:
    """Code in a repository beside the project, with history, a submodule and a file in LFS."""
    inner = pygit2.init_repository(str(world.folder / "inner"), initial_head="main")
    (world.folder / "inner/part.py").write_text("part = 1\n")
    inner_commit = _commit(inner, "part")
    outer = pygit2.init_repository(str(world.folder / "outer"), initial_head="main")
    folder = world.folder / "outer"
    large = b"large content\n" * 100
    oid = hashlib.sha256(large).hexdigest()
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(large)}\n"
    (folder / "large.bin").write_text(pointer)
    place = folder / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(large)
    (folder / "fit.py").write_text("x = 1\n")
    _commit(outer, "first")
    (folder / ".gitmodules").write_text('[submodule "inner"]\n\tpath = inner\n\turl = ../inner\n')
    outer.index.add_all()
    outer.index.add(pygit2.IndexEntry("inner", pygit2.Oid(hex=inner_commit), pygit2.enums.FileMode.COMMIT))
    outer.index.write()
    who = pygit2.Signature("Emmy", "emmy@example.org", 1_700_000_100, 0)
    tree = outer.index.write_tree()
    outer.create_commit("HEAD", who, who, "second", tree, [outer.head.target])
    text = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", text.replace("{path: src}", "{git: ../outer, rev: main}"))
    return world


def test_git_goes_as_bundles_with_submodules_and_lfs_content(git_world: World, tmp_path: Path) -> None:
    bag = archive(git_world)
    (code,) = index_of(bag)["code"]
    assert len(code["repositories"]) == 2 and all(one.get("complete", True) for one in code["repositories"])
    locked = git_world.lock()["code"][0]
    (lfs,) = (bag / "data/inputs/code/lfs").iterdir()
    assert lfs.name == locked["lfs"][0]["sha256"]
    bundle = bag / "data" / code["repositories"][0]["bundle"]
    clone = tmp_path / "clone"
    git = shutil.which("git")
    if git:
        environment = {**os.environ, "GIT_LFS_SKIP_SMUDGE": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        command = [git, "clone", "-q", str(bundle), str(clone)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        cloned = pygit2.Repository(str(clone))
        assert str(cloned.head.target) == locked["commit"]
        assert len(list(cloned.walk(cloned.head.target))) == 2
    for name in ("outer", "inner"):
        shutil.rmtree(git_world.folder / name)
    rebuilt(git_world, bag)


def test_bundles_are_the_same_bytes_from_another_clone(git_world: World) -> None:
    one = archive(git_world, output="one")
    shutil.rmtree(git_world.cache / "git")
    git_world.afenv_json("archive", "-o", "two", *QUICK)
    assert contents(one) == contents(git_world.project / "two")


def test_several_environments_share_one_layout(world: World) -> None:
    text = (world.project / "afenv.yaml").read_text()
    other = "  other:\n    base: {debian: bookworm, packages: [python3]}\n    bytecode: false\n"
    world.write("afenv.yaml", text + other)
    bag = archive(world)
    index = index_of(bag)
    assert sorted(index["environments"]) == ["default", "other"]
    for name, one in index["environments"].items():
        restored = world.afenv_json("restore", str(bag), "--to", "oci", "-e", name, "-o", f"image-{name}")
        assert restored["image_id"] == one["image-id"]
    shutil.rmtree(world.cache)
    world.contents.clear()
    report = world.afenv_json("verify", str(bag), "--rebuild")
    assert verdicts(report, "rebuild") == ["ok", "ok"]


def test_what_may_not_be_passed_on_is_reported_and_left_out_when_told_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afenv.archive import limits

    rule = {"packages": ["pypi:alpha"], "limits": True, "license": "EULA of alpha", "reason": "Nobody may."}
    monkeypatch.setattr(limits, "_rules", lambda: [rule])
    world.afenv_json("lock")
    done = world.afenv_json("archive", "-o", "with", *QUICK)
    assert done["restricted"] == [{"name": "pypi:alpha", "license": "EULA of alpha", "reason": "Nobody may."}]
    assert done["left_out"] == []
    done = world.afenv_json("archive", "-o", "without", "--without-restricted", *QUICK)
    wheel = next(one for one in world.lock()["environments"]["default"]["wheels"] if one["name"] == "alpha")
    index = index_of(world.project / "without")
    left_out = {one["sha256"]: one for one in index["left-out"]}
    assert left_out[wheel["sha256"]]["urls"] == wheel["urls"]
    held = {one["sha256"] for one in index["files"]}
    assert not held & set(left_out)
    full = {one["sha256"] for one in index_of(world.project / "with")["files"]}
    assert len(set(left_out) & full) == len(left_out) == 2  # the wheel, and the layer that holds it
    assert wheel["sha256"] in (world.project / "without/README.md").read_text()
    report = world.afenv_json("verify", "without", "--rebuild")
    assert verdicts(report, "inputs") == ["unchecked"] == verdicts(report, "rebuild")
    status, _, err = world.afenv("restore", "without", "--to", "oci", "-o", "image")
    assert status == 5 and "E728" in err and "licence" in err


@pytest.mark.parametrize(
    ("package", "stated", "limited"),
    [
        ("pypi:nvidia-cublas-cu12", "LicenseRef-NVIDIA-Proprietary", True),
        ("pypi:nvidia-nccl-cu12", "BSD-3-Clause", False),
        ("pypi:nvidia-nccl-cu12", "LicenseRef-other", True),
        ("conda:cudatoolkit", "", True),
        ("conda:cuda-cudart", "LicenseRef-NVIDIA-End-User-License-Agreement", True),
        ("conda:root", "LGPL-2.1-only", False),
        ("pypi:numpy", "BSD-3-Clause", False),
        ("pypi:something", "Proprietary licence of a company", True),
    ],
)
def test_the_table_knows_what_is_limited(package: str, stated: str, limited: bool) -> None:
    assert (restriction(package, stated) is not None) == limited


def test_what_debian_calls_non_free_is_limited() -> None:
    assert restriction("debian:firmware", "", non_free=True) is not None
    assert restriction("debian:bash", "") is None


def test_data_goes_along_on_request(world: World) -> None:
    data = b"events\n" * 1000
    world.write("events.dat", data.decode())
    digest = hashlib.sha256(data).hexdigest()
    text = (world.project / "afenv.yaml").read_text()
    known = f"size: {len(data)}, checksums: ['sha256:{digest}']"
    reference = f"data:\n  - {{name: events, uri: 'file:events.dat', {known}}}\n"
    world.write("afenv.yaml", text + reference)
    bag = archive(world, output="without")
    assert not (bag / "data/data").exists()
    bag = archive(world, "--data", output="with")
    assert (bag / "data/data/events/events.dat").read_bytes() == data
    report = world.afenv_json("verify", "with")
    assert verdicts(report, "data") == ["ok"]
    assert verdicts(world.afenv_json("verify", "without"), "data") == ["unchecked"]


def test_archives_share_inputs_in_an_ocfl_store(world: World) -> None:
    world.afenv_json("lock")
    store = world.project / "store"
    world.afenv_json("archive", "--ocfl", "store", *QUICK)

    def size() -> int:
        return sum(one.stat().st_size for one in store.rglob("*/content/*/**/*") if one.is_file())

    first = size()
    assert first > 100_000
    world.write("afenv.yaml", (world.project / "afenv.yaml").read_text().replace('"1.0"', '"1.1"'))
    world.write("src/fit.py", "import alpha\n")
    world.afenv_json("lock")
    world.afenv_json("archive", "--ocfl", "store", *QUICK)
    assert size() < 1.5 * first
    held = list(store.rglob("libc6_1.0_amd64.deb"))
    assert len(held) == 1
    for name in ("small-1.0", "small-1.1"):
        report = world.afenv_json("verify", f"store#{name}", "--rebuild")
        assert verdicts(report, "rebuild") == ["ok"]
    # the same archive again adds nothing, another one of that name is refused
    before = sorted(store.rglob("*"))
    world.afenv_json("archive", "--ocfl", "store", *QUICK)
    assert sorted(store.rglob("*")) == before
    world.write("src/fit.py", "import beta, alpha\n")
    world.afenv_json("lock")
    status, _, err = world.afenv("archive", "--ocfl", "store", *QUICK)
    assert status == 2 and "E731" in err
    status, _, err = world.afenv("archive", "--ocfl", "src", *QUICK)
    assert status == 2 and "E734" in err
    # damage in the store is damage of the bag
    held[0].chmod(0o644)
    held[0].write_bytes(held[0].read_bytes()[:-1] + b"!")
    status, out, _ = world.afenv("verify", "store#small-1.0")
    assert status == 5 and "libc6_1.0_amd64.deb has another content" in out
