"""What the tests of layers share: a blob in memory, and wheels made on the spot."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import zstandard

from afenv.documents.lock import LockedConda, LockedFile, LockedPython, LockedWheel
from afenv.layers.writer import LayerWriter


class MemoryBlob:
    """A blob that is kept in memory, and counts how often it was written to."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.longest = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self.longest = max(self.longest, len(data))
        self.data += data
        return len(data)

    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()


class MadeLayer:
    """A layer writer whose result can be read back with the standard library."""

    def __init__(self, mtime: int = 315532800) -> None:
        self.blob = MemoryBlob()
        self.writer = LayerWriter(self.blob, mtime=mtime)
        self.written: Any = None

    def tar(self) -> bytes:
        """The uncompressed archive, checked against diff_id, digest and size."""
        if self.written is None:
            self.written = self.writer.finish()
        data = gzip.decompress(bytes(self.blob.data))
        assert self.written.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
        assert self.written.digest == self.blob.digest()
        assert self.written.size == self.blob.size
        return data

    def members(self) -> list[tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.tar()), mode="r:") as archive:
            return archive.getmembers()

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Mode and content of each file."""
        with tarfile.open(fileobj=io.BytesIO(self.tar()), mode="r:") as archive:
            return {
                member.name: (member.mode, archive.extractfile(member).read())  # type: ignore[union-attr]
                for member in archive
                if member.isfile()
            }


@pytest.fixture
def layer() -> MadeLayer:
    return MadeLayer()


@pytest.fixture
def new_layer() -> type[MadeLayer]:
    return MadeLayer


@pytest.fixture
def debian_python() -> LockedPython:
    return LockedPython(
        version="3.11.2",
        executable="/usr/bin/python3.11",
        site_packages="/usr/local/lib/python3.11/dist-packages",
        scripts="/usr/local/bin",
    )


class WheelMaker:
    """Makes small wheels in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        version: str = "1.0",
        executables: tuple[str, ...] = (),
        stored: tuple[str, ...] = (),
        entry_points: str | None = None,
        requested: bool = False,
        record: str | None = None,
        unlisted: tuple[str, ...] = (),
        wheel_version: str = "1.0",
    ) -> tuple[LockedWheel, Path]:
        """A wheel with these files besides its metadata; a name that ends in ``/`` is a folder entry."""
        stem = f"{name.replace('-', '_')}-{version}"
        info = f"{stem}.dist-info"
        files = dict(files)
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        files[f"{info}/WHEEL"] = (
            f"Wheel-Version: {wheel_version}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
        )
        if entry_points is not None:
            files[f"{info}/entry_points.txt"] = entry_points.encode()
        rows = [
            f"{_quoted(path)},sha256={_hash(data)},{len(data)}"
            for path, data in files.items()
            if path not in unlisted and not path.endswith("/")
        ]
        text = "\n".join([*rows, f"{info}/RECORD,,", ""]) if record is None else record
        files[f"{info}/RECORD"] = text.encode()
        path = self.folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in files.items():
                entry = zipfile.ZipInfo(member)
                entry.create_system = 3
                entry.external_attr = (0o100755 if member in executables else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_STORED if member in stored else zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
        return self.lock(name, version, path, requested=requested), path

    def lock(self, name: str, version: str, path: Path, *, requested: bool = False) -> LockedWheel:
        """The record of a wheel in a lock."""
        data = path.read_bytes()
        file = LockedFile(
            urls=(f"https://example.org/{path.name}",),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        return LockedWheel(name=name, version=version, file=file, requested=requested)


def _quoted(field: str) -> str:
    return f'"{field}"' if "," in field else field


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def make_wheel(tmp_path: Path) -> WheelMaker:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return WheelMaker(folder)


class CondaMaker:
    """Makes small conda packages in a folder, from a table of what they hold.

    A value of ``files`` is the content of a file, or ``("symlink", target)``, ``("hardlink", path)`` or
    ``("directory",)``. ``prefixes`` names the files with a prefix to replace: placeholder and mode.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        name: str,
        files: Mapping[str, Any],
        *,
        version: str = "1.0",
        build: str = "0",
        prefixes: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        executables: tuple[str, ...] = (),
        depends: tuple[str, ...] = (),
        noarch: str | None = None,
        entry_points: tuple[str, ...] = (),
        form: str = ".conda",
        old: bool = False,
        info: Mapping[str, bytes] = MappingProxyType({}),
        info_first: bool = True,
        edit: Callable[[dict[str, Any]], object] | None = None,
        record: Mapping[str, Any] = MappingProxyType({}),
        requested: bool = False,
    ) -> tuple[LockedConda, Path]:
        """The package. ``edit`` may change its ``paths.json``; ``old`` leaves that out."""
        subdir = "noarch" if noarch else "linux-64"
        index: dict[str, Any] = {"name": name, "version": version, "build": build, "build_number": 0}
        index |= {"depends": list(depends), "subdir": subdir, "arch": None, "platform": None}
        if noarch:
            index["noarch"] = noarch
        parts: dict[str, bytes] = {"index.json": json.dumps(index).encode()}
        if old:
            parts["files"] = "".join(f"{path}\n" for path in files).encode()
            if prefixes:
                lines = [f'"{old_}" {mode} "{path}"\n' for path, (old_, mode) in prefixes.items()]
                parts["has_prefix"] = "".join(lines).encode()
        else:
            value = {"paths_version": 1, "paths": [_entry(p, files, prefixes) for p in sorted(files)]}
            if edit is not None:
                edit(value)
            parts["paths.json"] = json.dumps(value).encode()
        if noarch == "python":
            link = {"type": "python", "entry_points": list(entry_points)}
            parts["link.json"] = json.dumps({"noarch": link, "package_metadata_version": 1}).encode()
        parts |= info
        members = [
            (f"info/{key}", content, 0o644) for key, content in sorted(parts.items()) if content is not None
        ]
        content = [(path, files[path], 0o775 if path in executables else 0o664) for path in files]
        stem = f"{name}-{version}-{build}"
        path = self.folder / f"{stem}{form}"
        if form == ".conda":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
                for part, listed in (("pkg", content), ("info", members)):
                    tar = zstandard.ZstdCompressor().compress(tar_of(listed))
                    archive.writestr(f"{part}-{stem}.tar.zst", tar)
        else:
            both = [*members, *content] if info_first else [*content, *members]
            path.write_bytes(bz2.compress(tar_of(both)))
        data = path.read_bytes()
        file = LockedFile(
            urls=(f"https://conda.example.org/test/{subdir}/{path.name}",),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        locked = LockedConda(
            name=name,
            version=version,
            build=build,
            build_number=0,
            channel="https://conda.example.org/test",
            subdir=subdir,
            file=file,
            noarch=noarch,
            depends=depends,
            record=dict(record),
            requested=requested,
        )
        return locked, path


def tar_of(members: list[tuple[str, Any, int]]) -> bytes:
    """A tar archive of ``(path, content, mode)``, the content as for :class:`CondaMaker`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content, mode in members:
            member = tarfile.TarInfo(path)
            member.mode = mode
            member.mtime = 1_600_000_000
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            kinds = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "directory": tarfile.DIRTYPE}
            member.type = kinds.get(content[0], content[0])
            member.linkname = content[1] if len(content) > 1 else ""
            archive.addfile(member)
    return stream.getvalue()


def _entry(path: str, files: Mapping[str, Any], prefixes: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    content = files[path]
    kind = content[0] if isinstance(content, tuple) else "hardlink"
    kind = {"symlink": "softlink"}.get(kind, kind)
    while isinstance(content, tuple) and content[0] == "hardlink":
        content = files[content[1]]
    data = content if isinstance(content, bytes) else b""
    entry: dict[str, Any] = {"_path": path, "path_type": kind}
    if kind != "directory":
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
    if path in prefixes:
        entry["prefix_placeholder"], entry["file_mode"] = prefixes[path]
    return entry


@pytest.fixture
def make_conda(tmp_path: Path) -> CondaMaker:
    folder = tmp_path / "conda"
    folder.mkdir()
    return CondaMaker(folder)
