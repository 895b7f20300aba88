"""The kernel and the tools of a virtual machine, out of Debian packages.

They are no part of the image, so no lock names them: they are chosen when the first machine of an
architecture is made, with the signatures of Debian's archive checked, kept in the cache, and written with
their digests beside the machine. From then on nothing but QEMU is needed.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedDeb
from afenv.documents.manifest import DebianBase
from afenv.documents.vm import VmPackage, package_of, package_tree
from afenv.errors import AfenvError
from afenv.layers.deb_archive import open_deb
from afenv.record import record
from afenv.settings import Settings
from afenv.store.content import ContentStore

SUITE = "bookworm"
# What the metapackage of a kernel is called: with 9p, which the smaller kernels for clouds lack
KERNELS: Mapping[str, str] = {"amd64": "linux-image-amd64", "arm64": "linux-image-arm64"}
TOOLS = "busybox-static"
MODULES = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_console", "virtio_net", "af_packet"),
    *("9p", "9pnet_virtio", "squashfs", "overlay", "crc32c_generic", "binfmt_misc"),
)
KIND = "vm-kernel-1"  # of what is kept in the cache
_KERNEL = re.compile(r"boot/vmlinuz-(.+)\Z")
_MODULE = re.compile(r"lib/modules/[^/]+/kernel/.*/([^/]+)\.ko(\.xz)?\Z")
_DEPENDS = re.compile(rb"(?:\A|\0)depends=([^\0]*)\0")


@record
class Kernel:
    """A kernel: its release, where it is in the store, its modules in the order of loading, and a busybox.

    ``modules`` are digests of the store by name.
    """

    release: str
    image: str
    modules: Mapping[str, str]
    busybox: str
    packages: tuple[VmPackage, ...]

    def digests(self) -> tuple[str, ...]:
        """All that has to be in the store."""
        return (self.image, self.busybox, *self.modules.values())


def kernel_for(architecture: str, store: ContentStore, settings: Settings, *, quiet: bool = False) -> Kernel:
    """The kernel for an architecture (as Debian calls it), from the cache where it is there.

    E013 for an architecture that there is none for; E203 if nothing is cached and connections are not
    allowed; what resolving and downloading Debian packages raises.
    """
    if architecture not in KERNELS:
        raise AfenvError("E013", f"virtual machines are for {' and '.join(KERNELS)}, not for {architecture}")
    key = sha256_bytes(canonical.compact([KIND, architecture, SUITE, *MODULES]))
    known = store.load_key(KIND, key)
    if isinstance(known, dict):
        kernel = _from_json(known)
        if all(store.trusted(digest) for digest in kernel.digests()):
            return kernel
    with store.in_use(), store.lock(f"vm-kernel-{architecture}"):
        kernel = _unpacked(
            _chosen(architecture, store, settings, quiet), architecture, store, settings, quiet
        )
        store.sync()
        store.save_key(KIND, key, _as_json(kernel))
    return kernel


def _chosen(
    architecture: str, store: ContentStore, settings: Settings, quiet: bool
) -> tuple[LockedDeb, LockedDeb]:
    """The packages of the kernel and of the tools, as Debian's signed indexes have them now."""
    from afenv.resolve.debian import resolve_debian
    from afenv.store.fetch import Fetcher

    meta = KERNELS[architecture]
    found = resolve_debian(
        DebianBase(suite=SUITE, packages=(meta, TOOLS)),
        f"linux/{architecture}",
        datetime.now(UTC),
        Fetcher(store, settings, quiet=quiet),
        store,
    )
    debs = {deb.name: deb for deb in found.debs}
    name = debs[meta].control.get("Depends", "").split(",")[0].split()[0]
    return debs[name], debs[TOOLS]


def _unpacked(
    debs: tuple[LockedDeb, LockedDeb],
    architecture: str,
    store: ContentStore,
    settings: Settings,
    quiet: bool,
) -> Kernel:
    from afenv.store.fetch import Fetcher

    kernel, tools = debs
    paths = Fetcher(store, settings, quiet=quiet).files(
        [kernel.file, tools.file], title="kernel of the machine"
    )
    image, release = b"", ""
    modules: dict[str, bytes] = {}
    with open_deb(paths[0], sha256=kernel.file.sha256) as archive:
        for member in archive.members():
            if member.kind != "file":
                continue
            if found := _KERNEL.match(member.path):
                release, image = found[1], b"".join(member.chunks)
            elif found := _MODULE.match(member.path):
                content = b"".join(member.chunks)
                modules[found[1].replace("-", "_")] = lzma.decompress(content) if found[2] else content
    with open_deb(paths[1], sha256=tools.file.sha256) as archive:
        busybox = next(
            b"".join(member.chunks) for member in archive.members() if member.path == "bin/busybox"
        )
    if not image:
        raise AfenvError("E303", f"{kernel.name} holds no kernel", place=kernel.file.file_name)
    return Kernel(
        release=release,
        image=store.put(image),
        modules={name: store.put(modules[name]) for name in in_order(modules, MODULES)},
        busybox=store.put(busybox),
        packages=tuple(
            VmPackage(name=deb.name, version=deb.version, architecture=architecture, file=deb.file)
            for deb in debs
        ),
    )


def in_order(modules: Mapping[str, bytes], wanted: Sequence[str]) -> list[str]:
    """The names of the modules wanted and of those that they depend on, each after what it needs; pure.

    What a module depends on stands in its section ``.modinfo`` (modinfo(8)). One that is not among
    ``modules`` is built into the kernel.
    """
    order: list[str] = []

    def add(name: str) -> None:
        if name in order or name not in modules:
            return
        found = _DEPENDS.search(modules[name])
        for other in found[1].decode().split(",") if found else ():
            add(other.replace("-", "_"))
        order.append(name)

    for name in wanted:
        add(name)
    return order


def _as_json(kernel: Kernel) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "image": kernel.image,
        "modules": [list(pair) for pair in kernel.modules.items()],
        "busybox": kernel.busybox,
        "packages": [package_tree(one) for one in kernel.packages],
    }


def _from_json(known: Mapping[str, Any]) -> Kernel:
    return Kernel(
        release=known["release"],
        image=known["image"],
        modules=dict(known["modules"]),
        busybox=known["busybox"],
        packages=tuple(package_of(one) for one in known["packages"]),
    )
