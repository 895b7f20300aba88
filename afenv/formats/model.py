"""What the locks of other tools have in common, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from afenv.errors import AfenvError

DEFAULT = "default"

_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)(?:\.conda|\.tar\.bz2)\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignPackage:
    """A package of a foreign lock; None and empty where the lock does not tell.

    ``depends`` are match specifications for conda, requirements (PEP 508) for PyPI. ``record`` has what else
    the lock says, under the names of ``repodata.json``. Digests are hexadecimal, the size is in bytes.
    """

    manager: str  # conda or pypi
    url: str
    name: str
    version: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    depends: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignEnvironment:
    """An environment of a foreign lock: its channels, and its packages by conda's name of the platform."""

    channels: tuple[str, ...] = ()
    packages: Mapping[str, tuple[ForeignPackage, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignLock:
    """A foreign lock: its environments by name (``default``; of a conda-lock.yml, the categories).

    ``whole`` tells whether packages carry all that ``repodata.json`` says of them.
    """

    format: str
    environments: Mapping[str, ForeignEnvironment]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class ArchiveName:
    """What the URL of a conda package tells: channel, subdirectory, name, version and build."""

    channel: str
    subdir: str
    name: str
    version: str
    build: str


def archive_name(url: str, place: str) -> ArchiveName:
    """The parts of a conda package's URL; E013 if it is not one."""
    base, _, file = url.split("#")[0].split("?")[0].rpartition("/")
    channel, _, subdir = base.rpartition("/")
    match = _ARCHIVE.match(unquote(file))
    if match is None or not subdir or urlsplit(url).scheme not in ("http", "https", "file"):
        raise AfenvError("E013", f"{url!r} is not the URL of a conda package", place=place)
    return ArchiveName(channel, subdir, match["name"], match["version"], match["build"])


def build_number_of(build: str) -> int | None:
    """The build number that a build string ends with, as ``py312_3``; None if it has none."""
    last = build.rpartition("_")[2]
    return int(last) if last.isdigit() and last.isascii() else None
