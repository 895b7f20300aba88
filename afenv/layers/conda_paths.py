"""What a conda package installs, by its own metadata: pure functions of their bytes.

Sources: conda's and rattler's documentation of ``info/paths.json`` (version 1), ``info/link.json``,
``info/index.json``, and of the files ``info/files``, ``info/has_prefix`` and ``info/no_link`` that came
before ``paths.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

from afenv.documents.lock import LockedConda
from afenv.errors import AfenvError
from afenv.layers.conda_prefix import DEFAULT_PLACEHOLDER
from afenv.layers.deb_tar import inner_path

PathType = Literal["hardlink", "softlink", "directory"]

_TYPES = frozenset(("hardlink", "softlink", "directory"))
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ONE = re.compile(r"""(?:"(?P<path>[^"]+)"|'(?P<path1>[^']+)'|(?P<path2>\S+))""")
_THREE = re.compile(
    r"""(?:"(?P<old>[^"]+)"|'(?P<old1>[^']+)'|(?P<old2>\S+))\s+(?P<mode>text|binary)\s+"""
    r"""(?:"(?P<path>[^"]+)"|'(?P<path1>[^']+)'|(?P<path2>\S.*))"""
)
_COMMAND = re.compile(r"[^\s/\0](?:[^/\0\n]*[^\s/\0])?")
_REFERENCE = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<function>\w+(?:\.\w+)*)")


class PathEntry(NamedTuple):
    """One path of a package. ``placeholder`` is the prefix to replace, empty for none.

    ``kind`` is None where the metadata do not tell; ``sha256`` (hexadecimal) and ``size`` (bytes) are
    those before the replacement, None where they are not recorded.
    """

    path: str
    kind: PathType | None
    sha256: str | None = None
    size: int | None = None
    placeholder: str = ""
    binary: bool = False
    no_link: bool = False


class EntryPoint(NamedTuple):
    """A command of a ``noarch: python`` package."""

    command: str
    module: str
    function: str


@dataclass(frozen=True, slots=True)
class CondaInfo:
    """The metadata of a package: its paths in their order, and the commands that are made for it."""

    paths: Mapping[str, PathEntry]
    entry_points: tuple[EntryPoint, ...]
    noarch_python: bool


def read_info(package: LockedConda, info: Mapping[str, bytes], place: str) -> CondaInfo:
    """The metadata of ``package`` from its files below ``info/``; raises E303 and E304."""
    index = _object(info["index.json"], "index.json", place)
    found = tuple(str(index.get(key)) for key in ("name", "version", "build"))
    if found != (package.name, package.version, package.build):
        mine = " ".join((package.name, package.version, package.build))
        _bad(place, f"the package says that it is {' '.join(found)}, the lock that it is {mine}")
    if "paths.json" in info:
        paths = _paths(_object(info["paths.json"], "paths.json", place), place)
    elif "files" in info:
        paths = _old_paths(info, place)
    else:
        _bad(place, "the package has neither info/paths.json nor info/files")
    noarch_python = index.get("noarch") == "python"
    entry_points: tuple[EntryPoint, ...] = ()
    if "link.json" in info:
        link = _object(info["link.json"], "link.json", place).get("noarch")
        if isinstance(link, dict) and link.get("type") == "python":
            noarch_python = True
            entry_points = tuple(_entry_point(text, place) for text in link.get("entry_points") or ())
    return CondaInfo(paths, entry_points, noarch_python)


def _bad(place: str, message: str) -> NoReturn:
    raise AfenvError("E303", message, place=place)


def _object(data: bytes, name: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        _bad(place, f"info/{name} is not JSON")
    if not isinstance(value, dict):
        _bad(place, f"info/{name} is not an object")
    return value


def _paths(value: dict[str, Any], place: str) -> dict[str, PathEntry]:
    version, entries = value.get("paths_version"), value.get("paths")
    if version != 1 or not isinstance(entries, list):
        _bad(place, "info/paths.json is not of version 1")
    found: dict[str, PathEntry] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            _bad(place, "info/paths.json has an entry that is not an object")
        path, kind = entry.get("_path"), entry.get("path_type")
        sha256, size = entry.get("sha256"), entry.get("size_in_bytes")
        placeholder, mode = entry.get("prefix_placeholder") or "", entry.get("file_mode")
        if (
            not isinstance(path, str)
            or kind not in _TYPES
            or not (sha256 is None or (isinstance(sha256, str) and _SHA256.match(sha256)))
            or not (size is None or (type(size) is int and size >= 0))
            or not isinstance(placeholder, str)
            or not (mode in ("text", "binary") or (mode is None and not placeholder))
        ):
            _bad(place, f"info/paths.json has an entry that is not as it has to be: {path!r}")
        _check_path(path, found, "paths.json", place)
        no_link = bool(entry.get("no_link"))
        found[path] = PathEntry(path, kind, sha256, size, placeholder, mode == "binary", no_link)
    return found


def _check_path(path: str, found: Mapping[str, PathEntry], name: str, place: str) -> None:
    if not path or path[0] in "/." or "/." in path or "//" in path or path[-1] == "/" or "\0" in path:
        inner = inner_path(path, place)
        if inner != path or not inner:
            _bad(place, f"info/{name} names {path!r}, which is not in its normal form")
    if path in found:
        _bad(place, f"info/{name} names {path!r} twice")
    try:
        path.encode()
    except UnicodeEncodeError:
        _bad(place, f"info/{name} names {path!r}, which is not text")


def _lines(data: bytes, name: str, place: str) -> list[str]:
    try:
        return [line for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        _bad(place, f"info/{name} is not UTF-8")


def _old_paths(info: Mapping[str, bytes], place: str) -> dict[str, PathEntry]:
    placeholders: dict[str, tuple[str, bool]] = {}
    for line in _lines(info.get("has_prefix", b""), "has_prefix", place):
        match = _THREE.fullmatch(line.strip())
        if match is not None:
            old = match["old"] or match["old1"] or match["old2"]
            path = match["path"] or match["path1"] or match["path2"]
            placeholders[path] = old, match["mode"] == "binary"
            continue
        match = _ONE.fullmatch(line.strip())
        if match is None:
            _bad(place, f"info/has_prefix has the line {line!r}")
        placeholders[match["path"] or match["path1"] or match["path2"]] = DEFAULT_PLACEHOLDER, False
    no_link = frozenset(_lines(info.get("no_link", b""), "no_link", place))
    found: dict[str, PathEntry] = {}
    for path in _lines(info["files"], "files", place):
        _check_path(path, found, "files", place)
        placeholder, binary = placeholders.pop(path, ("", False))
        found[path] = PathEntry(path, None, None, None, placeholder, binary, path in no_link)
    if placeholders:
        _bad(place, f"info/has_prefix names {min(placeholders)!r}, which info/files does not")
    return found


def _entry_point(text: Any, place: str) -> EntryPoint:
    if not isinstance(text, str):
        _bad(place, f"the entry point {text!r} names no function")
    command, _, reference = (part.strip() for part in text.partition("="))
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        _bad(place, f"the entry point {text!r} names no function")
    if not _COMMAND.fullmatch(command) or command in (".", ".."):
        raise AfenvError("E304", f"the entry point {text!r} is not a file name", place=place)
    return EntryPoint(command, match["module"], match["function"])
