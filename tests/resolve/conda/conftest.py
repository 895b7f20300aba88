"""A conda channel that a test fills, in a folder or served, and what every resolving needs."""

from __future__ import annotations

import bz2
import contextlib
import functools
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard

from afenv.documents.manifest import CondaSection
from afenv.errors import AfenvError
from afenv.resolve.conda.resolver import CondaResult, resolve_conda
from afenv.settings import Settings
from afenv.store.content import ContentStore

AS_OF = datetime(2025, 1, 1, tzinfo=UTC)
OLD = 1_700_000_000_000  # November 2023, in milliseconds
NEW = 1_750_000_000_000  # June 2025


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(index: Mapping[str, Any], files: Mapping[str, bytes], form: str) -> bytes:
    """A package in the form ``.conda`` or ``.tar.bz2``."""
    paths = [
        {
            "_path": name,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        for name, content in files.items()
    ]
    info = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
        "info/files": "".join(name + "\n" for name in files).encode(),
    }
    if form == ".tar.bz2":
        return bz2.compress(_tar({**info, **files}))
    buffer = io.BytesIO()
    stem = f"{index['name']}-{index['version']}-{index['build']}"
    pack = zstandard.ZstdCompressor().compress
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("metadata.json"), '{"conda_pkg_format_version": 2}')
        archive.writestr(zipfile.ZipInfo(f"pkg-{stem}.tar.zst"), pack(_tar(files)))
        archive.writestr(zipfile.ZipInfo(f"info-{stem}.tar.zst"), pack(_tar(info)))
    return buffer.getvalue()


class Channel:
    """A channel in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for subdir in ("linux-64", "noarch"):
            (folder / subdir).mkdir(parents=True)
            self._write(subdir, {})

    def _write(self, subdir: str, packages: Mapping[str, Mapping[str, Any]]) -> None:
        data = {
            "info": {"subdir": subdir},
            "packages": {name: value for name, value in packages.items() if name.endswith(".bz2")},
            "packages.conda": {name: value for name, value in packages.items() if name.endswith(".conda")},
            "repodata_version": 1,
        }
        (self.folder / subdir / "repodata.json").write_text(json.dumps(data, sort_keys=True))

    def _read(self, subdir: str) -> dict[str, Any]:
        data = json.loads((self.folder / subdir / "repodata.json").read_bytes())
        return {**data["packages"], **data["packages.conda"]}

    def add(
        self,
        name: str,
        version: str,
        depends: Sequence[str] = (),
        *,
        build: str = "0",
        number: int = 0,
        constrains: Sequence[str] = (),
        noarch: str | None = None,
        timestamp: int | None = OLD,
        files: Mapping[str, bytes] | None = None,
        form: str = ".conda",
        hidden: Sequence[str] = (),
        **more: Any,
    ) -> Path:
        """Add a package; the index does not tell its fields that are ``hidden``."""
        subdir = "noarch" if noarch else "linux-64"
        index: dict[str, Any] = {
            "name": name,
            "version": version,
            "build": build,
            "build_number": number,
            "depends": list(depends),
            "subdir": subdir,
            **({"constrains": list(constrains)} if constrains else {}),
            **({"noarch": noarch} if noarch else {}),
            **({"timestamp": timestamp} if timestamp else {}),
            **more,
        }
        content = archive_of(index, files or {}, form)
        file = f"{name}-{version}-{build}{form}"
        path = self.folder / subdir / file
        path.write_bytes(content)
        record = index | {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content).hexdigest(),
        }
        packages = self._read(subdir)
        packages[file] = {key: value for key, value in record.items() if key not in hidden}
        self._write(subdir, packages)
        return path

    def remove(self, file: str) -> None:
        """Take a package out of the index; its archive stays."""
        for subdir in ("linux-64", "noarch"):
            packages = self._read(subdir)
            packages.pop(file, None)
            self._write(subdir, packages)

    def python(self, *versions: str) -> None:
        """Add versions of Python."""
        for version in versions:
            minor = ".".join(version.split(".")[:2])
            self.add("python", version, ["__glibc >=2.17", "libz"], files={f"bin/python{minor}": b"ELF"})
        self.add("libz", "1.3")


class Project:
    """A folder with a channel, and the resolver's other arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.channel = Channel(folder / "channel")
        self.settings = Settings(cache_folder=folder / "cache")
        self.store = ContentStore(self.settings.cache_folder)

    def resolve(
        self,
        *dependencies: str,
        channels: Sequence[str] = ("./channel",),
        glibc: tuple[int, int] = (2, 36),
        cuda: str | None = None,
        virtual: Mapping[str, str] | None = None,
        as_of: datetime = AS_OF,
        section: CondaSection | None = None,
        settings: Settings | None = None,
        **more: Any,
    ) -> CondaResult:
        section = section or CondaSection(
            channels=tuple(channels), dependencies=dependencies, virtual_packages=virtual or {}
        )
        return resolve_conda(
            section,
            self.folder,
            "linux/amd64",
            glibc,
            cuda,
            as_of,
            settings=settings or self.settings,
            store=self.store,
            quiet=True,
            base="the base bookworm",
            **more,
        )

    def chosen(self, *dependencies: str, **more: Any) -> dict[str, str]:
        """Version and build of what is chosen, by name."""
        found = self.resolve(*dependencies, **more).records
        return {package.name: f"{package.version} {package.build}" for package in found}

    def fails(self, code: str, *dependencies: str, **more: Any) -> str:
        """What the error of that code says, with its remedy."""
        with pytest.raises(AfenvError) as caught:
            self.resolve(*dependencies, **more)
        assert caught.value.code == code, str(caught.value)
        return str(caught.value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with an empty channel."""
    return Project(tmp_path)


@pytest.fixture
def physics(project: Project) -> Project:
    """A project whose channel has a few packages."""
    channel = project.channel
    channel.python("3.11.9", "3.12.3")
    channel.add("numpy", "2.0", ["python >=3.12,<3.13"], build="py312_0")
    channel.add("numpy", "1.26", ["python >=3.11,<3.12"], build="py311_0", form=".tar.bz2")
    channel.add("root", "6.32", ["numpy <2", "python"])
    channel.add("hist", "2.7", ["python >=3.8", "numpy"], noarch="python", license="BSD-3-Clause")
    channel.add("fonts", "1", noarch="generic")
    return project


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def _serve(folder: Path) -> Iterator[str]:
    """Serve a folder; unlike ``http_server`` this answers to HEAD."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(project: Project) -> Iterator[str]:
    """The URL of the project's channel, served."""
    with _serve(project.channel.folder) as url:
        yield url


class Index:
    """A Python package index (PEP 503) in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, version: str, requires: Sequence[str] = ()) -> str:
        """Publish a wheel; its file name."""
        module = name.replace("-", "_")
        file, info = f"{module}-{version}-py3-none-any.whl", f"{module}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{module}.py"), f"version = {version!r}\n")
            archive.writestr(zipfile.ZipInfo(f"{info}/METADATA"), metadata)
            archive.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
        page = self.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        (page.parent / file).write_bytes(content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        before = page.read_text() if page.exists() else "<!DOCTYPE html>\n"
        page.write_text(f'{before}<a href="{file}#sha256={digest}">{file}</a>\n')
        return file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A Python package index, which uv is told to use."""
    made = Index(tmp_path / "pypi")
    (made.folder / "simple").mkdir(parents=True)
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)
    with _serve(made.folder) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", url + "/simple")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("AFENV_PYPI_UPLOAD_TIMES", "ignore")
        yield made


@pytest.fixture
def make_channel(tmp_path: Path) -> Callable[[str], Channel]:
    """Makes another channel in a folder of that name."""
    return lambda name: Channel(tmp_path / name)
