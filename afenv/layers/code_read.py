"""From a commit to the files that go into an image: submodules, LFS content and export rules included.

Content is as the commit has it. What git would convert for a working folder (line ends, encodings, ``$Id$``,
``$Format$``, filters other than LFS) is not converted, and :attr:`Reading.unconverted` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afenv.errors import AfenvError
from afenv.layers.codetree import (
    DIRECTORY,
    FILES_LIMIT,
    GITLINK,
    SYMLINK,
    CodeFile,
    check_path,
    normal_mode,
    show,
)
from afenv.layers.own_files import EXEMPT

if TYPE_CHECKING:
    import pygit2

    from afenv.layers.code_attributes import Attributes, Value
    from afenv.layers.code_lfs import Objects, Pointer
    from afenv.settings import Settings
    from afenv.store.content import ContentStore

_ATTRIBUTES = b".gitattributes"
_GITMODULES = b".gitmodules"
_READ = frozenset((b"export-ignore", b"filter", b"eol", b"working-tree-encoding", b"ident", b"export-subst"))
_DOCUMENT_LIMIT = 1 << 20  # bytes of a .gitattributes, .gitmodules or .lfsconfig


class Origin(Protocol):
    """Where a repository is from, and with that its submodules and LFS objects."""

    @property
    def place(self) -> str:
        """The repository as messages name it."""

    def submodule(
        self, path: bytes, commit: str, sections: Mapping[bytes, Mapping[str, str]]
    ) -> tuple[pygit2.Repository, Origin, str, str | None] | None:
        """The repository at a path, its own origin, the commit to take, and its URL, where it matters.

        None if the submodule is to be left out.
        """

    def objects(self, config: bytes | None) -> Objects:
        """Where LFS objects may be; ``config`` is the tree's ``.lfsconfig``."""

    def working_file(self, path: bytes) -> Path | None:
        """The file at hand for a path of the repository, which may have LFS content."""


@dataclass
class Reading:
    """What a commit holds.

    ``submodules`` are (path, commit, URL), ``lfs`` (path, pointer), both by path; ``exported`` tells that
    export rules left something out, ``unconverted`` names a file for each attribute that was not heeded.
    """

    files: list[CodeFile] = field(default_factory=list)
    submodules: list[tuple[bytes, str, str | None]] = field(default_factory=list)
    lfs: list[tuple[bytes, Pointer]] = field(default_factory=list)
    exported: bool = False
    unconverted: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How to read: ``export`` heeds export-ignore, ``exempt`` leaves out afenv's own files at the top.

    ``content`` brings the content of LFS pointers; without it only that of which git's hash is not known.
    ``skip`` are files that are not wanted, by their path in the result.
    """

    store: ContentStore
    settings: Settings
    exempt: bool = True
    export: bool = True
    content: bool = False
    quiet: bool = False
    skip: frozenset[bytes] = frozenset()


def read_commit(
    repository: pygit2.Repository, commit: str, origin: Origin, how: How, sub: bytes = b""
) -> Reading:
    """The files of a commit under the folder ``sub``, sorted by path.

    E108 if there is no such commit or folder, E111 for unsafe names, more files than are accepted, or one
    path twice; E130 for submodules, E133 and others for LFS content, as :func:`afenv.layers.code_lfs.bring`.
    """
    reading = Reading()
    _read(repository, commit, origin, how, sub, b"", 0, reading)
    reading.files.sort(key=lambda file: file.path)
    reading.submodules.sort()
    reading.lfs.sort(key=lambda item: item[0])
    return reading


def _read(
    repository: pygit2.Repository,
    commit: str,
    origin: Origin,
    how: How,
    sub: bytes,
    prefix: bytes,
    depth: int,
    reading: Reading,
) -> None:
    root = _root(repository, commit, origin)
    node: Any = root
    chain: tuple[Attributes, ...] = ()
    at = b""
    for part in sub.split(b"/") if sub else ():
        chain = _with_own(repository, node, at, chain)
        at += part + b"/"
        node = next((item for item in node if item.raw_name == part and item.filemode == DIRECTORY), None)
        if node is None:
            raise AfenvError("E108", f"{commit} has no folder {show(sub)!r}", place=origin.place)
    pointers: list[tuple[bytes, bytes, int, Pointer]] = []
    links: list[tuple[bytes, str]] = []
    waiting = [(node, at, chain)]
    while waiting:
        node, folder, above = waiting.pop()
        entries = list(node)
        chain = _with_own(repository, entries, folder, above)
        for entry in entries:
            name = bytes(entry.raw_name)
            path = folder + name
            inside = prefix + path[len(at) :]
            if b"/" in name:
                raise AfenvError("E111", f"{show(inside)!r}: a name with a slash", place=origin.place)
            if how.exempt and not depth and folder == at and name in EXEMPT:
                continue
            mode = int(entry.filemode)
            is_folder = mode in (DIRECTORY, GITLINK)
            found: Mapping[bytes, Value] = _attributes(path, is_folder, chain) if chain else {}
            if how.export and found.get(b"export-ignore") is True:
                reading.exported = True
            elif mode == DIRECTORY:
                check_path(inside, origin.place)
                waiting.append((entry, path + b"/", chain))
            elif mode == GITLINK:
                check_path(inside, origin.place)
                links.append((path, str(entry.id)))
            elif inside not in how.skip:
                file = CodeFile(inside, normal_mode(mode), _loader(repository, entry.id), entry.id.raw)
                pointer = _pointer(file, found, origin, reading) if found and file.mode != SYMLINK else None
                if pointer is None:
                    reading.files.append(file)
                else:
                    pointers.append((path, inside, file.mode, pointer))
        if len(reading.files) + len(pointers) + len(waiting) > FILES_LIMIT:
            raise AfenvError("E111", f"the code has more than {FILES_LIMIT:,} files", place=origin.place)
    if pointers:
        _add_lfs(pointers, repository, root, origin, how, reading)
    if links:
        _add_submodules(links, repository, root, origin, how, prefix, len(at), depth, reading)


def _root(repository: pygit2.Repository, commit: str, origin: Origin) -> Any:
    import pygit2

    try:
        return repository[commit].peel(pygit2.Tree)
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise AfenvError("E108", f"{commit}: {str(error).strip(chr(39))}", place=origin.place) from None


def _loader(repository: pygit2.Repository, identity: Any) -> Callable[[], bytes]:
    return lambda: bytes(repository.read(identity)[1])


def _document(repository: pygit2.Repository, entries: Any, name: bytes) -> bytes | None:
    """A small regular file of a folder, such as ``.gitmodules``; a link is none, as for git."""
    for entry in entries:
        if entry.raw_name == name and int(entry.filemode) & 0o170000 == 0o100000:
            data = bytes(repository.read(entry.id)[1])
            return data if len(data) <= _DOCUMENT_LIMIT else None
    return None


def _with_own(
    repository: pygit2.Repository, entries: Any, folder: bytes, chain: tuple[Attributes, ...]
) -> tuple[Attributes, ...]:
    """The attributes' files that speak of a folder's entries."""
    data = _document(repository, entries, _ATTRIBUTES)
    if data is None:
        return chain
    from afenv.layers.code_attributes import only, parse

    return (*chain, only(parse(data, folder), _READ))


def _attributes(path: bytes, is_folder: bool, chain: tuple[Attributes, ...]) -> dict[bytes, Value]:
    from afenv.layers.code_attributes import attributes_of

    return attributes_of(path, is_folder, chain)


def _pointer(
    file: CodeFile, found: Mapping[bytes, Value], origin: Origin, reading: Reading
) -> Pointer | None:
    """The pointer that a file is, if its attributes say that it is in git LFS; else note what is not done."""
    for name in (b"filter", b"eol", b"working-tree-encoding", b"ident", b"export-subst"):
        value = found.get(name)
        if value in (None, False) or (name, value) in ((b"filter", b"lfs"), (b"eol", b"lf")):
            continue
        if name == b"working-tree-encoding" and str(value).upper() in ("B'UTF-8'", "B'UTF8'"):
            continue
        text = show(name) + (f"={show(value)}" if isinstance(value, bytes) else "")
        reading.unconverted.setdefault(text, file.path)
    if found.get(b"filter") != b"lfs":
        return None
    from afenv.layers.code_lfs import read_pointer

    return read_pointer(file.load(), file.path, origin.place)


def _add_lfs(
    pointers: list[tuple[bytes, bytes, int, Pointer]],
    repository: pygit2.Repository,
    root: Any,
    origin: Origin,
    how: How,
    reading: Reading,
) -> None:
    from afenv.layers import code_lfs

    wanted = {}
    for path, inside, _, pointer in pointers:
        if how.content or code_lfs.blob_hash(pointer, how.store) is None:
            here = None if how.store.trusted(pointer.digest, pointer.size) else origin.working_file(path)
            if here is None or not code_lfs.adopt_file(pointer, here, how.store):
                wanted[pointer] = inside
    if wanted:
        objects = origin.objects(_document(repository, root, code_lfs.CONFIG_NAME))
        code_lfs.bring(wanted, objects, how.store, how.settings, quiet=how.quiet)
    for _, inside, mode, pointer in pointers:
        blob = code_lfs.blob_hash(pointer, how.store)
        reading.files.append(CodeFile(inside, mode, _lfs_loader(pointer, how.store), blob))
        reading.lfs.append((inside, pointer))
    how.store.sync()


def _lfs_loader(pointer: Pointer, store: ContentStore) -> Callable[[], Any]:
    from afenv.layers.code_lfs import content

    return lambda: content(pointer, store)


def _add_submodules(
    links: list[tuple[bytes, str]],
    repository: pygit2.Repository,
    root: Any,
    origin: Origin,
    how: How,
    prefix: bytes,
    cut: int,
    depth: int,
    reading: Reading,
) -> None:
    from afenv.layers.code_submodules import COUNT_LIMIT, DEPTH_LIMIT, parse_gitmodules

    sections = parse_gitmodules(_document(repository, root, _GITMODULES) or b"", origin.place)
    for path, commit in links:
        inside = prefix + path[cut:]
        if depth == DEPTH_LIMIT or len(reading.submodules) == COUNT_LIMIT:
            limit = f"{DEPTH_LIMIT} deep" if depth == DEPTH_LIMIT else f"{COUNT_LIMIT} in number"
            message = f"the submodule {show(inside)!r} is one too many: they may be {limit}; is it a loop?"
            raise AfenvError("E130", message, place=origin.place)
        found = origin.submodule(path, commit, sections)
        if found is not None:
            inner, its_origin, commit, url = found
            reading.submodules.append((inside, commit, url))
            _read(inner, commit, its_origin, how, b"", inside + b"/", depth + 1, reading)
