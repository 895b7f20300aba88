"""What the tests of layers share: a blob in memory, and wheels made on the spot."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedFile, LockedPython, LockedWheel
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
