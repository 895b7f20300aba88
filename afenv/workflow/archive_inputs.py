"""Every byte that the lock of an environment names, as items of a bag.

They lie as their own tools expect them: Debian packages as a partial mirror with its signed index, conda
packages as channels with ``repodata.json``, wheels as a folder that ``pip --find-links`` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from afenv import canonical
from afenv.archive.items import Item, of_blob, of_bytes
from afenv.archive.names import safe_part
from afenv.documents.lock import Lock, LockedConda, LockedEnvironment, LockedFile, LockedWheel
from afenv.record import record
from afenv.store.fetch import Fetcher
from afenv.workflow.project import Project

DEBIAN, CONDA, PYPI, BASE = "inputs/debian", "inputs/conda", "inputs/pypi", "inputs/base"


@record
class Input:
    """A file that the lock names: where it goes in the bag, and what it is."""

    path: str
    file: LockedFile
    about: str
    package: str = ""  # such as pypi:nvidia-cublas-cu12


class Taken:
    """Which path has which content: what is there already stays, and another content gets another path."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.paths: dict[str, str] = {}

    def path(self, path: str, sha256: str, *, again: bool = False) -> str | None:
        """The path for a content; None if the bag has that content already, ``again`` if it has it there."""
        if self.paths.get(path) == sha256 or (sha256 in self.digests and not again):
            return None
        if path in self.paths:
            top, _, rest = path.partition("/")
            path = f"{top}/other-{sha256[:8]}/{rest}"
        self.digests.setdefault(sha256, path)
        self.paths[path] = sha256
        return path


def environment_inputs(environment: LockedEnvironment) -> Iterator[Input]:
    """The packages of an environment, with what is needed to build those that are built from source."""
    for deb in environment.debs:
        yield Input(
            path=_deb_path(deb.file),
            file=deb.file,
            about=f"Debian package {deb.name} {deb.version}",
            package=f"debian:{deb.name}",
        )
    for package in environment.conda:
        name = f"{package.name}-{package.version}-{package.build}"
        yield Input(
            path=f"{channel_folder(package)}/{safe_part(unquote(package.file.file_name))}",
            file=package.file,
            about=f"conda package {name}",
            package=f"conda:{package.name}",
        )
    for wheel in environment.wheels:
        yield from _wheel_inputs(wheel)


def _wheel_inputs(wheel: LockedWheel) -> Iterator[Input]:
    title = f"{wheel.name} {wheel.version}"
    name = f"pypi:{wheel.name}"
    path = f"{PYPI}/{_file_name(wheel.file)}"
    if wheel.built_from is None:
        yield Input(path=path, file=wheel.file, about=f"wheel of {title}", package=name)
        return
    yield Input(path=path, file=wheel.file, about=f"wheel of {title}, built from source", package=name)
    source = wheel.built_from.file
    yield Input(
        path=f"{PYPI}/source/{_file_name(source)}",
        file=source,
        about=f"source archive of {title}",
        package=name,
    )
    for needed in wheel.built_from.requires:
        yield Input(
            path=f"{PYPI}/build/{_file_name(needed.file)}",
            file=needed.file,
            about=f"wheel of {needed.name} {needed.version}, which building {wheel.name} needs",
            package=f"pypi:{needed.name}",
        )


def _file_name(file: LockedFile) -> str:
    return safe_part(unquote(file.file_name))


def _deb_path(file: LockedFile) -> str:
    path = unquote(urlsplit(file.urls[0]).path)
    before, pool, rest = path.partition("/pool/")
    if not pool:
        return f"{DEBIAN}/packages/{_file_name(file)}"
    archive = re.sub(r"/\d{8}T\d{6}Z\Z", "", before).rpartition("/")[2] or "debian"
    parts = [safe_part(part) for part in rest.split("/")]
    return f"{DEBIAN}/{safe_part(archive)}/pool/{'/'.join(parts)}"


def channel_folder(package: LockedConda) -> str:
    """The folder of a package's channel and platform in the bag."""
    return f"{CONDA}/{channel_name(package.channel)}/{safe_part(package.subdir)}"


def channel_name(channel: str) -> str:
    """A channel as the name of a folder."""
    text = re.sub(r"\A[a-z]+://", "", channel).strip("/.")
    return safe_part(text.replace("/", "_")) or "channel"


def bring_inputs(project: Project, lock: Lock, names: Iterable[str]) -> list[Input]:
    """All packages of some environments, each content once, brought into the store.

    The errors of downloading, and those of building what is built from source.
    """
    from afenv.workflow.base import ensure_base

    found: list[Input] = []
    for name in names:
        environment = lock.environments[name]
        if any(wheel.built_from is not None for wheel in environment.wheels):
            from afenv.workflow.sdists import ensure_built

            ensure_built(project, environment)
        if environment.base is not None:
            ensure_base(project, environment.base, environment.platform, made_by=environment.builder)
        found += environment_inputs(environment)
    fetcher = Fetcher(project.store, project.settings, quiet=project.quiet)
    files = {
        one.file.digest: one.file
        for one in found
        if not project.store.trusted(one.file.digest, one.file.size)
    }
    if files:
        fetcher.files(list(files.values()), title="Downloading what the image was built from")
    return found


def input_items(project: Project, inputs: Iterable[Input], taken: Taken) -> Iterator[Item]:
    """The items of packages, each content once."""
    for one in inputs:
        path = taken.path(one.path, one.file.sha256)
        if path is not None:
            yield of_blob(path, project.store, one.file.digest, "inputs", one.about)


def base_items(
    project: Project, environment: LockedEnvironment, taken: Taken, layers: Iterable[str]
) -> Iterator[Item]:
    """The blobs of a base image, save the layers that the image (of those ``layers``) has itself."""
    base = environment.base
    if base is None:
        return
    here = set(layers)
    blobs = [(base.digest, "manifest of"), (base.config, "config of")]
    blobs += [(layer.digest, "layer of") for layer in base.layers if layer.digest not in here]
    for digest, what in blobs:
        sha256 = digest.removeprefix("sha256:")
        path = taken.path(f"{BASE}/blobs/sha256/{sha256}", sha256)
        if path is not None:
            about = f"{what} the base image {base.reference}"
            yield of_blob(path, project.store, digest, "inputs", about)


def index_items(project: Project, environment: LockedEnvironment, taken: Taken) -> Iterator[Item]:
    """The signed indexes of Debian packages, the lists that these name, and the keys; E104, E732."""
    if not environment.indexes:
        return
    from afenv.resolve.debian.kept import archive_of, packages_file, signed_index
    from afenv.resolve.debian.release import KEYS, trusted_keys

    fetcher = Fetcher(project.store, project.settings, quiet=project.quiet)
    as_of = datetime.fromisoformat(environment.as_of)
    architecture = environment.platform.split("/")[1]
    for index in environment.indexes:
        data = signed_index(index, as_of, fetcher, project.store)
        path, file = packages_file(data, index, architecture, as_of, trusted_keys())
        fetcher.file(file, title=f"package list of {index.suite}")
        folder = f"{DEBIAN}/{safe_part(archive_of(index).archive)}/dists/{safe_part(index.suite)}"
        about = f"signed index of {index.suite} of {index.date}"
        place = taken.path(f"{folder}/InRelease", index.sha256, again=True)
        if place is not None:
            yield of_blob(place, project.store, "sha256:" + index.sha256, "inputs", about)
        place = taken.path(f"{folder}/{path}", file.sha256, again=True)
        if place is not None:
            yield of_blob(place, project.store, file.digest, "inputs", f"package list of {index.suite}")
    for key in sorted(KEYS.glob("*.asc")):
        item = of_bytes(
            f"{DEBIAN}/keys/{safe_part(key.name)}", key.read_bytes(), "inputs", "key of Debian's archive"
        )
        if taken.path(item.path, item.sha256) == item.path:
            yield item


def repodata_items(lock: Lock, names: Iterable[str], taken: Taken) -> Iterator[Item]:
    """``repodata.json`` (CEP 36) of each channel and platform, with the records of the packages here."""
    folders: dict[str, dict[str, LockedConda]] = {}
    for name in names:
        for package in lock.environments[name].conda:
            path = taken.digests.get(package.file.sha256, "")
            folder, _, file_name = path.rpartition("/")
            if path.startswith(CONDA + "/"):
                folders.setdefault(folder, {})[file_name] = package
    for folder in sorted(folders):
        packages: dict[str, dict[str, object]] = {"packages": {}, "packages.conda": {}}
        for file_name, package in folders[folder].items():
            kind = "packages.conda" if file_name.endswith(".conda") else "packages"
            packages[kind][file_name] = _record(package)
        subdir = next(iter(folders[folder].values())).subdir
        value = {"info": {"subdir": subdir}, "repodata_version": 1, **packages}
        item = of_bytes(
            f"{folder}/repodata.json",
            canonical.indented(value),
            "inputs",
            "records of the conda packages here",
        )
        taken.path(item.path, item.sha256)
        yield item
    for channel in sorted({folder.rpartition("/")[0] for folder in folders}):
        if f"{channel}/noarch" not in folders:  # every channel has one, as conda sees it
            value = {
                "info": {"subdir": "noarch"},
                "repodata_version": 1,
                "packages": {},
                "packages.conda": {},
            }
            item = of_bytes(
                f"{channel}/noarch/repodata.json", canonical.indented(value), "inputs", "no packages"
            )
            if item.path not in taken.paths:
                taken.paths[item.path] = item.sha256
                yield item


def _record(package: LockedConda) -> dict[str, object]:
    value: dict[str, object] = {
        **package.record,
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "subdir": package.subdir,
        "depends": list(package.depends),
        "size": package.file.size,
        "sha256": package.file.sha256,
    }
    if package.md5:
        value["md5"] = package.md5
    if package.noarch:
        value["noarch"] = package.noarch
    if package.constrains:
        value["constrains"] = list(package.constrains)
    return value


def project_files(project: Project, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The files that the manifest refers to for some environments, by names relative to it."""
    from afenv.documents.load import load_manifest_cached
    from afenv.documents.request import request_files

    manifest = load_manifest_cached(project.manifest_path, project.store)
    seen = set()
    for name in names:
        for path in request_files(manifest, name, project.folder):
            relative = (
                path.absolute().relative_to(project.folder) if path.is_relative_to(project.folder) else None
            )
            if relative is not None and relative not in seen:
                seen.add(relative)
                yield str(relative), path
