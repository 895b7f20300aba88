"""``afenv archive --vm``: virtual machines in a bag, with a kernel that boots nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from afenv.documents.lock import LockedFile
from afenv.documents.vm import VmPackage, read_vm
from afenv.errors import AfenvError
from afenv_builders.vm import builder
from afenv_builders.vm.kernel import Kernel

from .conftest import World
from .test_archive import archive, contents, index_of
from .test_archive_verify import replace_file, verdicts

FILES = {"initramfs", "kernel", "root.squashfs", "run.sh", "vm.json"}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Debian's."""

    def made_up(architecture, store, settings, *, quiet):
        if settings.offline:
            raise AfenvError("E203", "the kernel is not in the cache")
        file = LockedFile(urls=("https://example.org/k.deb",), size=1, sha256="0" * 64)
        return Kernel(
            release="6.1.0-made-up",
            image=store.put(b"kernel"),
            modules={"9p": store.put(b"module")},
            busybox=store.put(b"busybox"),
            packages=(VmPackage(name="linux", version="1", architecture=architecture, file=file),),
        )

    monkeypatch.setattr(builder, "kernel_for", made_up)


def test_a_machine_goes_along_and_comes_out_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = archive(world, "--vm")
    index = index_of(bag)
    environment = index["environments"]["default"]
    assert environment["vm"] == "vm/default/vm.json"
    held = {one["path"]: one["part"] for one in index["files"] if one["path"].startswith("vm/")}
    assert held == {f"vm/default/{name}": "vm" for name in FILES}
    assert "sh data/vm/default/run.sh COMMAND" in (bag / "README.md").read_text()
    crate = json.loads((bag / "data/ro-crate-metadata.json").read_bytes())
    (folder,) = (one for one in crate["@graph"] if one["@id"] == "vm/")
    assert {one["@id"] for one in folder["hasPart"]} == set(held) and "run.sh" in folder["name"]
    report = world.afenv_json("verify", str(bag))
    assert verdicts(report, "vm") == ["ok"]
    # elsewhere nothing is made: it is copied
    shutil.rmtree(world.cache)
    world.contents.clear()
    monkeypatch.setattr(builder, "kernel_for", None)
    restored = world.afenv_json("restore", str(bag), "--to", "vm", "-o", "machine")
    assert restored["image_id"] == environment["image-id"]
    machine = world.project / "machine"
    assert read_vm(machine, verify=True).image_id == environment["image-id"]
    assert contents(machine) == contents(bag / "data/vm/default")
    assert (machine / "run.sh").stat().st_mode & 0o111
    assert [one.name for one in world.project.glob(".machine*")] == []
    status, _, err = world.afenv("restore", str(bag), "--to", "vm", "-o", "machine")
    assert status == 2 and "E032" in err
    (world.project / "empty").mkdir()
    world.afenv_json("-C", str(world.project / "empty"), "restore", str(bag), "--to", "vm", "-o", ".")
    read_vm(world.project / "empty", verify=True)
    restored = world.afenv_json("restore", str(bag), "--only", "vm", "-o", "files")
    assert restored["files"] == len(FILES)


@pytest.mark.parametrize("form", ["", ".zip"])
def test_two_archives_with_machines_are_the_same_bytes(world: World, form: str) -> None:
    one = archive(world, "--vm", output=f"one/bag{form}")
    world.afenv_json("cache", "prune", "--older-than", "0")
    other = archive(world, "--vm", output=f"two/bag{form}")
    if form:
        assert one.read_bytes() == other.read_bytes()
    else:
        assert contents(one) == contents(other)


def test_without_one_in_the_bag_a_machine_is_made(world: World) -> None:
    bag = archive(world)
    assert "vm" not in index_of(bag)["environments"]["default"]
    assert "run.sh" not in (bag / "README.md").read_text()
    assert verdicts(world.afenv_json("verify", str(bag)), "vm") == []
    world.afenv_json("restore", str(bag), "--to", "vm")
    read_vm(world.project / "default.vm", verify=True)
    status, _, err = world.afenv("restore", str(bag), "--only", "vm", "-o", "files")
    assert status == 2 and "E784" in err and "without vm; it has: image, inputs, documents" in err
    status, _, err = world.afenv("--offline", "restore", str(bag), "--to", "vm", "-o", "other")
    assert status == 4 and "E203" in err


def test_what_is_wrong_with_a_machine_is_said(world: World) -> None:
    bag = archive(world, "--vm")
    description = (bag / "data/vm/default/vm.json").read_bytes()
    (bag / "data/vm/default/kernel").chmod(0o644)
    (bag / "data/vm/default/kernel").write_bytes(b"Kernel")
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5 and "E721: data/vm/default/kernel" in out
    status, _, err = world.afenv("restore", str(bag), "--to", "vm", "-o", "machine")
    assert status == 5 and "E721" in err
    assert not list(world.project.glob("*machine*"))
    # another kernel, on purpose: the description tells
    replace_file(bag, "vm/default/kernel", b"Kernel")
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5 and "E727: data/vm/default/kernel is not the file" in out
    replace_file(bag, "vm/default/kernel", b"kernel")
    assert world.afenv("verify", str(bag))[0] == 0
    # another image
    tree = json.loads(description)
    replace_file(bag, "vm/default/vm.json", json.dumps(tree | {"image-id": f"sha256:{'1' * 64}"}).encode())
    status, out, _ = world.afenv("verify", str(bag))
    assert status == 5 and "is of another image" in out
    status, _, err = world.afenv("restore", str(bag), "--to", "vm", "-o", "machine")
    assert status == 5 and "E727" in err


def test_what_stands_in_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(world)
    words = ("archive", "-o", "other", "--no-sif", "--without-afenv", "--vm")
    status, _, err = world.afenv("--offline", *words)
    assert status == 4 and "E203" in err and "default" in err and "without --vm" in err
    monkeypatch.setattr(builder, "DEBIAN", {})
    status, _, err = world.afenv(*words)
    assert status == 2 and "E013" in err and "without --vm" in err
    assert not (world.project / "other").exists()


def test_a_machine_with_what_may_not_be_passed_on_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afenv.archive import limits

    rule = {"packages": ["pypi:alpha"], "limits": True, "license": "EULA", "reason": "Nobody may."}
    monkeypatch.setattr(limits, "_rules", lambda: [rule])
    bag = archive(world, "--vm", "--without-restricted")
    assert not (bag / "data/vm").exists()
    assert any("virtual machine" in note for note in index_of(bag)["notes"])
