"""The builder of virtual machines without a machine: module order, the archive, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from afenv.documents.lock import LockedFile
from afenv.documents.vm import VmPackage, read_vm
from afenv.errors import AfenvError
from afenv.store.content import ContentStore
from afenv.testing import BuilderContract, make_image
from afenv_builders.vm import VmBuilder, builder
from afenv_builders.vm.initramfs import cpio, initramfs
from afenv_builders.vm.kernel import Kernel, in_order


def made_up_kernel(store: ContentStore) -> Kernel:
    """A kernel that boots nothing."""
    return Kernel(
        release="6.1.0-made-up",
        image=store.put(b"kernel"),
        modules={"virtio": store.put(b"module"), "9p": store.put(b"other")},
        busybox=store.put(b"busybox"),
        packages=(
            VmPackage(
                name="linux-image",
                version="1",
                architecture="amd64",
                file=LockedFile(urls=("https://example.org/k.deb",), size=1, sha256="0" * 64),
            ),
        ),
    )


class Packer:
    """A stand-in for the squashfs builder, which needs programs of the host."""

    def build(self, image, store, options):
        Path(options["path"]).write_bytes(image.image_id.encode())


@pytest.fixture(autouse=True)
def without_programs(monkeypatch):
    monkeypatch.setattr(builder, "kernel_for", lambda _, store, __, quiet: made_up_kernel(store))
    monkeypatch.setattr("afenv.oci.builders.find_builder", lambda _: Packer())


class TestVm(BuilderContract):
    builder = VmBuilder()
    target = "vm"


def unpacked(data: bytes) -> dict[str, tuple[int, bytes]]:
    """A reader of the ``newc`` form of cpio, by the kernel's description of it."""
    stream, found = io.BytesIO(data), {}
    while True:
        head = stream.read(110)
        assert head[:6] == b"070701"
        fields = [int(head[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        name = stream.read(fields[11])[:-1].decode()
        stream.seek(-stream.tell() % 4, 1)
        content = stream.read(fields[6])
        stream.seek(-stream.tell() % 4, 1)
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], content)


def test_modules_come_after_what_they_need():
    def module(depends: str) -> bytes:
        return b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"

    modules = {
        "virtio_pci": module("virtio,virtio_ring"),
        "virtio": module("virtio-ring"),
        "virtio_ring": module(""),
        "9p": module("9pnet,built_in"),
        "9pnet": module(""),
        "unwanted": module(""),
    }
    assert in_order(modules, ("9p", "virtio_pci", "not_there")) == [
        *("9pnet", "9p", "virtio_ring", "virtio", "virtio_pci"),
    ]


def test_the_archive_is_read_back(store):
    found = unpacked(cpio(("bin",), {"init": b"#!", "bin/long name": b"12345"}))
    assert found == {"bin": (0o040755, b""), "init": (0o100755, b"#!"), "bin/long name": (0o100755, b"12345")}
    packed = initramfs(made_up_kernel(store), store)
    assert packed == initramfs(made_up_kernel(store), store)
    names = list(unpacked(gzip.decompress(packed)))
    assert names[-2:] == ["modules/00-virtio.ko", "modules/01-9p.ko"]
    assert (
        packed.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff") == 1
    )  # one member: the kernel takes no more


def test_each_file_is_described_and_checked(store, tmp_path):
    image = make_image(store)
    VmBuilder().build(image, store, {"path": tmp_path / "vm"})
    machine = read_vm(tmp_path / "vm", verify=True)
    assert (machine.image_id, machine.parameters) == (image.image_id, "vsyscall=emulate")
    (tmp_path / "vm" / "kernel").chmod(0o644)
    (tmp_path / "vm" / "kernel").write_bytes(b"Kernel")
    read_vm(tmp_path / "vm")
    with pytest.raises(AfenvError) as caught:
        read_vm(tmp_path / "vm", verify=True)
    assert caught.value.code == "E301" and str(caught.value.problems[0].place).endswith("vm/kernel")
    (tmp_path / "vm" / "initramfs").unlink()
    with pytest.raises(AfenvError) as caught:
        read_vm(tmp_path / "vm")
    assert caught.value.code == "E001"
    VmBuilder().build(image, store, {"path": tmp_path / "vm"})  # made again
    read_vm(tmp_path / "vm", verify=True)
    # one of before, which has no script
    (tmp_path / "vm" / "run.sh").unlink()
    tree = json.loads((tmp_path / "vm" / "vm.json").read_bytes())
    del tree["files"]["run.sh"]
    (tmp_path / "vm" / "vm.json").write_text(json.dumps(tree))
    read_vm(tmp_path / "vm", verify=True)
    VmBuilder().build(image, store, {"path": tmp_path / "vm"})
    assert (tmp_path / "vm" / "run.sh").stat().st_mode & 0o100


def test_what_is_refused(store, tmp_path):
    image = make_image(store)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    for options, code in (
        ({}, "E030"),
        ({"path": tmp_path / "vm", "colour": "blue"}, "E030"),
        ({"path": tmp_path / "mine"}, "E032"),
    ):
        with pytest.raises(AfenvError) as caught:
            VmBuilder().build(image, store, options)
        assert caught.value.code == code
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir() if path.name != "cache")) == '["mine"]'
    foreign = make_image(store, platform="linux/riscv64")
    with pytest.raises(AfenvError) as caught:
        VmBuilder().build(foreign, store, {"path": tmp_path / "vm"})
    assert caught.value.code == "E013"
