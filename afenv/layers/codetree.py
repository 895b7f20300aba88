"""A tree of code files, and the git tree hash that names it.

The hash is git's own (SHA-1 over ``tree`` and ``blob`` objects; git-book, "Git Internals – Git Objects"),
computed here, so that a folder that no repository holds has one too. The SWHID of a directory is the same
hash (SWHID specification 1.2, ISO/IEC 18670, "Directories"): ``swh:1:dir:`` and the tree hash.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError
from afenv.layers.own_files import EXEMPT

if TYPE_CHECKING:
    import pygit2

REGULAR = 0o100644
EXECUTABLE = 0o100755
SYMLINK = 0o120000
DIRECTORY = 0o040000
GITLINK = 0o160000

_LFS = b"version https://git-lfs.github.com/spec/"  # how a pointer begins (git-lfs, docs/spec.md)
_LFS_LIMIT = 1024  # bytes that a pointer has at most
_LINK_LIMIT = 4096  # bytes of a symbolic link's target


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One file: its path relative to the tree, with slashes; git's mode; and a way to its content.

    ``mode`` is :data:`REGULAR`, :data:`EXECUTABLE` or :data:`SYMLINK`; the content of a symbolic link is its
    target.
    """

    path: bytes
    mode: int
    load: Callable[[], bytes]

    @property
    def data(self) -> bytes:
        """The content, read anew each time."""
        return self.load()


def show(path: bytes) -> str:
    """A path for people."""
    return path.decode("utf-8", "backslashreplace")


def check_path(path: bytes, place: str | None = None) -> None:
    """E111 for a path that is empty, absolute, leads outside, or lies in git's own folder."""
    parts = path.split(b"/")
    if not path or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise AfenvError("E111", f"{show(path)!r} is not a path inside the code", place=place)
    if any(part.lower() == b".git" for part in parts):
        raise AfenvError("E111", f"{show(path)!r} would be part of a git repository's own data", place=place)


def check_link(path: bytes, target: bytes, place: str | None = None) -> None:
    """E111 for a symbolic link that is absolute or leads outside the tree."""
    depth = path.count(b"/")
    outside = not target or target.startswith(b"/") or b"\0" in target or len(target) > _LINK_LIMIT
    for part in target.split(b"/"):
        depth += -1 if part == b".." else 0 if part in (b"", b".") else 1
        outside = outside or depth < 0
    if outside:
        raise AfenvError("E111", f"the link {show(path)!r} leads outside, to {show(target)!r}", place=place)


def check_content(path: bytes, data: bytes, place: str | None = None) -> None:
    """E016 for a pointer of git LFS, which stands for content that is not here."""
    if data.startswith(_LFS) and len(data) < _LFS_LIMIT:
        raise AfenvError(
            "E016",
            f"{show(path)!r} is a git LFS pointer; LFS objects are not supported yet",
            place=place,
            remedy="Keep the file outside the code for now, or commit its content.",
        )


def checked(file: CodeFile, place: str | None = None) -> bytes:
    """The content of a file, after all checks of its path and content."""
    check_path(file.path, place)
    data = file.load()
    if file.mode == SYMLINK:
        check_link(file.path, data, place)
    else:
        check_content(file.path, data, place)
    return data


def object_hash(kind: str, data: bytes) -> bytes:
    """The hash of a git object (20 bytes)."""
    header = b"%s %d\0" % (kind.encode(), len(data))
    return hashlib.sha1(header + data, usedforsecurity=False).digest()


def tree_object(entries: Iterable[tuple[bytes, int, bytes]]) -> bytes:
    """A git tree object out of (name, mode, hash); folders sort as if their names ended in a slash."""
    ordered = sorted(entries, key=lambda entry: entry[0] + (b"/" if entry[1] == DIRECTORY else b""))
    return b"".join(b"%o %s\0%s" % (mode, name, digest) for name, mode, digest in ordered)


def tree_hash(blobs: Iterable[tuple[bytes, int, bytes]]) -> str:
    """The git tree hash, in hexadecimal, of blobs given as (path, mode, hash); E111 for two at one path."""
    root: dict[bytes, Any] = {}
    for path, mode, digest in blobs:
        *folders, name = path.split(b"/")
        here = root
        for folder in folders:
            here = here.setdefault(folder, {})
            if not isinstance(here, dict):
                raise AfenvError("E111", f"{show(path)!r} lies under a file")
        if name in here:
            raise AfenvError("E111", f"{show(path)!r} is there twice")
        here[name] = (mode, digest)

    def fold(node: dict[bytes, Any]) -> bytes:
        entries = (
            (name, DIRECTORY, fold(child)) if isinstance(child, dict) else (name, *child)
            for name, child in node.items()
        )
        return object_hash("tree", tree_object(entries))

    return fold(root).hex()


def git_tree(files: Iterable[CodeFile], place: str | None = None) -> tuple[str, str]:
    """The git tree hash and the SWHID of some files, each checked; errors as of :func:`checked`."""
    tree = tree_hash((file.path, file.mode, object_hash("blob", checked(file, place))) for file in files)
    return tree, directory_swhid(tree)


def directory_swhid(tree: str) -> str:
    """The SWHID of a directory out of its git tree hash."""
    return f"swh:1:dir:{tree}"


# Readers


def read_commit_tree(
    repository: pygit2.Repository, commit: str, subfolder: bytes = b"", *, exempt: bool = True
) -> list[CodeFile]:
    """The files of a commit under a folder of it, sorted by path.

    ``exempt`` leaves out manifest, lock and afenv's own folder at the top, as for the checkout at hand.

    E016 for a submodule, E111 for an unsafe name, E108 if the commit has no such folder.
    """
    import pygit2

    node: Any = repository[commit].peel(pygit2.Tree)
    for part in subfolder.split(b"/") if subfolder else ():
        node = next((item for item in node if item.raw_name == part and item.filemode == DIRECTORY), None)
        if node is None:
            raise AfenvError("E108", f"{commit} has no folder {show(subfolder)!r}", place=repository.path)
    files: list[CodeFile] = []

    def loader(identity: Any) -> Callable[[], bytes]:
        return lambda: bytes(repository.read(identity)[1])

    def visit(tree: Any, prefix: bytes) -> None:
        for entry in tree:
            name = bytes(entry.raw_name)
            path = prefix + name
            if exempt and not prefix and name in EXEMPT:
                continue
            mode = int(entry.filemode)
            if mode == DIRECTORY:
                check_path(path, repository.path)
                visit(entry, path + b"/")
            elif mode == GITLINK:
                raise AfenvError(
                    "E016",
                    f"{show(path)!r} is a submodule; submodules are not supported yet",
                    place=repository.path,
                    remedy="List the submodule's repository under `code` as an entry of its own.",
                )
            else:
                files.append(CodeFile(path, normal_mode(mode), loader(entry.id)))

    visit(node, b"")
    return sorted(files, key=lambda file: file.path)


def normal_mode(mode: int) -> int:
    """Git's mode for a file's mode: a link, executable for its owner, or neither."""
    if stat.S_IFMT(mode) == SYMLINK:
        return SYMLINK
    return EXECUTABLE if mode & 0o100 else REGULAR


def read_folder(folder: Path, ignored: Callable[[bytes, bool], bool] | None = None) -> list[CodeFile]:
    """The files of a folder, sorted by path, without git's own data and what is exempt at the top.

    ``ignored`` is asked of each path, with whether it is a folder, and leaves out what it says. Symbolic
    links are kept as links. Empty folders are left out, as git does. E001 if something cannot be read,
    E111 for a socket, device or pipe, E016 for a folder that is a repository of its own.
    """
    files: list[CodeFile] = []
    root = os.fsencode(folder)

    def loader(full: bytes, link: bool) -> Callable[[], bytes]:
        def load() -> bytes:
            try:
                path = Path(os.fsdecode(full))
                return os.fsencode(path.readlink()) if link else path.read_bytes()
            except OSError as error:
                message = f"cannot read {show(full)}: {error.strerror}"
                raise AfenvError("E001", message, place=os.fsdecode(full)) from None

        return load

    def visit(prefix: bytes) -> None:
        try:
            with os.scandir(root + b"/" + prefix) as scan:
                entries = list(scan)
        except OSError as error:
            place = os.fsdecode(root + b"/" + prefix)
            raise AfenvError("E001", f"cannot read: {error.strerror}", place=place) from None
        for entry in entries:
            if entry.name == b".git" or (not prefix and entry.name in EXEMPT):
                continue
            path = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if ignored is not None and ignored(path, is_folder):
                continue
            if is_folder:
                _refuse_nested(entry.path, path)
                visit(path + b"/")
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise AfenvError("E111", f"{show(path)!r} is neither a file nor a link", place=str(folder))
            files.append(CodeFile(path, normal_mode(mode), loader(entry.path, stat.S_ISLNK(mode))))

    visit(b"")
    return sorted(files, key=lambda file: file.path)


def _refuse_nested(full: bytes, path: bytes) -> None:
    if os.path.lexists(full + b"/.git"):
        raise AfenvError(
            "E016",
            f"{show(path)!r} is a git repository of its own; these are not supported yet inside code",
            place=os.fsdecode(full),
            remedy="List it under `code` as an entry of its own, or move it away.",
        )


def verify_tree(files: Sequence[CodeFile], tree: str) -> Iterator[tuple[CodeFile, bytes]]:
    """The files with their content, sorted by path, after their tree hash was found to be ``tree``.

    E301 if it is another. Contents are read twice, so that one at a time is held in memory; one that
    changes in between is E301 as well.
    """
    ordered = sorted(files, key=lambda file: file.path)
    digests = [object_hash("blob", checked(file)) for file in ordered]
    found = tree_hash((file.path, file.mode, digest) for file, digest in zip(ordered, digests, strict=True))
    if found != tree:
        raise AfenvError("E301", f"the code has the tree {found}, and the lock names {tree}")
    for file, digest in zip(ordered, digests, strict=True):
        data = file.load()
        if object_hash("blob", data) != digest:
            raise AfenvError("E301", f"{show(file.path)!r} changed while it was read")
        yield file, data
