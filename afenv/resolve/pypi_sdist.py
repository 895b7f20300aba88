"""Source archives of PyPI packages: which one is taken, how it wants to be built, and a wheel's fixed form.

Sources: PEP 691 (index as JSON), PEP 700 (upload times), PEP 517 and 518 (build systems), PEP 427 (wheels).
"""

from __future__ import annotations

import io
import json
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from afenv.errors import AfenvError
from afenv.resolve.pypi_target import Target

ACCEPT = "application/vnd.pypi.simple.v1+json"
LEGACY = ("setuptools.build_meta:__legacy__", ("setuptools>=40.8.0",))  # PEP 517: without a build system
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """A source archive in an index; ``sha256`` in hexadecimal."""

    name: str  # normalised
    version: str
    url: str
    sha256: str
    size: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSystem:
    """What a pyproject.toml says in ``build-system``, or what holds without it."""

    backend: str
    requires: tuple[str, ...]
    path: tuple[str, ...] = ()


def choose_sdist(
    page: bytes, url: str, name: str, requirements: Sequence[str], target: Target, as_of: datetime
) -> Sdist | None:
    """The newest source archive that fits the requirements; None if a wheel does as well.

    ``page`` is what the index has at ``url`` (PEP 691). Files that were uploaded after ``as_of`` do not
    exist, and a yanked one is not taken. E101 if there is none, E202 if the page cannot be read.
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        files: list[dict[str, Any]] = json.loads(page)["files"]
    except (ValueError, KeyError, TypeError):
        raise AfenvError("E202", "the package index did not answer in JSON (PEP 691)", place=url) from None
    wanted = SpecifierSet(",".join(str(Requirement(text).specifier) for text in requirements))
    tags = set(target.tags())
    sdists, wheels = {}, set()
    for file in files:
        if file.get("yanked") or not _is_older(file.get("upload-time"), as_of):
            continue
        try:
            if file["filename"].endswith(".whl"):
                _, version, _, offered = parse_wheel_filename(file["filename"])
                if tags & offered:
                    wheels.add(version)
                continue
            version = parse_sdist_filename(file["filename"])[1]
        except (InvalidSdistFilename, InvalidWheelFilename):
            continue
        python = file.get("requires-python")
        if file["filename"].endswith(".tar.gz") and (not python or target.python in SpecifierSet(python)):
            sdists[version] = file
    fitting = list(wanted.filter(sdists))
    if not fitting:
        raise AfenvError("E101", f"there is no source archive of {name} that fits {wanted or 'the Python'}")
    version = max(fitting)
    if any(wheel >= version for wheel in wanted.filter(wheels)):
        return None
    file = sdists[version]
    sha256 = str(file.get("hashes", {}).get("sha256", ""))
    if len(sha256) != 64:
        raise AfenvError("E202", f"the package index gives no sha256 of {file['filename']}", place=url)
    size = file.get("size")
    return Sdist(
        name=name,
        version=str(version),
        url=urljoin(url, file["url"]).split("#")[0],
        sha256=sha256,
        size=size if isinstance(size, int) else None,
    )


def _is_older(uploaded: str | None, as_of: datetime) -> bool:
    if not uploaded:
        return True
    time = datetime.fromisoformat(uploaded)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)) <= as_of


def build_system(folder: Path, place: str) -> BuildSystem:
    """How unpacked source wants to be built; E303 if its pyproject.toml is no such."""
    backend, requires = LEGACY
    path = folder / "pyproject.toml"
    if not path.is_file():
        return BuildSystem(backend=backend, requires=requires)
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("build-system")
        if table is None:
            return BuildSystem(backend=backend, requires=requires)
        return BuildSystem(
            backend=str(table.get("build-backend", backend)),
            requires=tuple(map(str, table["requires"])),
            path=tuple(map(str, table.get("backend-path", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AfenvError("E303", f"its pyproject.toml cannot be read: {error}", place=place) from None


def fixed_wheel(data: bytes, place: str) -> bytes:
    """The same wheel with members sorted, not compressed, and of one time; E303 if it is no wheel.

    Not compressed, so that it does not depend on a compressor: layers compress anyway.
    """
    result = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel, zipfile.ZipFile(result, "w") as fixed:
            members = [one for one in wheel.infolist() if not one.is_dir()]
            for member in sorted(members, key=lambda one: (".dist-info/" in one.filename, one.filename)):
                executable = member.external_attr >> 16 & 0o111
                entry = zipfile.ZipInfo(member.filename, _EPOCH)
                entry.create_system = 3  # Unix
                entry.external_attr = (0o100755 if executable else 0o100644) << 16
                fixed.writestr(entry, wheel.read(member))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise AfenvError("E303", f"the build gave no wheel: {error}", place=place) from None
    return result.getvalue()


def different_members(one: bytes, other: bytes) -> list[str]:
    """The members that two wheels do not share, sorted; RECORD only if nothing else differs."""
    members = []
    for data in (one, other):
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            members.append(
                {
                    entry.filename: (entry.CRC, entry.file_size, entry.external_attr)
                    for entry in wheel.infolist()
                }
            )
    a, b = members
    found = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    return [name for name in found if not name.endswith(".dist-info/RECORD")] or found
