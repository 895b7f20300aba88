"""What a base image holds, as the parts of afenv that put something on top of it need to know it.

A tree is made once by reading the layers (:mod:`afenv.oci.base`), and kept: all paths, the owners and
modes of folders, the targets of links, and the content of the few files that decide something.
Paths are relative to the root of the image, without a slash at either end.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedBase
from afenv.errors import AfenvError

VERSION = 1  # of the form in which trees are kept
_LINKS = 40  # symbolic links that are followed on the way to one path, as Linux does


class Folder(NamedTuple):
    """A folder of the base: permissions, owner and group."""

    mode: int
    uid: int
    gid: int


class Kept(NamedTuple):
    """A small file of the base: permissions and content."""

    mode: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class BaseTree:
    """The files of a base image.

    ``files`` has the size in bytes of every regular file, ``links`` the targets of symbolic links,
    ``others`` devices and the like, ``same`` the target of each hard link, ``kept`` the content of some
    small files, and ``versions`` the version that is written in a program or library (see
    :mod:`afenv.layers.base_facts`).
    """

    folders: Mapping[str, Folder]
    files: Mapping[str, int]
    links: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    same: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _names(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = {}
        for paths in (self.folders, self.files, self.links, self.others):
            for path in paths:
                folder, _, name = path.rpartition("/")
                if name:
                    names.setdefault(folder, []).append(name)
        return {folder: sorted(found) for folder, found in names.items()}

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; nothing where there is no such folder. Links are followed."""
        return self._names.get(self.real(folder) or "", []) if folder else self._names.get("", [])

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, links being followed."""
        return not path or self.real(path) in self.folders

    def is_file(self, path: str) -> bool:
        """Whether there is a regular file, links being followed."""
        return self.real(path) in self.files

    def exists(self, path: str) -> bool:
        """Whether there is anything, links being followed."""
        real = self.real(path)
        return real == "" or real in self.folders or real in self.files or real in self.others

    def read(self, path: str) -> bytes | None:
        """The content of a file that is kept, links being followed; None if there is none."""
        kept = self.kept.get(self.real(path) or path)
        return kept.data if kept is not None else None

    def real(self, path: str) -> str | None:
        """The path with all symbolic links followed; None for a circle."""
        todo = [part for part in reversed(path.split("/")) if part]
        found: list[str] = []
        followed = 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                found = found[:-1]
                continue
            here = "/".join([*found, part])
            target = self.links.get(here)
            if target is None:
                found.append(part)
                continue
            followed += 1
            if followed > _LINKS:
                return None
            if target.startswith("/"):
                found = []
            todo += [piece for piece in reversed(target.split("/")) if piece]
        return "/".join(found)

    def walk(self, folder: str) -> Iterator[str]:
        """The paths of regular files below a folder, which is no link."""
        start = f"{folder}/" if folder else ""
        return (path for path in self.files if path.startswith(start))

    def dump(self) -> bytes:
        """The tree as bytes."""
        value = {
            "version": VERSION,
            "folders": {_latin(path): list(entry) for path, entry in self.folders.items()},
            "files": {_latin(path): size for path, size in self.files.items()},
            "links": {_latin(path): _latin(target) for path, target in self.links.items()},
            "others": sorted(map(_latin, self.others)),
            "same": {_latin(path): _latin(target) for path, target in self.same.items()},
            "kept": {_latin(path): [one.mode, one.data.decode("latin-1")] for path, one in self.kept.items()},
            "versions": dict(self.versions),
        }
        return zlib.compress(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), 1)


def parse_tree(data: bytes) -> BaseTree:
    """The tree that :meth:`BaseTree.dump` wrote; ValueError if it is something else."""
    try:
        value: Any = json.loads(zlib.decompress(data))
        if value["version"] != VERSION:
            raise ValueError("another version")
        return BaseTree(
            folders={_text(path): Folder(*entry) for path, entry in value["folders"].items()},
            files={_text(path): size for path, size in value["files"].items()},
            links={_text(path): _text(target) for path, target in value["links"].items()},
            others=frozenset(map(_text, value["others"])),
            same={_text(path): _text(target) for path, target in value["same"].items()},
            kept={
                _text(path): Kept(mode, text.encode("latin-1"))
                for path, (mode, text) in value["kept"].items()
            },
            versions=value["versions"],
        )
    except (zlib.error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _latin(path: str) -> str:
    """A path as text with one character per byte; JSON cannot hold lone surrogates."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("latin-1")


def _text(path: str) -> str:
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "surrogateescape")


def base_identity(base: LockedBase) -> str:
    """What layers on top of a base depend on: the content of its layers."""
    return sha256_bytes(canonical.compact(["base", 1, [layer.diff_id for layer in base.layers]]))


class OpenBase(Protocol):
    """A base image whose layers can be read."""

    @property
    def tree(self) -> BaseTree:
        """What it holds."""
        ...  # pragma: no cover

    def contents(self, paths: Collection[str]) -> Mapping[str, bytes]:
        """The content of these regular files of :attr:`tree`."""
        ...  # pragma: no cover


class Ground:
    """What a layer is written on: the base's folders and links, as :class:`LayerWriter` asks for them."""

    def __init__(self, tree: BaseTree) -> None:
        self._tree = tree
        self._real: dict[str, str] = {"": ""}

    def place(self, path: str) -> str:
        """Where ``path`` comes to lie; E304 if it is not in its normal form, or links go in a circle."""
        parent, _, name = path.rpartition("/")
        real = self._real.get(parent)
        if real is None:
            if {"", ".", ".."} & set(parent.split("/")):
                raise AfenvError("E304", f"{path!r} is not a path that a layer may hold")
            found = self._tree.real(parent)
            if found is None:
                raise AfenvError("E304", f"links of the base image lead /{path} in a circle")
            real = self._real[parent] = found
        return f"{real}/{name}" if real else name

    def folder(self, path: str) -> Folder | None:
        """The folder of the base at a path that :meth:`place` gave; None if there is none."""
        return self._tree.folders.get(path)

    def follow(self, path: str) -> str:
        """Where a folder written at ``path`` comes to lie: a link at its end is followed as well."""
        real = self._tree.real(path)
        return path if real is None else real

    def holds_file(self, path: str) -> bool:
        """Whether the base has something at that path that is neither folder nor link."""
        return path in self._tree.files or path in self._tree.others
