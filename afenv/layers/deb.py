"""Debian packages into a layer, without their maintainer scripts.

Each package becomes its own files, its part of dpkg's database, and the bytecode of its Python modules.
Paths are those of a merged-/usr system: what a package ships below ``/bin``, ``/lib`` and their like is
written below ``/usr``; the links at the top belong to the system layer. Targets of symbolic links stay
as they are, as dpkg leaves them: absolute ones go through those links, and Debian's policy has relative
ones only between paths of one top-level folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from afenv.documents.lock import LockedDeb
from afenv.errors import AfenvError, Problem
from afenv.layers.deb_archive import DebArchive, open_deb
from afenv.layers.deb_facts import DebFacts, FactGatherer, save_facts
from afenv.layers.dpkg_status import INFO, SCRIPTS, Stanza, file_list, parse_control
from afenv.layers.listing import ListingEntry
from afenv.layers.writer import LayerWriter
from afenv.store.content import ContentStore

# Folders at the top that are links into /usr on a merged-/usr system, and two that base-files makes so.
_MOVED = {
    **{name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32")},
    "var/run": "run",
    "var/lock": "run/lock",
}
USR_LINKS = tuple(name for name in _MOVED if "/" not in name)
MAX_SOURCES = 256 << 20  # bytes of Python source of one package that are kept for compiling


class Compiler(Protocol):
    """What compiles Python sources for the image; see :mod:`afenv.layers.bytecode`."""

    def compile(self, key: str, sources: Sequence[tuple[str, bytes]]) -> Mapping[str, bytes]:
        """The bytecode files, by path, of sources at paths in the image."""


def merged_path(path: str) -> str:
    """Where a package's ``path`` lies on a merged-/usr system; both without a leading slash."""
    first, slash, rest = path.partition("/")
    target = _MOVED.get(first)
    if target is None and first == "var" and slash:
        second, slash, rest = rest.partition("/")
        target = _MOVED.get(f"var/{second}")
    if target is None:
        return path
    return f"{target}/{rest}" if slash else target


def link_path(path: str) -> str:
    """Where a package's symbolic link lies; the links at the top themselves, which some ship, stay."""
    return path if path in _MOVED else merged_path(path)


def write_debs(
    debs: Sequence[LockedDeb],
    paths: Sequence[Path],
    writer: LayerWriter,
    *,
    compiler: Compiler | None = None,
    store: ContentStore | None = None,
    merged: bool = True,
) -> None:
    """Write the packages, whose archives lie at ``paths``, into a layer.

    Raises E301 (wrong digest), E303 (malformed), E304 (unsafe path or device), E401 (two files at one
    path); the layer is then to be thrown away. With ``compiler``, modules below ``/usr/lib/python3*``
    get their bytecode. With ``store``, what the system layer needs to know of them is kept there. Without
    ``merged``, paths are those of the packages: a base image has its own links at the top.
    """
    for deb, path in zip(debs, paths, strict=True):
        writer.package = deb.name
        with open_deb(path, sha256=deb.file.sha256) as archive:
            facts = _write_deb(deb, archive, writer, str(path), compiler, merged)
        if store is not None:  # only now the digest is known to be right
            save_facts(store, deb.file.sha256, facts)
    writer.package = ""


def _write_deb(
    deb: LockedDeb,
    archive: DebArchive,
    writer: LayerWriter,
    place: str,
    compiler: Compiler | None,
    merged: bool,
) -> DebFacts:
    control = archive.control_files()
    stanza = parse_control(control["control"], place)
    _check_identity(deb, stanza, place)
    gatherer = FactGatherer(control, stanza)
    listed: list[str] = []
    files: set[str] = set()
    sources: list[tuple[str, bytes]] = []
    room = MAX_SOURCES
    for member in archive.members():
        path, kind, mode, size, linkname, chunks = member
        listed.append(path)
        target = merged_path(path) if merged else path
        whole: bytes | None = None
        if kind == "file":
            module = compiler is not None and path.endswith(".py") and target.startswith("usr/lib/python3")
            wanted = gatherer.wants(member)
            if module or wanted or isinstance(chunks, tuple):  # a small file comes as one chunk
                data = b"".join(chunks)
                writer.file(target, mode, data)
                whole = data if wanted else None
                if module and size <= room:
                    sources.append((target, data))
                    room -= size
            else:
                writer.stream(target, mode, size, chunks)
            files.add(path)
        elif kind == "directory":
            if target:
                writer.directory(target, mode)
        elif kind == "symlink":
            link = link_path(path) if merged else path
            if not writer.is_base_folder(link):  # dpkg, too, leaves a folder where a package has a link
                writer.symlink(link, linkname)
        else:
            if linkname not in files:
                raise AfenvError(
                    "E303", f"{path} is a hard link to {linkname}, which is not a file before it", place=place
                )
            writer.hardlink(target, merged_path(linkname) if merged else linkname)
            files.add(path)
        gatherer.see(member, whole)
    name = stanza.info_name
    info = {f"{INFO}/{name}.list": (0o644, file_list(listed))}
    for kind_of, data in control.items():
        if kind_of != "control" and "/" not in kind_of:
            info[f"{INFO}/{name}.{kind_of}"] = (0o755 if kind_of in SCRIPTS else 0o644, data)
    if compiler is not None and sources:
        for compiled, bytecode in compiler.compile(f"deb:{deb.file.sha256}", sources).items():
            info[compiled.lstrip("/")] = (0o644, bytecode)
    for path in sorted(info):
        writer.file(path, *info[path])
    return gatherer.facts()


def _check_identity(deb: LockedDeb, stanza: Stanza, place: str) -> None:
    """The archive must be what the lock says that it is."""
    found = stanza.get("Package"), stanza.get("Version"), stanza.get("Architecture")
    if found != (deb.name, deb.version, deb.architecture):
        raise AfenvError(
            "E303",
            f"the package says that it is {' '.join(found)}, "
            f"the lock that it is {deb.name} {deb.version} {deb.architecture}",
            place=place,
        )


@dataclass(frozen=True, slots=True)
class Contested:
    """A path that two packages own with different content, and the package that dpkg would let win."""

    path: str
    loser: str
    winner: str


def deb_conflicts(
    listings: Mapping[str, Sequence[ListingEntry]], debs: Sequence[LockedDeb]
) -> tuple[Contested, ...]:
    """The paths that several packages own with different content, resolved as dpkg does.

    ``listings`` are the entries that each package wrote, by package name. Folders may be shared, and so
    may equal files and links. Else one package must declare ``Replaces`` for the other and wins; where
    neither or both do, dpkg would refuse, and so E401 is raised, with all such paths.
    """
    replaces = {deb.name: _names(deb.control.get("Replaces", "")) for deb in debs}
    owners: dict[str, ListingEntry] = {}
    contested: list[Contested] = []
    problems: list[Problem] = []
    for package, entries in listings.items():
        for entry in entries:
            other = owners.setdefault(entry.path, entry._replace(package=package))
            if other.package == package or _same(other, entry):
                continue
            mine = other.package in replaces.get(package, ())
            theirs = package in replaces.get(other.package, ())
            if mine == theirs:
                message = f"{other.package} and {package} both install /{entry.path}, with different content"
                problems.append(Problem("E401", message))
            elif mine:
                contested.append(Contested(entry.path, other.package, package))
                owners[entry.path] = entry._replace(package=package)
            else:
                contested.append(Contested(entry.path, package, other.package))
    if problems:
        raise AfenvError.many(problems)
    return tuple(sorted(contested, key=lambda item: item.path))


def _same(one: ListingEntry, two: ListingEntry) -> bool:
    if one.kind == "d" and two.kind == "d":
        return True
    return (one.kind, one.size, one.crc32, one.target) == (two.kind, two.size, two.crc32, two.target)


def _names(field: str) -> frozenset[str]:
    """The package names of a relationship field, versions aside."""
    items = (item.split("(")[0].split(":")[0].strip() for item in field.replace("|", ",").split(","))
    return frozenset(item for item in items if item)
