"""An initramfs: modules, a busybox and a script, as a cpio archive that is the same each time.

Source of the format: the kernel's documentation, "initramfs buffer format" (the ``newc`` form of cpio).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from afenv.layers import gzip_members
from afenv.store.content import ContentStore
from afenv_builders.vm.kernel import Kernel

FOLDERS = ("bin", "dev", "modules", "proc", "sys", "lower", "memory", "root", "control", "shares")
_FOLDER, _FILE = 0o040755, 0o100755


def script() -> bytes:
    """What the machine's first process does."""
    return Path(__file__).with_name("init.sh").read_bytes()


def initramfs(kernel: Kernel, store: ContentStore) -> bytes:
    """The whole archive, compressed."""
    files: dict[str, bytes] = {"init": script(), "bin/busybox": store.read(kernel.busybox)}
    for number, (name, digest) in enumerate(kernel.modules.items()):
        files[f"modules/{number:02}-{name}.ko"] = store.read(digest)
    return gzip_members.member(cpio(FOLDERS, files))  # the kernel takes no stream of several members


def cpio(folders: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """A cpio archive of folders and executable files, which belong to root and are from 1970; pure."""
    entries = [(name, _FOLDER, b"") for name in folders]
    entries += [(name, _FILE, content) for name, content in files.items()]
    parts = [_entry(name, mode, content, number) for number, (name, mode, content) in enumerate(entries, 1)]
    return b"".join((*parts, _entry("TRAILER!!!", 0, b"", 0)))


def _entry(name: str, mode: int, content: bytes, inode: int) -> bytes:
    text = name.encode() + b"\0"
    links = 2 if mode == _FOLDER else 1
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(text), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + text
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
