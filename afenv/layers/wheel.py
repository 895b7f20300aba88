"""Wheels as members of a layer: what ``pip install`` would have put into the image, and where.

A wheel is read through its zip directory; its compressed content goes into the layer as it is. Source
of the format: PyPA's binary distribution format and the recording of installed projects (``RECORD``,
``INSTALLER``, ``REQUESTED``).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afenv.documents.lock import LockedPython, LockedWheel
from afenv.errors import AfenvError
from afenv.layers import gzip_members, wheel_scripts
from afenv.layers.bytecode import Compiler, Pyc
from afenv.layers.gzip_members import crc32 as crc32_of
from afenv.layers.writer import LayerWriter
from afenv.layers.zip_archive import STORED, ZipArchive, ZipEntry, map_zip

INSTALLER = b"afenv\n"

_UNSAFE = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|[\\\0\n\r]")
_SEPARATORS = re.compile(r"[-_.]+")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_HELD = 1 << 23  # bytes of an archive that are kept in memory after use
_LINK, _TYPE = 0o120000, 0o170000


@dataclass(frozen=True, slots=True)
class Item:
    """What a wheel puts at one path: an entry of the archive, or made content (``data``)."""

    mode: int
    size: int
    crc32: int
    entry: ZipEntry | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class OpenWheel:
    """A wheel whose archive is mapped: what it installs, by path in the image (relative)."""

    wheel: LockedWheel
    archive: ZipArchive
    dist_info: str  # path of the .dist-info folder in the archive
    items: Mapping[str, Item]
    python: LockedPython

    @property
    def site(self) -> str:
        """The relative path of the folder that packages go to."""
        return self.python.site_packages.strip("/")


def open_wheel(wheel: LockedWheel, path: Path, python: LockedPython, *, check: bool = True) -> OpenWheel:
    """Map a wheel and work out where its files go; nothing but small metadata is inflated.

    With ``check``, the archive's digest is checked against the lock first. Raises E301 (another
    digest), E303 (malformed) and E304 (unsafe path).
    """
    archive = map_zip(path, sha256=wheel.file.sha256 if check else None)
    dist_info = _dist_info(archive, wheel)
    _check_version(archive, dist_info)
    executable, site, scripts = python.executable, python.site_packages.strip("/"), python.scripts.strip("/")
    roots = _roots(dist_info, site, scripts, python.version)
    data_folder = dist_info.removesuffix(".dist-info") + ".data/"
    left_out = {f"{dist_info}/{name}" for name in ("RECORD", "INSTALLER", "REQUESTED", *_SIGNATURES)}
    items: dict[str, Item] = {}
    for name, entry in archive.entries.items():
        if _UNSAFE.search(name) or entry.mode & _TYPE == _LINK:
            raise AfenvError("E304", f"{name!r} may not be in a wheel", place=archive.place)
        if name in left_out or "__pycache__/" in name:
            continue
        mode = 0o755 if entry.mode & 0o111 else 0o644
        if not name.startswith(data_folder):
            items[f"{site}/{name}"] = Item(mode, entry.size, entry.crc32, entry)
            continue
        scheme, _, rest = name[len(data_folder) :].partition("/")
        if scheme not in roots or not rest:
            raise AfenvError("E303", f"{name} belongs to no known scheme", place=archive.place)
        path_in_image = f"{roots[scheme]}/{rest}"
        if path_in_image in items:
            raise AfenvError("E303", f"two files of the wheel go to {path_in_image}", place=archive.place)
        items[path_in_image] = (
            _script(archive, entry, executable)
            if scheme == "scripts"
            else Item(mode, entry.size, entry.crc32, entry)
        )
    entry_points = archive.read(f"{dist_info}/entry_points.txt")
    if entry_points is not None:
        for command in wheel_scripts.commands(_text(entry_points, archive.place), archive.place):
            items[f"{scripts}/{command.name}"] = _made(wheel_scripts.script(command, executable), 0o755)
    items[f"{site}/{dist_info}/INSTALLER"] = _made(INSTALLER)
    if wheel.requested:
        items[f"{site}/{dist_info}/REQUESTED"] = _made(b"")
    return OpenWheel(wheel, archive, dist_info, items, python)


def installed_paths(wheel: OpenWheel) -> dict[str, tuple[int, int]]:
    """Size and CRC-32 of what the wheel puts at each path, as owners are planned from."""
    return {path: (item.size, item.crc32) for path, item in wheel.items.items()}


def write_wheels(
    wheels: Sequence[LockedWheel],
    paths: Mapping[str, Path],
    python: LockedPython,
    writer: LayerWriter,
    *,
    compiler: Compiler | None,
    lost: Mapping[str, frozenset[str]],
    check: bool = True,
    done: Callable[[int], object] | None = None,
) -> None:
    """Write wheels, one after the other, each sorted by path.

    ``paths`` leads from the sha256 of a wheel to its file; ``lost`` is what
    :func:`afenv.layers.wheel_owners.plan_owners` said; with ``compiler``, bytecode is added. ``check``
    is as for :func:`open_wheel`. ``done`` hears the size of each archive when it is written. Raises
    E301, E303, E304, and E401 and E404 of the writer and the compiler.
    """
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        opened = open_wheel(wheel, paths[wheel.file.sha256], python, check=check)
        writer.package = wheel.name
        _write(opened, writer, _bytecode(opened, compiler), lost.get(wheel.name, frozenset()))
        if done is not None:
            done(wheel.file.size)


def _write(opened: OpenWheel, writer: LayerWriter, bytecode: Mapping[str, Pyc], lost: frozenset[str]) -> None:
    record = f"{opened.site}/{opened.dist_info}/RECORD"
    content = _record(opened, [pyc.path for pyc in bytecode.values()])
    members: dict[str, Item | Pyc] = {**opened.items, record: _made(content)}
    for source, pyc in bytecode.items():
        if source[1:] not in lost:
            members[pyc.path] = pyc
    held = 0
    for path in sorted(members.keys() - lost):
        member = members[path]
        if held > _HELD:
            opened.archive.forget()
            held = 0
        if isinstance(member, Pyc):
            member.write(writer)
        elif member.data is not None:
            writer.file(path, member.mode, member.data)
        else:
            assert member.entry is not None
            content_view = opened.archive.content(member.entry)
            held += len(content_view)
            if member.entry.method == STORED:
                _check_stored(content_view, member, path, opened.archive.place)
                writer.file(path, member.mode, content_view)
            else:
                writer.deflated(path, member.mode, member.size, member.crc32, content_view)


def _check_stored(content: memoryview, item: Item, path: str, place: str) -> None:
    if crc32_of(content) != item.crc32:
        raise AfenvError("E303", f"the content of {path} does not have its CRC-32", place=place)


def _bytecode(opened: OpenWheel, compiler: Compiler | None) -> Mapping[str, Pyc]:
    if compiler is None:
        return {}
    return compiler.compile(bytecode_name(opened.wheel, opened.python), _sources(opened))


def bytecode_name(wheel: LockedWheel, python: LockedPython) -> str:
    """What names the bytecode of a wheel in the compiler's cache."""
    return f"wheel:{wheel.file.sha256}:{python.site_packages}"


def _sources(opened: OpenWheel) -> Iterator[tuple[str, bytes]]:
    """The Python files among the packages, by absolute path in the image, sorted."""
    prefix = opened.site + "/"
    for path in sorted(opened.items):
        entry = opened.items[path].entry
        if path.startswith(prefix) and path.endswith(".py") and entry is not None:
            content = opened.archive.read(entry.name)
            assert content is not None
            yield "/" + path, content


def _dist_info(archive: ZipArchive, wheel: LockedWheel) -> str:
    """The one ``.dist-info`` folder, which must be that of the package."""
    found = {name.partition("/")[0] for name in archive.entries if ".dist-info/" in name}
    found = {name for name in found if name.endswith(".dist-info")}
    if len(found) != 1:
        raise AfenvError("E303", f"the wheel has {len(found)} .dist-info folders", place=archive.place)
    (folder,) = found
    name = _SEPARATORS.sub("-", folder.removesuffix(".dist-info").partition("-")[0]).lower()
    if name != _SEPARATORS.sub("-", wheel.name).lower():
        raise AfenvError("E303", f"the wheel of {wheel.name} holds {folder}", place=archive.place)
    return folder


def _check_version(archive: ZipArchive, dist_info: str) -> None:
    text = archive.read(f"{dist_info}/WHEEL")
    match = re.search(rb"^Wheel-Version:\s*(\d+)\.", text or b"", re.MULTILINE)
    if match is None or match[1] != b"1":
        raise AfenvError("E303", "it is not a wheel of version 1", place=archive.place)


def _roots(dist_info: str, site: str, scripts: str, version: str) -> dict[str, str]:
    """Where the schemes of a ``.data`` folder go, as on Debian for packages of the administrator."""
    prefix = posixpath.dirname(scripts)
    minor = ".".join(version.split(".")[:2])
    return {
        "purelib": site,
        "platlib": site,
        "scripts": scripts,
        "data": prefix,
        "headers": f"{prefix}/include/python{minor}/{dist_info.partition('-')[0]}",
    }


def _script(archive: ZipArchive, entry: ZipEntry, executable: str) -> Item:
    start = archive.content(entry)[:256]
    placeholder = wheel_scripts.PLACEHOLDER
    try:
        found = gzip_members.peek(start, len(placeholder), stored=entry.method == STORED)
    except gzip_members.BadStream as error:
        raise AfenvError("E303", f"{entry.name} is damaged: {error}", place=archive.place) from None
    if found != placeholder:
        return Item(0o755, entry.size, entry.crc32, entry)
    content = archive.read(entry.name)
    assert content is not None
    return _made(wheel_scripts.with_executable(content, executable), 0o755)


def _made(data: bytes, mode: int = 0o644) -> Item:
    return Item(mode, len(data), crc32_of(data), None, data)


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AfenvError("E303", "its metadata is not UTF-8", place=place) from None


def _record(opened: OpenWheel, pycs: Iterable[str]) -> bytes:
    """The ``RECORD`` of the installation: what the wheel's own said, and what was made."""
    archive, site, place = opened.archive, opened.site, opened.archive.place
    own = f"{opened.dist_info}/RECORD"
    raw = archive.read(own)
    if raw is None:
        raise AfenvError("E303", "the wheel has no RECORD", place=place)
    rows: dict[str, tuple[str, str]] = {}
    try:
        for row in csv.reader(_text(raw, place).splitlines()):
            if row:
                rows[row[0]] = (row[1], row[2]) if len(row) == 3 else ("", "")
    except csv.Error as error:
        raise AfenvError("E303", f"RECORD cannot be read: {error}", place=place) from None
    exempt = {own, *(f"{opened.dist_info}/{name}" for name in _SIGNATURES)}
    unlisted = archive.entries.keys() - rows.keys() - exempt
    missing = {name for name in rows.keys() - archive.entries.keys() - exempt if not name.endswith("/")}
    for names, what in ((unlisted, "does not list"), (missing, "lists, without its being there,")):
        if names:
            raise AfenvError("E303", f"RECORD {what} {min(names)}", place=place)
    lines = [(f"{opened.dist_info}/RECORD", "", "")]
    inside = len(site) + 1
    for path, item in opened.items.items():
        shown = path[inside:] if path.startswith(site + "/") else posixpath.relpath("/" + path, "/" + site)
        if item.entry is not None:
            lines.append((shown, *rows[item.entry.name]))
        else:
            assert item.data is not None
            code = base64.urlsafe_b64encode(hashlib.sha256(item.data).digest()).rstrip(b"=").decode()
            lines.append((shown, f"sha256={code}", str(item.size)))
    lines += [(path[inside:], "", "") for path in pycs]
    return "".join(f"{_quoted(path)},{code},{size}\n" for path, code, size in sorted(lines)).encode()


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if "," in field or '"' in field else field
