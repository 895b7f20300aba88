"""Git LFS: pointers, and bringing the content that they stand for into the content store.

A pointer names content by SHA-256 and size (git-lfs, docs/spec.md), as the store does. Content is looked for
in the store, then in LFS folders of this machine, then on the LFS server; what is found is believed only if
both are right.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.layers.codetree import Content, object_hash, show
from afenv.settings import Settings
from afenv.store.content import ContentStore

CONFIG_NAME = b".lfsconfig"
POINTER_LIMIT = 1024  # bytes that a pointer has less than

_VERSIONS = (
    b"version https://git-lfs.github.com/spec/v1\n",
    b"version https://hawser.github.com/spec/v1\n",  # the same format under its earlier names
    b"version http://git-media.io/v/2\n",
)
_POINTER = re.compile(
    rb"version [^\n]+\n((?:ext-[^\n]*\n)*)oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,19})\n?\Z"
)
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of a file in git LFS."""

    sha256: str
    size: int

    @property
    def digest(self) -> str:
        """The digest by which the store knows it."""
        return "sha256:" + self.sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Objects:
    """Where a repository's LFS objects may be: folders of this machine, and a URL to ask.

    ``url`` is that of the LFS server, or None where there is none; ``ssh`` that of the repository if the
    server has to be asked for through ssh.
    """

    folders: tuple[Path, ...] = ()
    url: str | None = None
    ssh: str | None = None
    place: str = ""


def read_pointer(data: Content, path: bytes, place: str | None = None) -> Pointer | None:
    """The pointer that a file is, None if it is none; E133 for one that is damaged or needs an extension."""
    text = bytes(data[:POINTER_LIMIT])
    if len(data) >= POINTER_LIMIT or not text.startswith(_VERSIONS):
        return None
    found = _POINTER.match(text)
    if found is None:
        raise AfenvError("E133", f"{show(path)!r} is a damaged LFS pointer", place=place)
    if found[1]:
        raise AfenvError("E133", f"{show(path)!r} is an LFS pointer that needs an extension", place=place)
    return Pointer(found[2].decode(), int(found[3]))


def bring(
    wanted: Mapping[Pointer, bytes], objects: Objects, store: ContentStore, settings: Settings, *, quiet: bool
) -> None:
    """Bring the content of pointers, each with the path of a file for messages, into the store.

    E301 or E302 if what is found is something else, E133 if there is nothing, E131, E201, E202, E203.
    """
    missing = {
        pointer: path
        for pointer, path in wanted.items()
        if not store.trusted(pointer.digest, pointer.size)
        and not _from_folders(pointer, path, objects, store)
    }
    if not missing:
        return
    first = show(next(iter(missing.values())))
    what = f"the LFS content of {first!r}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
    if objects.url is None:
        raise AfenvError("E133", f"{what} is not here, and no LFS server is known", place=objects.place)
    if settings.offline:
        raise AfenvError("E203", f"{what} is not in the cache", place=objects.place)
    from afenv.layers.code_lfs_http import download

    download(missing, objects, store, settings, quiet=quiet)


def _from_folders(pointer: Pointer, path: bytes, objects: Objects, store: ContentStore) -> bool:
    name = pointer.sha256
    for folder in objects.folders:
        here = folder / name[:2] / name[2:4] / name
        try:
            with here.open("rb") as file, store.writer(durable=False) as writer:
                while chunk := file.read(_CHUNK):
                    writer.write(chunk)
                _check(pointer, writer.digest(), writer.size, path, str(here))
                writer.commit(pointer.digest)
            return True
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return False


def adopt_file(pointer: Pointer, here: Path, store: ContentStore) -> bool:
    """Take the content from a file that may be it, such as one of a working folder; whether it was."""
    try:
        if here.is_symlink() or here.stat().st_size != pointer.size:
            return False
        with here.open("rb") as file, store.writer(durable=False) as writer:
            while chunk := file.read(_CHUNK):
                writer.write(chunk)
            if (writer.digest(), writer.size) != (pointer.digest, pointer.size):
                return False
            writer.commit(pointer.digest)
    except OSError:
        return False
    return True


def _check(pointer: Pointer, digest: str, size: int, path: bytes, place: str) -> None:
    if size != pointer.size:
        message = f"LFS content of {show(path)!r}: expected {pointer.size} bytes, found {size}"
        raise AfenvError("E302", message, place=place)
    if digest != pointer.digest:
        message = f"LFS content of {show(path)!r}: expected {pointer.digest}, found {digest}"
        raise AfenvError("E301", message, place=place)


def content(pointer: Pointer, store: ContentStore) -> Content:
    """The content of a pointer that is in the store, mapped rather than read if it is large."""
    with store.open(pointer.digest) as file:
        if pointer.size < _CHUNK:
            return file.read()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def blob_hash(pointer: Pointer, store: ContentStore) -> bytes | None:
    """Git's hash of the content, remembered from an earlier look or made anew; None if it is not here."""
    key = sha256_bytes(f"{pointer.sha256} {pointer.size}".encode())
    match store.load_key("lfs-blob", key):
        case {"blob": str(known)} if re.fullmatch("[0-9a-f]{40}", known):
            return bytes.fromhex(known)
    if not store.trusted(pointer.digest, pointer.size):
        return None
    found = object_hash("blob", content(pointer, store))
    store.save_key("lfs-blob", key, {"blob": found.hex()})
    return found


def folders_of(repository: Path) -> Sequence[Path]:
    """The LFS folders that a repository on this machine may have, bare or not."""
    return (repository / "lfs" / "objects", repository / ".git" / "lfs" / "objects")
