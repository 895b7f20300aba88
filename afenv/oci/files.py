"""The file system that an image's layers make together, without unpacking anything.

Layers are laid on one another as OCI's image-spec (layer.md) says: later entries win, ``.wh.NAME``
removes NAME from the layers below, ``.wh..wh..opq`` empties a folder of them. A hard link becomes a file
with the content of its target.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

from afenv.errors import AfenvError
from afenv.oci.blobs import read_to_end, stream_errors
from afenv.oci.read import OpenedImage
from afenv.oci.tar_stream import DEEPEST, LARGEST_TIME, LONGEST, OWNERS

Kind = Literal["f", "d", "l", "c", "b", "p"]  # file, folder, symbolic link, devices, named pipe

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."
KEPT = 64 << 20  # bytes; a file larger than this is never kept in memory

_KINDS: Mapping[bytes, Kind] = {
    tarfile.REGTYPE: "f",
    tarfile.AREGTYPE: "f",
    tarfile.CONTTYPE: "f",
    tarfile.GNUTYPE_SPARSE: "f",
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One path of an image, relative to the root, without a slash at either end.

    ``sha256`` (hexadecimal) is that of a file's content, empty if contents were not read; ``target`` is
    a symbolic link's, or ``major:minor`` of a device; ``mtime`` is in seconds. ``content`` is there
    where it was asked for.
    """

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    sha256: str = ""
    target: str = ""
    xattrs: tuple[tuple[str, str], ...] = ()
    content: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class LayerFiles:
    """What one layer says: paths it has, hard links into lower layers, and what it removes from below.

    ``same`` has the targets of all its hard links, those within the layer included.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)


Keep = Callable[[str], bool]


def _content(file: BinaryIO, hashing: bool, keep: bool) -> tuple[str, bytes | None]:
    if keep:
        data = file.read()
        return hashlib.sha256(data).hexdigest() if hashing else "", data
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest.hexdigest(), None


def check_numbers(member: tarfile.TarInfo, place: str = "") -> None:
    """E510 if a member has a size, an owner or a time that Linux does not have."""
    time_fits = abs(member.mtime) < LARGEST_TIME  # not so of NaN
    if member.size < 0 or member.uid not in OWNERS or member.gid not in OWNERS or not time_fits:
        text = f"{member.name!r} has a size, an owner or a time that Linux does not have"
        raise AfenvError("E510", text, place=place)


def check_path(path: str, place: str = "") -> None:
    """E510 if a path is longer than Linux has them, or too deep."""
    if len(path) > LONGEST or path.count("/") > DEEPEST:
        text = f"a layer has a path of {len(path)} characters, {path.count('/')} folders deep"
        raise AfenvError("E510", text, place=place)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, contents: bool, keep: Keep) -> Entry:
    kind = _KINDS.get(member.type)
    if kind is None:
        raise AfenvError("E510", f"{member.name}: a layer has a member of unknown type {member.type!r}")
    check_numbers(member)
    sha256, content, target = "", None, ""
    if kind == "f":
        kept = member.size <= KEPT and keep(path)
        if contents or kept:
            file = tar.extractfile(member)
            assert file is not None  # a regular file has content
            sha256, content = _content(file, contents, kept)  # type: ignore[arg-type]
    elif kind == "l":
        target = member.linkname
    elif kind in "cb":
        target = f"{member.devmajor}:{member.devminor}"
    headers = member.pax_headers
    return Entry(
        path=path,
        kind=kind,
        mode=0o777 if kind == "l" else member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        size=member.size if kind == "f" else 0,
        mtime=int(member.mtime),
        sha256=sha256,
        target=target,
        xattrs=tuple(sorted((k[len(XATTR) :], v) for k, v in headers.items() if k.startswith(XATTR)))
        if headers
        else (),
        content=content,
    )


def _normal(name: str) -> str:
    if name[:1] in (".", "/") or name.endswith("/") or "//" in name or "/." in name:
        return "/".join(part for part in name.split("/") if part not in ("", "."))
    return name


def read_layer(stream: BinaryIO, *, contents: bool = True, keep: Keep = lambda _: False) -> LayerFiles:
    """What a layer's uncompressed tar holds; E510 if it is damaged."""
    found = LayerFiles()
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16) as tar:
            for member in tar:
                _take(found, tar, member, contents, keep)
                tar.members = []  # type: ignore[attr-defined]  # else they pile up
        read_to_end(stream)
    except stream_errors() as error:
        raise AfenvError("E510", f"a layer cannot be read: {error}") from None
    return found


def _take(
    found: LayerFiles, tar: tarfile.TarFile, member: tarfile.TarInfo, contents: bool, keep: Keep
) -> None:
    path = _normal(member.name)
    parent, _, name = path.rpartition("/")
    if not path or ".." in path.split("/"):
        return
    check_path(path)
    if name == OPAQUE:
        found.emptied.add(parent)
    elif name.startswith(WHITEOUT):
        name = name[len(WHITEOUT) :]
        found.removed.add(f"{parent}/{name}" if parent else name)
    elif member.islnk():
        target = _normal(member.linkname)
        entry, link = found.entries.get(target), found.links.get(target, target)
        found.entries.pop(path, None)
        found.links.pop(path, None)
        found.same[path] = target
        if entry is not None:
            found.entries[path] = replace(entry, path=path)
        else:
            found.links[path] = link
    else:
        found.links.pop(path, None)
        found.entries[path] = _entry(tar, member, path, contents, keep)


def _parents(path: str) -> Iterator[str]:
    while (cut := path.rfind("/")) >= 0:
        path = path[:cut]
        yield path


def lay(below: dict[str, Entry], layer: LayerFiles) -> None:
    """Lay ``layer`` on the tree ``below``, in place."""
    links = {}
    for path, target in layer.links.items():
        entry = below.get(target) or layer.entries.get(target)
        if entry is None:
            raise AfenvError("E510", f"{path} is a hard link to {target}, which does not exist")
        links[path] = replace(entry, path=path)
    new = layer.entries | links
    replaced = {
        path for path, entry in new.items() if entry.kind != "d" and path in below and below[path].kind == "d"
    }
    gone = layer.removed | replaced
    if gone or layer.emptied:
        everything = "" in layer.emptied
        for path in list(below):
            if (
                everything
                or path in gone
                or any(parent in gone or parent in layer.emptied for parent in _parents(path))
            ):
                del below[path]
    below.update(new)
    for path in new:
        for parent in _parents(path):
            if parent in below and below[parent].kind == "d":
                break
            if parent not in below:
                below[parent] = Entry(path=parent, kind="d", mode=0o755)


def merged(
    opened: OpenedImage,
    *,
    contents: bool = True,
    keep: Keep = lambda _: False,
    known: dict[str, LayerFiles] | None = None,
) -> dict[str, Entry]:
    """The files of the whole image by path, sorted.

    With ``contents`` every file is hashed. Files whose path ``keep`` accepts (up to 64 MiB) come with
    their content. ``known`` holds layers that were read before, by diff_id, and takes those read now; it
    must always be used with the same ``contents`` and ``keep``. E510 if a layer cannot be read.
    """
    tree: dict[str, Entry] = {}
    for position, layer in enumerate(opened.image.layers):
        files = known.get(layer.diff_id) if known is not None else None
        if files is None:
            with opened.layer(position) as stream:
                files = read_layer(stream, contents=contents, keep=keep)
            if known is not None:
                known[layer.diff_id] = files
        lay(tree, files)
    return dict(sorted(tree.items()))
