"""A checkout in which nothing is changed, read without libgit2, whose import takes longer than all the rest.

After a commit, git's index names the content of every file, and its cache of trees says that it is the
commit's own tree. So files whose content has the hashes of the index are the files of the commit. Formats:
gitformat-index(5), versions 2 and 3, and git-book, "Git Internals – Git Objects" for the commit. Whatever is
out of the ordinary (changed and unknown files, attributes, submodules, packed commits, merges that are under
way, sparse checkouts, linked working trees, …) has no answer here: then libgit2 is asked.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.layers.codetree import EXECUTABLE, REGULAR, SYMLINK, CodeFile, object_hash
from afenv.layers.own_files import EXEMPT

if TYPE_CHECKING:
    from afenv.store.content import ContentStore

_SPECIAL = (b".gitattributes", b".gitmodules", b".lfsconfig")  # files that say how to read others
_POINTER = b"version https://git-lfs"
_LARGEST = 1 << 20  # bytes of a commit


class Ignored(NamedTuple):
    """What git ignores in a checkout, as a full look found it; ``rules`` stands for what decides it."""

    folders: frozenset[bytes]
    files: frozenset[bytes]
    rules: str | None


class CleanCheckout(NamedTuple):
    """The last commit of a checkout without changes, when it was made (RFC 3339, UTC), and its files.

    ``ignored`` is what was given, or nothing if something else decides by now what is ignored.
    """

    commit: str
    date: str
    files: list[CodeFile]
    ignored: Ignored


class _Unusual(Exception):
    """This takes libgit2."""


def clean_checkout(folder: Path, ignored: Ignored | None) -> CleanCheckout | None:
    """The files at hand, if ``folder`` is the top of a checkout that has no change and no unknown file.

    Exempt files do not count. None means that the answer is not known here.
    """
    try:
        return _clean(os.path.realpath(os.fsencode(folder)), ignored)
    except (_Unusual, AfenvError, OSError, ValueError, zlib.error):
        return None


def ignore_rules(folder: Path) -> str | None:
    """A digest of all that decides what git ignores in a checkout; None if it is not known here."""
    root = os.path.realpath(os.fsencode(folder))
    try:
        return _rules(root, _index(root)[0])
    except (_Unusual, OSError, ValueError):
        return None


def load_ignored(folder: Path, store: ContentStore) -> Ignored | None:
    """What the last full look at a checkout found to be ignored; None before one."""
    match store.load_key("code-ignored", _place(folder)):
        case {"folders": [*folders], "files": [*files], "rules": str() | None as rules}:
            return Ignored(frozenset(map(os.fsencode, folders)), frozenset(map(os.fsencode, files)), rules)
    return None


def save_ignored(folder: Path, store: ContentStore, found: Ignored) -> None:
    """Remember what a full look at a checkout found to be ignored."""
    folders, files = (sorted(map(os.fsdecode, names)) for names in (found.folders, found.files))
    value = {"folders": folders, "files": files, "rules": found.rules}
    store.save_key("code-ignored", _place(folder), value)


def _place(folder: Path) -> str:
    return sha256_bytes(os.path.realpath(os.fsencode(folder)))


def _clean(root: bytes, ignored: Ignored | None) -> CleanCheckout | None:
    entries, tree = _index(root)
    if any(os.path.lexists(root + b"/.git/" + name) for name in (b"commondir", b"info/attributes")):
        raise _Unusual
    commit, date = _head(root, tree)
    rules = _rules(root, entries)
    if ignored is None or ignored.rules != rules:
        ignored = Ignored(frozenset(), frozenset(), rules)
    files: list[CodeFile] = []
    for path in _walk(root, b"", ignored):
        entry = entries.get(path)
        if entry is None:
            if path not in ignored.files:
                raise _Unusual
            continue
        mode, digest = entry
        load = _loader(root + b"/" + path, mode)
        if not _is_of_mode(root + b"/" + path, mode):
            raise _Unusual
        data = load()
        if object_hash("blob", data) != digest or data.startswith(_POINTER):
            raise _Unusual
        files.append(CodeFile(path, mode, load))
    if len(files) != sum(path.split(b"/", 1)[0] not in EXEMPT for path in entries):
        raise _Unusual
    return CleanCheckout(commit, date, sorted(files, key=lambda file: file.path), ignored)


def _walk(root: bytes, prefix: bytes, ignored: Ignored) -> Iterator[bytes]:
    with os.scandir(root + b"/" + prefix) as scan:
        found = list(scan)
    for entry in found:
        path = prefix + entry.name
        if path in EXEMPT or path == b".git":
            continue
        if entry.name == b".git":
            raise _Unusual
        if not entry.is_dir(follow_symlinks=False):
            yield path
        elif path not in ignored.folders:
            yield from _walk(root, path + b"/", ignored)


def _is_of_mode(full: bytes, mode: int) -> bool:
    found = os.lstat(full).st_mode
    if mode == SYMLINK:
        return stat.S_ISLNK(found)
    return stat.S_ISREG(found) and bool(found & 0o100) == (mode == EXECUTABLE)


def _loader(full: bytes, mode: int) -> Callable[[], bytes]:
    def load() -> bytes:
        try:
            path = Path(os.fsdecode(full))
            return os.fsencode(path.readlink()) if mode == SYMLINK else path.read_bytes()
        except OSError as error:
            place = os.fsdecode(full)
            raise AfenvError("E001", f"cannot read: {error.strerror}", place=place) from None

    return load


def _head(root: bytes, tree: bytes) -> tuple[str, str]:
    """The commit that HEAD names, if it has that tree, and its time."""
    git = root + b"/.git/"
    name = _read(git + b"HEAD").strip()
    if name.startswith(b"ref: refs/"):
        name = _read(git + name[5:]).strip()
    commit = bytes.fromhex(name.decode())
    data = zlib.decompressobj().decompress(_read(b"%sobjects/%s/%s" % (git, name[:2], name[2:])), _LARGEST)
    kind, _, body = data.partition(b"\0")
    lines = body.partition(b"\n\n")[0].split(b"\n")
    if hashlib.sha1(data, usedforsecurity=False).digest() != commit or not kind.startswith(b"commit "):
        raise _Unusual
    (committer,) = [line for line in lines if line.startswith(b"committer ")]
    if lines[0] != b"tree " + tree.hex().encode():
        raise _Unusual
    seconds = int(committer.rsplit(b" ", 2)[1])
    return commit.hex(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _index(root: bytes) -> tuple[dict[bytes, tuple[int, bytes]], bytes]:
    """Mode and hash of each file in the index, and the tree that they are."""
    data = _read(root + b"/.git/index")
    if data[:4] != b"DIRC" or hashlib.sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
        raise _Unusual
    version, count = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
    if version not in (2, 3):
        raise _Unusual
    entries: dict[bytes, tuple[int, bytes]] = {}
    position = 12
    for _ in range(count):
        mode = int.from_bytes(data[position + 24 : position + 28])
        flags = int.from_bytes(data[position + 60 : position + 62])
        end = data.index(b"\0", position + 62)
        name = data[position + 62 : end]
        special = name.rpartition(b"/")[2] in _SPECIAL
        if special or flags & 0xF000 or mode not in (REGULAR, EXECUTABLE, SYMLINK):
            raise _Unusual
        entries[name] = mode, data[position + 40 : position + 60]
        position += (end - position + 8) & ~7
    tree = b""
    while position < len(data) - 20:
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8])
        if kind == b"TREE":
            counts, _, rest = data[position + 8 : position + 8 + size].partition(b"\n")
            if counts.split(b" ")[0] != b"\0%d" % count:  # not known since something was staged
                raise _Unusual
            tree = rest[:20]
        elif not kind[:1].isupper():  # one without which the index is not understood
            raise _Unusual
        position += 8 + size
    return entries, tree


def _rules(root: bytes, entries: dict[bytes, tuple[int, bytes]]) -> str:
    """A digest of the tracked ignore files, which must be as they are tracked, and of the state of others."""
    value: list[Any] = []
    for path, (_, digest) in entries.items():
        if path.rpartition(b"/")[2] == b".gitignore":
            if object_hash("blob", _read(root + b"/" + path)) != digest:
                raise _Unusual
            value.append((path, digest))
    home = os.fsencode(os.path.expanduser("~"))  # noqa: PTH111 - bytes
    settings = os.fsencode(os.environ.get("XDG_CONFIG_HOME") or "") or home + b"/.config"
    others = [root + b"/.git/info/exclude", root + b"/.git/config", home + b"/.gitconfig", b"/etc/gitconfig"]
    for path in (*others, settings + b"/git/ignore", settings + b"/git/config"):
        try:
            status = os.stat(path)  # noqa: PTH116 - bytes
            value.append((path, status.st_size, status.st_mtime_ns, status.st_ino))
        except FileNotFoundError:
            value.append((path, None))
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes
        return file.read()
