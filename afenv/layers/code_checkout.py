"""The checkout at hand: its last commit, what has changed since, and the files as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.errors import AfenvError
from afenv.layers.code_read import How, Reading, read_commit
from afenv.layers.codetree import (
    GITLINK,
    CodeFile,
    Content,
    normal_mode,
    read_file,
    refuse_nested,
    show,
)
from afenv.layers.own_files import EXEMPT

if TYPE_CHECKING:
    import pygit2

    from afenv.layers.code_lfs import Objects, Pointer

_POINTER_LIMIT = 1024  # bytes that an LFS pointer has less than


def open_checkout(folder: Path) -> tuple[pygit2.Repository, bytes] | None:
    """The git checkout that a folder lies in, and the folder's path in it; None if it lies in none.

    A folder that the surrounding repository ignores is not part of it. E110 if the repository cannot be
    opened or has no files of its own (a bare one).
    """
    real = Path(os.path.realpath(folder))
    if not any(os.path.lexists(parent / ".git") for parent in (real, *real.parents)):
        return None  # spares the import
    import pygit2

    try:
        found = pygit2.discover_repository(str(real))
        if found is None:
            return None
        repository = pygit2.Repository(found)
    except (pygit2.GitError, KeyError) as error:
        raise _not_opened(error, str(folder)) from None
    if repository.workdir is None:
        raise AfenvError("E110", "the repository is bare: it has no files at hand", place=str(folder))
    sub = os.path.relpath(real, os.path.realpath(repository.workdir))
    if sub == ".":
        return repository, b""
    if sub.startswith("..") or repository.path_is_ignored(sub + "/"):
        return None
    return repository, os.fsencode(sub)


def _not_opened(error: Exception, place: str) -> AfenvError:
    """E110 for a repository that libgit2 does not open; of git's configuration it reads the files alone."""
    said = str(error).strip("'")
    remedy = None
    if "not owned by current user" in said:
        remedy = f"If you trust it, tell git so: `git config --global --add safe.directory {place}`."
    return AfenvError("E110", f"git: {said}", place=place, remedy=remedy)


@dataclass(frozen=True, slots=True)
class FromCheckout:
    """A repository at hand: its submodules are where they are checked out.

    ``present`` takes the commit that a submodule has checked out, for files as they are.
    """

    repository: pygit2.Repository
    present: bool = False

    @property
    def place(self) -> str:
        """The working folder."""
        return str(self.repository.workdir).rstrip("/")

    def submodule(
        self, path: bytes, commit: str, sections: Mapping[bytes, Mapping[str, str]]
    ) -> tuple[pygit2.Repository, FromCheckout, str, str | None] | None:
        """As :meth:`afenv.layers.code_read.Origin.submodule`."""
        if self.present and os.fsdecode(path) not in self.repository.index:
            return None  # removed since the last commit
        inner = _submodule(self.repository, path)
        if inner is None:
            raise AfenvError(
                "E130",
                f"the submodule {show(path)!r} is not checked out",
                place=self.place,
                remedy="Run `git submodule update --init --recursive`.",
            )
        if self.present and not inner.head_is_unborn:
            commit = str(inner.head.target)
        if commit not in inner:
            message = f"the checkout of the submodule {show(path)!r} lacks its commit {commit}"
            remedy = "Run `git submodule update --init --recursive`."
            raise AfenvError("E130", message, place=self.place, remedy=remedy)
        return inner, FromCheckout(inner, self.present), commit, None

    def objects(self, config: bytes | None) -> Objects:
        """The LFS objects beside the repository, then those of the remote that it was cloned from."""
        from afenv.layers.code_lfs import Objects
        from afenv.layers.code_lfs_url import checkout_objects

        found = checkout_objects(self.repository, config)
        return Objects(folders=found.folders, url=found.url, ssh=found.ssh, place=self.place)

    def working_file(self, path: bytes) -> Path | None:
        """The file at a path of the repository."""
        return Path(self.place) / os.fsdecode(path)


def _submodule(repository: pygit2.Repository, path: bytes) -> pygit2.Repository | None:
    """The repository that is checked out at a path; None if there is none."""
    import pygit2

    here = os.fsencode(repository.workdir) + path
    if os.path.realpath(here) != os.path.join(os.path.realpath(os.fsencode(repository.workdir)), path):  # noqa: PTH118
        return None  # a link in its place is not followed
    if not os.path.lexists(here + b"/.git"):
        return None
    try:
        return pygit2.Repository(os.fsdecode(here))
    except (pygit2.GitError, KeyError) as error:
        raise _not_opened(error, os.fsdecode(here)) from None


def read_head(repository: pygit2.Repository, sub: bytes, how: How) -> Reading | None:
    """The last commit's files below ``sub``; None if there is no commit, or it has no such folder."""
    if repository.head_is_unborn:
        return None
    try:
        return read_commit(repository, str(repository.head.target), FromCheckout(repository), how, sub)
    except AfenvError as error:
        if error.code != "E108":
            raise
        return None


def changes(repository: pygit2.Repository, sub: bytes) -> tuple[list[str], list[str]]:
    """Paths below ``sub`` and relative to it, save what is exempt: the changed, and the untracked.

    A submodule's are among them; it is changed itself if it has another commit checked out.
    """
    prefix = os.fsdecode(sub) + "/" if sub else ""
    exempt = {os.fsdecode(name) for name in EXEMPT}
    changed, untracked = (
        [path[len(prefix) :] for path in paths if path.startswith(prefix)]
        for paths in _all_changes(repository)
    )
    return (
        [path for path in changed if path.split("/", 1)[0] not in exempt],
        [path for path in untracked if path.split("/", 1)[0] not in exempt],
    )


def _all_changes(repository: pygit2.Repository) -> tuple[list[str], list[str]]:
    from pygit2.enums import FileStatus

    quiet = {FileStatus.CURRENT, FileStatus.IGNORED}
    links = _links(repository)
    changed: list[str] = []
    untracked: list[str] = []
    for path, state in repository.status(untracked_files="all", ignored=False).items():
        if state in quiet or (path.rstrip("/") in links and not int(state) & 0x1F):
            continue  # what a submodule has in its folder is asked of itself, below
        if state == FileStatus.WT_MODIFIED and _is_converted(repository, path):
            continue
        (untracked if state == FileStatus.WT_NEW else changed).append(path)
    for path, commit in links.items():
        inner = _submodule(repository, os.fsencode(path))
        if inner is None:
            continue  # said by who reads it
        if inner.head_is_unborn or str(inner.head.target) != commit:
            changed.append(path)
        inner_changed, inner_untracked = _all_changes(inner)
        changed += [f"{path}/{name}" for name in inner_changed]
        untracked += [f"{path}/{name}" for name in inner_untracked]
    return changed, untracked


def _links(repository: pygit2.Repository) -> dict[str, str]:
    """The submodules of the index, by path, with their commits."""
    if not os.path.lexists(os.path.join(repository.workdir, ".gitmodules")):  # noqa: PTH118
        return {}
    return {entry.path: str(entry.id) for entry in repository.index if int(entry.mode) == GITLINK}


def _is_converted(repository: pygit2.Repository, path: str) -> bool:
    """Whether a file is what git's own filters, which libgit2 does not have, make of the committed one."""
    import codecs

    here = Path(repository.workdir, path)
    committed = bytes(repository.read(repository.index[path].id)[1])
    pointer = _pointer(committed, os.fsencode(path))
    try:
        if pointer is not None:
            import hashlib

            if here.stat().st_size != pointer.size:
                return False
            with here.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == pointer.sha256
        encoding = repository.get_attr(path, "working-tree-encoding")
        if not isinstance(encoding, str):
            return False
        codecs.lookup(encoding)
        return here.read_bytes().decode(encoding).encode() == committed
    except (OSError, LookupError, ValueError):
        return False


def _pointer(data: Content, path: bytes) -> Pointer | None:
    if len(data) >= _POINTER_LIMIT or bytes(data[:8]) != b"version ":
        return None
    from afenv.layers.code_lfs import read_pointer

    try:
        return read_pointer(data, path)
    except AfenvError:
        return None


def read_present(here: Path, repository: pygit2.Repository, sub: bytes, how: How) -> Reading:
    """The files as they are: those of the last commit with all changes, and what git does not track.

    E111 for what is neither a file nor a link, E016 for a repository that is no submodule yet.
    """
    changed, untracked = changes(repository, sub)
    names = {os.fsencode(name.rstrip("/")) for name in (*changed, *untracked)}
    reading = Reading()
    if not repository.head_is_unborn:
        origin = FromCheckout(repository, present=True)
        unchanged = replace(how, skip=frozenset(names))
        try:
            reading = read_commit(repository, str(repository.head.target), origin, unchanged, sub)
        except AfenvError as error:
            if error.code != "E108":
                raise
    links = {path for path, _, _ in reading.submodules}
    names -= links
    if how.export:
        prefix = sub + b"/" if sub else b""
        kept = {name for name in names if not _export_ignored(repository, prefix + name, links, prefix)}
        reading.exported = reading.exported or kept != names
    else:
        kept = names
    files = {file.path: file for file in reading.files}
    root = os.fsencode(here)
    for name in sorted(kept):
        file = _present(root, name, str(here))
        if file is not None:
            files[name] = _with_lfs(file, repository, how, reading)
    reading.files = [files[name] for name in sorted(files)]
    return reading


def _export_ignored(
    repository: pygit2.Repository, path: bytes, links: Iterable[bytes], prefix: bytes
) -> bool:
    """Whether the export rules that are in the working folder leave out a path of the repository."""
    from afenv.layers.code_attributes import FILE_NAME, attributes_of, parse

    tops = [prefix + link + b"/" for link in links if path.startswith(prefix + link + b"/")]
    top = max(tops, key=len, default=b"")  # a submodule has rules of its own
    root = os.fsencode(repository.workdir) + top
    parts = path[len(top) :].split(b"/")
    chain = []
    for number in range(len(parts)):
        folder = b"".join(part + b"/" for part in parts[:number])
        own = Path(os.fsdecode(root + folder + FILE_NAME))
        if own.is_file() and not own.is_symlink():
            chain.append(parse(own.read_bytes(), folder))
        here = b"/".join(parts[: number + 1])
        if attributes_of(here, number < len(parts) - 1, chain).get(b"export-ignore") is True:
            return True
    return False


def _present(root: bytes, name: bytes, place: str) -> CodeFile | None:
    full = root + b"/" + name
    parent = name
    while parent := parent.rpartition(b"/")[0]:
        if os.path.islink(root + b"/" + parent):  # noqa: PTH114 - a link took the folder's place
            return None
    try:
        mode = os.lstat(full).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AfenvError("E001", f"cannot read: {error.strerror}", place=os.fsdecode(full)) from None
    if stat.S_ISDIR(mode):
        refuse_nested(full, name)
        return None
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise AfenvError("E111", f"{show(name)!r} is neither a file nor a link", place=place)
    return CodeFile(name, normal_mode(mode), read_file(full, stat.S_ISLNK(mode)))


def _with_lfs(file: CodeFile, repository: pygit2.Repository, how: How, reading: Reading) -> CodeFile:
    """The file, or the LFS content that it stands for if git LFS did not put it into the folder."""
    pointer = None if stat.S_ISLNK(file.mode) else _pointer(file.load(), file.path)
    if pointer is None:
        return file
    from afenv.layers import code_lfs

    objects = FromCheckout(repository).objects(None)
    code_lfs.bring({pointer: file.path}, objects, how.store, how.settings, quiet=how.quiet)
    reading.lfs = sorted([*reading.lfs, (file.path, pointer)], key=lambda item: item[0])
    blob = code_lfs.blob_hash(pointer, how.store)
    return CodeFile(file.path, file.mode, lambda: code_lfs.content(pointer, how.store), blob)
