"""One view of an image in any of its forms: OCI layout or archive, SIF, bare squashfs, or a folder.

A form is told from what is in it, not from its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from afenv.errors import AfenvError
from afenv.oci.config_form import check_config, parsed
from afenv.oci.files import KEPT, Entry, Keep, Kind, LayerFiles, merged
from afenv.oci.layout import OUR_NAMES
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage, open_image
from afenv.oci.sif import OCI_CONFIG, Sif, is_sif, read_sif
from afenv.oci.sif_record import TREE_RECORD, SifRecord, parse_record, sif_record, tree_record
from afenv.oci.squashfs import BIG_ENDIAN, COMPRESSORS, MAGIC, Squashfs
from afenv.record import record

Form = Literal["oci", "sif", "squashfs", "folder"]
Files = dict[str, Entry]

_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
}


@record
class Tree:
    """An opened image in one of its forms.

    ``image`` is there where the form tells it, ``config`` (the OCI config, or as much of it as there is)
    as well; ``sif``, ``packed`` and ``opened`` where the form has them. ``read`` is called through
    :meth:`files`.
    """

    path: Path
    form: Form
    read: Callable[[bool, Keep, dict[str, LayerFiles] | None], Files]
    image: Image | None = None
    config: Mapping[str, Any] | None = None
    sif: Sif | None = None
    packed: SifRecord | None = None
    compressor: str = ""
    opened: OpenedImage | None = None

    def files(
        self,
        *,
        contents: bool = True,
        keep: Keep = lambda _: False,
        known: dict[str, LayerFiles] | None = None,
    ) -> Files:
        """All paths but the root; see :func:`afenv.oci.files.merged` for the arguments."""
        return self.read(contents, keep, known)


@contextlib.contextmanager
def open_tree(path: Path, *, reference: str | None = None) -> Iterator[Tree]:
    """Open an image in whatever form it is; E001 if there is nothing, E510 if it is none or damaged."""
    start = _start(path)
    if is_sif(start):
        with _open_sif(path) as tree:
            yield tree
    elif start[:4] in (MAGIC, BIG_ENDIAN):
        with _open_squashfs(path) as tree:
            yield tree
    elif path.is_dir() and not any((path / name).exists() for name in OUR_NAMES):
        packed = tree_record(path)
        yield Tree(
            path=path,
            form="folder",
            read=lambda contents, keep, _: folder_files(path, contents=contents, keep=keep),
            image=packed.image if packed else None,
            config=packed.image.configuration() if packed else None,
            packed=packed,
        )
    else:
        with open_image(path, reference=reference) as opened:
            yield Tree(
                path=path,
                form="oci",
                read=lambda contents, keep, known: merged(opened, contents=contents, keep=keep, known=known),
                image=opened.image,
                config=opened.image.configuration(),
                opened=opened,
            )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except IsADirectoryError:
        return b""
    except OSError as error:
        what = "there is no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise AfenvError("E001", str(what), place=str(path)) from None


@contextlib.contextmanager
def _open_sif(path: Path) -> Iterator[Tree]:
    sif = read_sif(path)
    system = sif.system()
    if system.architecture != sif.architecture:
        raise AfenvError(
            "E510",
            f"it says that it is for {sif.architecture or 'nothing known'}, and its file system for "
            f"{system.architecture or 'nothing known'}",
            place=str(path),
        )
    packed = sif_record(sif)
    config = packed.image.configuration() if packed else _oci_config(sif)
    if config is not None and config.get("architecture") != sif.architecture:
        raise AfenvError(
            "E510",
            f"it is for {sif.architecture}, and the image in it for {config.get('architecture')}",
            place=str(path),
        )
    with Squashfs.open(path, system.offset, system.size) as squashfs:
        yield Tree(
            path=path,
            form="sif",
            read=_reader(squashfs),
            image=packed.image if packed else None,
            config=config,
            sif=sif,
            packed=packed,
            compressor=COMPRESSORS.get(squashfs.super.compressor, ""),
        )


def _oci_config(sif: Sif) -> dict[str, Any] | None:
    """As much of a config as a SIF has that another tool made from an OCI image."""
    data = sif.read(OCI_CONFIG)
    if data is None:
        return None
    try:
        config = {"architecture": sif.architecture, "config": parsed(data)}
        check_config(config)
    except ValueError as error:
        raise AfenvError("E510", f"its {OCI_CONFIG} is damaged: {error}", place=str(sif.path)) from None
    return config


@contextlib.contextmanager
def _open_squashfs(path: Path) -> Iterator[Tree]:
    with Squashfs.open(path) as squashfs:
        found = [
            entry.content
            for entry in squashfs.entries(keep=lambda name: name == TREE_RECORD)
            if entry.path == TREE_RECORD
        ]
        packed = parse_record(found[0], path) if found and found[0] is not None else None
        yield Tree(
            path=path,
            form="squashfs",
            read=_reader(squashfs),
            image=packed.image if packed else None,
            config=packed.image.configuration() if packed else None,
            packed=packed,
            compressor=COMPRESSORS.get(squashfs.super.compressor, ""),
        )


def _reader(squashfs: Squashfs) -> Callable[[bool, Keep, dict[str, LayerFiles] | None], Files]:
    def read(contents: bool, keep: Keep, _: dict[str, LayerFiles] | None) -> Files:
        found = {entry.path: entry for entry in squashfs.entries(contents=contents, keep=keep)}
        return dict(sorted(found.items()))

    return read


def folder_files(folder: Path, *, contents: bool = True, keep: Keep = lambda _: False) -> Files:
    """Everything in a folder, symbolic links as themselves; E001 if something cannot be read."""
    found = {}
    attributes = not _on_cvmfs(folder)
    try:
        for place, folders, names in os.walk(folder, onerror=_raise):
            inside = os.path.relpath(place, folder)
            for name in (*folders, *names):
                path = name if inside == "." else f"{inside}/{name}"
                entry = _folder_entry(f"{place}/{name}", path, contents, keep, attributes)
                if entry is not None:
                    found[path] = entry
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(error.filename)) from None
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def _on_cvmfs(folder: Path) -> bool:
    """Whether the folder is in a CVMFS repository, whose files seem to have extended attributes: those by
    which its client answers questions. Any path up to the mount may tell the repository's name."""
    for place in (folder.resolve(), *folder.resolve().parents):
        with contextlib.suppress(OSError):
            return bool(os.getxattr(place, "user.fqrn"))
        if place.is_mount():
            break
    return False


def _folder_entry(name: str, path: str, contents: bool, keep: Keep, attributes: bool) -> Entry | None:
    status = os.lstat(name)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None  # a socket
    target, sha256, content = "", "", None
    if kind == "l":
        target = os.readlink(name)  # noqa: PTH115 - bytes that are no text stay what they are
    elif kind in "cb":
        target = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    elif kind == "f":
        kept = status.st_size <= KEPT and keep(path)
        if contents or kept:
            with open(name, "rb") as file:  # noqa: PTH123
                if kept:
                    content = file.read()
                    sha256 = hashlib.sha256(content).hexdigest() if contents else ""
                else:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(
        path=path,
        kind=kind,
        mode=0o777 if kind == "l" else stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == "f" else 0,
        mtime=int(status.st_mtime),
        sha256=sha256,
        target=target,
        xattrs=_xattrs(name) if attributes else (),
        content=content,
    )


def _xattrs(name: str) -> tuple[tuple[str, str], ...]:
    """Extended attributes that an image can have; those that hosts add of themselves are left out."""
    try:
        names = os.listxattr(name, follow_symlinks=False)
    except OSError:
        return ()
    return tuple(
        (one, os.getxattr(name, one, follow_symlinks=False).decode("utf-8", "surrogateescape"))
        for one in sorted(names)
        if one.startswith("user.") or one == "security.capability"
    )
