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
from pathlib import Path
from typing import Any, NamedTuple

from afenv.errors import AfenvError
from afenv.layers.own_files import EXEMPT

Content = bytes | memoryview

REGULAR = 0o100644
EXECUTABLE = 0o100755
SYMLINK = 0o120000
DIRECTORY = 0o040000
GITLINK = 0o160000

FILES_LIMIT = 500_000  # files of one tree
DEPTH_LIMIT = 100  # folders above a file
_LINK_LIMIT = 4095  # bytes of a path, and of a symbolic link's target (Linux, PATH_MAX)
_NAME_LIMIT = 255  # bytes of one name (NAME_MAX)


class CodeFile(NamedTuple):
    """One file: its path relative to the tree, with slashes; git's mode; and a way to its content.

    ``mode`` is :data:`REGULAR`, :data:`EXECUTABLE` or :data:`SYMLINK`; the content of a symbolic link is its
    target. ``blob`` is git's hash of the content (20 bytes) where it is known without reading.
    """

    path: bytes
    mode: int
    load: Callable[[], Content]
    blob: bytes | None = None

    @property
    def data(self) -> Content:
        """The content, read anew each time."""
        return self.load()


def show(path: bytes) -> str:
    """A path for people."""
    return path.decode("utf-8", "backslashreplace")


def check_path(path: bytes, place: str | None = None) -> None:
    """E111 for a path that is empty, absolute, leads outside, lies in git's own folder, or is too long.

    Control characters are allowed, as Linux allows them; so are names that differ in case alone.
    """
    parts = path.split(b"/")
    if not path or b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise AfenvError("E111", f"{show(path)!r} is not a path inside the code", place=place)
    if any(part.lower() == b".git" for part in parts):
        raise AfenvError("E111", f"{show(path)!r} would be part of a git repository's own data", place=place)
    if len(path) > _LINK_LIMIT or len(parts) > DEPTH_LIMIT or any(len(part) > _NAME_LIMIT for part in parts):
        raise AfenvError("E111", f"the path {show(path[:60])!r}… is too long or too deep", place=place)


def check_link(path: bytes, target: Content, place: str | None = None) -> None:
    """E111 for a symbolic link that no file system can hold.

    Where a link points to is its own matter: it is content, kept as it is and never followed.
    """
    found = bytes(target)
    if not found or b"\0" in found or len(found) > _LINK_LIMIT:
        raise AfenvError("E111", f"the link {show(path)!r} has no possible target", place=place)


def checked(file: CodeFile, place: str | None = None) -> Content:
    """The content of a file, after all checks of its path and, for a link, its content."""
    check_path(file.path, place)
    data = file.load()
    if file.mode == SYMLINK:
        check_link(file.path, data, place)
    return data


def checked_hash(file: CodeFile, place: str | None = None) -> bytes:
    """Git's hash of a file's content, after all checks; read only where it is not known, or for a link."""
    if file.blob is None or file.mode == SYMLINK:
        return object_hash("blob", checked(file, place))
    check_path(file.path, place)
    return file.blob


def object_hash(kind: str, data: Content) -> bytes:
    """The hash of a git object (20 bytes)."""
    digest = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.digest()


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
    tree = tree_hash((file.path, file.mode, checked_hash(file, place)) for file in files)
    return tree, directory_swhid(tree)


def directory_swhid(tree: str) -> str:
    """The SWHID of a directory out of its git tree hash."""
    return f"swh:1:dir:{tree}"


def revision_swhid(commit: str) -> str:
    """The SWHID of a revision: that of git's commit ("Revisions" of the same specification)."""
    return f"swh:1:rev:{commit}"


# Readers


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
                refuse_nested(entry.path, path)
                visit(path + b"/")
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise AfenvError("E111", f"{show(path)!r} is neither a file nor a link", place=str(folder))
            files.append(CodeFile(path, normal_mode(mode), read_file(entry.path, stat.S_ISLNK(mode))))

    visit(b"")
    return sorted(files, key=lambda file: file.path)


def read_file(full: bytes, link: bool) -> Callable[[], bytes]:
    """A way to the content of a file, or to the target of a link; E001 when it cannot be read."""

    def load() -> bytes:
        try:
            path = Path(os.fsdecode(full))
            return os.fsencode(path.readlink()) if link else path.read_bytes()
        except OSError as error:
            message = f"cannot read {show(full)}: {error.strerror}"
            raise AfenvError("E001", message, place=os.fsdecode(full)) from None

    return load


def refuse_nested(full: bytes, path: bytes) -> None:
    """E016 for a folder that is a git repository of its own."""
    if os.path.lexists(full + b"/.git"):
        raise AfenvError(
            "E016",
            f"{show(path)!r} is a git repository of its own, and no submodule of a commit",
            place=os.fsdecode(full),
            remedy="Commit it as a submodule, list it under `code` as an entry of its own, or move it away.",
        )


def verify_tree(files: Sequence[CodeFile], tree: str) -> Iterator[tuple[CodeFile, Content]]:
    """The files with their content, sorted by path, after their tree hash was found to be ``tree``.

    E301 if it is another, or if a file's content is not what its hash says. What has no known hash is read
    twice, so that one content at a time is held in memory.
    """
    ordered = sorted(files, key=lambda file: file.path)
    digests = [checked_hash(file) for file in ordered]
    found = tree_hash((file.path, file.mode, digest) for file, digest in zip(ordered, digests, strict=True))
    if found != tree:
        raise AfenvError("E301", f"the code has the tree {found}, and the lock names {tree}")
    for file, digest in zip(ordered, digests, strict=True):
        data = file.load()
        if object_hash("blob", data) != digest:
            raise AfenvError("E301", f"{show(file.path)!r} changed while it was read")
        yield file, data
