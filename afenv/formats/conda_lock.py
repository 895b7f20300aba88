"""``conda-lock.yml``, version 1, as conda-lock 1.0 and later write it.

Source: the model ``conda_lock.lockfile.v1`` of conda-lock. A package stands there once for each platform and
category. ``dependencies`` maps names to constraints, so of two specifications of one name only their sum is
left. Sizes, build numbers and constraints are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.formats.model import (
    DEFAULT,
    ForeignEnvironment,
    ForeignLock,
    ForeignPackage,
    archive_name,
)
from afenv.formats.yaml_text import Reader, load
from afenv.formats.yaml_text import dump as dump_yaml

MAIN = "main"
_HEAD = """\
# A lock of conda and PyPI packages, written by afenv in the format of conda-lock, version 1.
# Install it with: conda-lock install --name NAME conda-lock.yml
"""


def parse(data: bytes, place: str) -> ForeignLock:
    """A conda-lock.yml; E002 if it is malformed, E016 for another version of the format."""
    tree, read = load(data, place), Reader(place)
    version = read.optional(tree.get("version"), "version")
    if version != "1":
        raise AfenvError("E016", f"conda-lock.yml of version {version} is not supported yet", place=place)
    metadata = read.mapping(tree.get("metadata"), "metadata")
    channels = tuple(
        read.text(entry.get("url") if isinstance(entry, dict) else entry, "metadata.channels")
        for entry in read.sequence(metadata.get("channels"), "metadata.channels")
    )
    platforms = read.texts(metadata.get("platforms"), "metadata.platforms")
    found: dict[str, dict[str, dict[str, ForeignPackage]]] = {DEFAULT: {name: {} for name in platforms}}
    for index, entry in enumerate(read.sequence(tree.get("package"), "package")):
        what = f"package[{index}]"
        entry = read.mapping(entry, what)
        category = read.optional(entry.get("category"), f"{what}.category") or MAIN
        platform = read.text(entry.get("platform"), f"{what}.platform")
        package = _package(entry, what, read)
        environment = found.setdefault(DEFAULT if category == MAIN else category, {})
        environment.setdefault(platform, {})[package.url] = package
    return ForeignLock(
        format="conda-lock",
        environments={
            name: ForeignEnvironment(
                channels=channels,
                packages={platform: tuple(packages.values()) for platform, packages in by_platform.items()},
            )
            for name, by_platform in found.items()
        },
    )


def _package(entry: Mapping[str, Any], what: str, read: Reader) -> ForeignPackage:
    manager = read.text(entry.get("manager"), f"{what}.manager")
    if manager not in ("conda", "pip"):
        raise read.bad(f"{what}.manager: expected conda or pip, found {manager!r}")
    url = read.text(entry.get("url"), f"{what}.url").split("#")[0]
    digests = read.mapping(entry.get("hash"), f"{what}.hash")
    if manager == "conda":
        archive_name(url, f"{read.place}: {what}.url")
    depends = read.mapping(entry.get("dependencies"), f"{what}.dependencies")
    return ForeignPackage(
        manager="conda" if manager == "conda" else "pypi",
        url=url,
        name=read.text(entry.get("name"), f"{what}.name"),
        version=read.text(entry.get("version"), f"{what}.version"),
        sha256=read.digest(digests.get("sha256"), 64, f"{what}.hash.sha256"),
        md5=read.digest(digests.get("md5"), 32, f"{what}.hash.md5"),
        depends=tuple(
            f"{name} {limit or ''}".strip()
            for name, limit in sorted(depends.items())
            if isinstance(limit, str | None)
        ),
    )


def dump(lock: ForeignLock) -> bytes:
    """The text of a lock."""
    packages, platforms = [], set[str]()
    for name, environment in lock.environments.items():
        category = MAIN if name == DEFAULT else name
        for platform, entries in environment.packages.items():
            platforms.add(platform)
            packages += [_entry(package, platform, category) for package in entries]
    packages.sort(key=lambda entry: (entry["platform"], entry["category"], entry["manager"], entry["name"]))
    channels = dict.fromkeys(url for entry in lock.environments.values() for url in entry.channels)
    digests = {
        platform: sha256_bytes(
            canonical.compact([entry for entry in packages if entry["platform"] == platform])
        ).removeprefix("sha256:")
        for platform in sorted(platforms)
    }
    return (
        _HEAD
        + dump_yaml(
            {
                "version": 1,
                "metadata": {
                    "content_hash": digests,
                    "channels": [{"url": url, "used_env_vars": []} for url in channels],
                    "platforms": sorted(platforms),
                    "sources": ["afenv.yaml"],
                },
                "package": packages,
            }
        )
    ).encode()


def _entry(package: ForeignPackage, platform: str, category: str) -> dict[str, Any]:
    if package.sha256 is None and package.md5 is None:
        raise AfenvError("E013", f"{package.name} has no digest", place=package.url)
    conda = package.manager == "conda"
    digests = {"md5": package.md5 if conda else None, "sha256": package.sha256}
    return {
        "name": package.name,
        "version": package.version,
        "manager": "conda" if conda else "pip",
        "platform": platform,
        "dependencies": _dependencies(package.depends, "" if conda else "*"),
        "url": package.url,
        "hash": {key: value for key, value in digests.items() if value},
        "category": category,
        "optional": category != MAIN,
    }


def _dependencies(depends: Iterable[str], anything: str) -> dict[str, str]:
    """Constraints by name; those of one name are joined where both are of versions alone."""
    found: dict[str, str] = {}
    for spec in depends:
        name, _, limit = spec.partition(" ")
        limit = limit.strip()
        if found.get(name) and limit and " " not in limit + found[name] and limit not in found[name]:
            found[name] += "," + limit
        else:
            found[name] = limit or found.get(name, "")
    return {name: limit or anything for name, limit in sorted(found.items())}
