"""Conda packages as values, and how one is written.

The formats are those of conda's package specification: ``info/`` (index, paths, about, link, files,
has_prefix), the outer zip of ``.conda`` and the ``.tar.bz2`` before it. Equal values give equal bytes:
times are fixed, members sorted, compressors run with one thread and a fixed level.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import posixpath
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

TIME = 1735689600  # 2025-01-01T00:00:00Z, in seconds
PLACEHOLDER = ("/channel/build/environment_placehold" + "_placehold" * 30)[:255]
OLD_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"  # what has_prefix means when it has one column
LEVEL = 9
NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A path of a package: a file, a symbolic or hard link (``target``), or an empty folder.

    ``prefix`` is ``text`` or ``binary`` where the content holds ``placeholder``. A folder that is not
    ``listed`` is in the archive and not in ``paths.json``.
    """

    path: str
    content: bytes = b""
    kind: str = "file"  # file, symlink, hardlink, directory
    target: str = ""
    mode: int = 0o644
    prefix: str | None = None
    placeholder: str = PLACEHOLDER
    no_link: bool = False
    listed: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A conda package; ``old`` leaves out what packages before 2017 did not have (``paths.json``)."""

    name: str
    version: str
    build: str = "0"
    build_number: int = 0
    subdir: str = "noarch"
    noarch: str | None = None
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    track_features: str = ""
    entry_points: tuple[str, ...] = ()
    license: str = "BSD-3-Clause"
    summary: str = "a package of the test channel"
    timestamp: int = TIME
    files: tuple[File, ...] = ()
    info: Mapping[str, bytes] = field(default_factory=dict)  # replaces files of info/
    extension: str = ".conda"
    old: bool = False
    ids: tuple[int, int] = (0, 0)  # owner and group in the archive

    @property
    def stem(self) -> str:
        """Name, version and build, as the file is called."""
        return f"{self.name}-{self.version}-{self.build}"

    def index(self) -> dict[str, Any]:
        """``info/index.json``."""
        index: dict[str, Any] = {
            "arch": "x86_64" if self.subdir == "linux-64" else None,
            "build": self.build,
            "build_number": self.build_number,
            "depends": list(self.depends),
            "license": self.license,
            "name": self.name,
            "platform": "linux" if self.subdir == "linux-64" else None,
            "subdir": self.subdir,
            "timestamp": self.timestamp * 1000,
            "version": self.version,
        }
        if self.constrains:
            index["constrains"] = list(self.constrains)
        if self.track_features:
            index["track_features"] = self.track_features
        if self.noarch:
            index["noarch"] = self.noarch
        return index


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _content(package: Package, file: File, depth: int = 0) -> bytes | None:
    """What reading the path gives, through links that stay in the package; None if nothing."""
    if file.kind == "file":
        return file.content
    if file.kind == "directory" or depth > 8:
        return None
    at = file.target
    if file.kind == "symlink":
        at = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.target))
    found = next((other for other in package.files if other.path == at), None)
    return _content(package, found, depth + 1) if found else None


def paths_json(package: Package) -> dict[str, Any]:
    """``info/paths.json``."""
    paths = []
    for file in sorted(package.files, key=lambda file: file.path):
        if not file.listed:
            continue
        if file.kind == "directory":
            paths.append({"_path": file.path, "path_type": "directory"})
            continue
        content = _content(package, file)
        link = file.kind == "symlink"
        entry: dict[str, Any] = {
            "_path": file.path,
            "path_type": "softlink" if link else "hardlink",
            "sha256": NOTHING if content is None else hashlib.sha256(content).hexdigest(),
            "size_in_bytes": 0 if link or content is None else len(content),
        }
        if file.prefix:
            entry |= {"file_mode": file.prefix, "prefix_placeholder": file.placeholder}
        if file.no_link:
            entry["no_link"] = True
        paths.append(entry)
    return {"paths": paths, "paths_version": 1}


def _has_prefix(package: Package) -> bytes:
    lines = []
    for file in sorted(package.files, key=lambda file: file.path):
        if file.prefix and package.old and file.placeholder == OLD_PLACEHOLDER and " " not in file.path:
            lines.append(file.path)
        elif file.prefix:
            lines.append(f'"{file.placeholder}" {file.prefix} "{file.path}"')
    return "".join(line + "\n" for line in lines).encode()


def info_files(package: Package) -> dict[str, bytes]:
    """The files below ``info/``."""
    listed = sorted(file.path for file in package.files if file.listed and file.kind != "directory")
    info = {
        "index.json": _json(package.index()),
        "files": "".join(path + "\n" for path in listed).encode(),
        "about.json": _json({"license": package.license, "summary": package.summary}),
    }
    if not package.old:
        info["paths.json"] = _json(paths_json(package))
    if has_prefix := _has_prefix(package):
        info["has_prefix"] = has_prefix
    if package.noarch == "python":
        noarch = {"type": "python", "entry_points": list(package.entry_points)}
        info["link.json"] = _json({"noarch": noarch, "package_metadata_version": 1})
    return info | dict(package.info)


def _members(package: Package, files: Iterable[File]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    # a hard link comes after the file that it is a second name of
    for file in sorted(files, key=lambda file: (file.kind == "hardlink", file.path)):
        member = tarfile.TarInfo(file.path)
        member.mtime = package.timestamp
        member.mode = file.mode
        member.uid, member.gid = package.ids
        if file.kind == "symlink":
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, file.target, 0o777
        elif file.kind == "hardlink":
            member.type, member.linkname = tarfile.LNKTYPE, file.target
        elif file.kind == "directory":
            member.type, member.mode = tarfile.DIRTYPE, file.mode | 0o111
        else:
            member.size = len(file.content)
        yield member, file.content if file.kind == "file" else b""


def _tar(package: Package, files: Iterable[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in _members(package, files):
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive(package: Package) -> bytes:
    """The package's archive."""
    info = [File(path=f"info/{name}", content=content) for name, content in info_files(package).items()]
    if package.extension == ".tar.bz2":
        return bz2.compress(_tar(package, [*info, *package.files]), 9)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as outer:
        for name, content in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{package.stem}.tar.zst", _zstd(_tar(package, package.files))),
            (f"info-{package.stem}.tar.zst", _zstd(_tar(package, info))),
        ):
            member = zipfile.ZipInfo(name)  # with the time 1980-01-01
            member.external_attr = 0o644 << 16
            outer.writestr(member, content)
    return buffer.getvalue()


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


def write_package(package: Package, channel: Path) -> tuple[str, dict[str, Any]]:
    """Put the archive into its subdir of the channel; its file name and repodata record."""
    data = archive(package)
    name = package.stem + package.extension
    (channel / package.subdir).mkdir(parents=True, exist_ok=True)
    (channel / package.subdir / name).write_bytes(data)
    record = package.index() | {
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    return name, record


def write_repodata(channel: Path, subdir: str, records: Mapping[str, Mapping[str, Any]]) -> None:
    """``repodata.json`` and ``repodata.json.zst`` of one subdir."""
    ordered = dict(sorted(records.items()))
    repodata = {
        "info": {"subdir": subdir},
        "packages": {name: record for name, record in ordered.items() if name.endswith(".tar.bz2")},
        "packages.conda": {name: record for name, record in ordered.items() if name.endswith(".conda")},
        "removed": [],
        "repodata_version": 1,
    }
    folder = channel / subdir
    folder.mkdir(parents=True, exist_ok=True)
    data = _json(repodata)
    (folder / "repodata.json").write_bytes(data)
    (folder / "repodata.json.zst").write_bytes(_zstd(data))
