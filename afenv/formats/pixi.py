"""``pixi.lock``: versions 6 and 7 are read, version 6 is written.

Source: the crate ``rattler_lock``. An environment lists the URLs of its packages for each platform; what is
known of a package stands once, under ``packages``. What follows from the URL (name, version, build,
subdirectory, and a build number at the end of the build) is left out there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afenv.errors import AfenvError
from afenv.formats.model import (
    ForeignEnvironment,
    ForeignLock,
    ForeignPackage,
    archive_name,
    build_number_of,
)
from afenv.formats.yaml_text import Reader, load
from afenv.formats.yaml_text import dump as dump_yaml

VERSIONS = ("6", "7")
_INDEX = "https://pypi.org/simple"
_TEXTS = ("license", "license_family", "arch", "platform", "features", "python_site_packages_path")
_LISTS = ("constrains", "track_features", "purls")
_NUMBERS = ("timestamp", "legacy_bz2_size")
# The keys of a conda package in the order in which they are written.
_ORDER = (
    *("name", "version", "build", "build_number", "subdir", "noarch", "sha256", "md5", "legacy_bz2_md5"),
    *("depends", "constrains", "arch", "platform", "features", "track_features"),
    *(
        "license",
        "license_family",
        "purls",
        "size",
        "legacy_bz2_size",
        "timestamp",
        "python_site_packages_path",
    ),
)


def parse(data: bytes, place: str) -> ForeignLock:
    """A pixi.lock; E002 if it is malformed, E016 for another version and for packages built from source."""
    tree, read = load(data, place), Reader(place)
    version = read.optional(tree.get("version"), "version")
    if version not in VERSIONS:
        raise AfenvError(
            "E016",
            f"pixi.lock of version {version} is not supported",
            place=place,
            remedy="Lock again with a newer pixi; versions 6 and 7 are read.",
        )
    known: dict[str, ForeignPackage] = {}
    for index, entry in enumerate(read.sequence(tree.get("packages"), "packages")):
        what = f"packages[{index}]"
        package = _package(read.mapping(entry, what), what, read)
        known[package.url] = package
    subdirs = {}
    for entry in read.sequence(tree.get("platforms"), "platforms"):
        entry = entry if isinstance(entry, dict) else {"name": entry}
        name = read.text(entry.get("name"), "platforms")
        subdirs[name] = read.optional(entry.get("subdir"), "platforms") or name
    environments = {
        str(name): _environment(read.mapping(entry, f"environments.{name}"), str(name), known, subdirs, read)
        for name, entry in read.mapping(tree.get("environments"), "environments").items()
    }
    return ForeignLock(format="pixi", environments=environments, whole=True)


def _environment(
    entry: Mapping[str, Any],
    name: str,
    known: Mapping[str, ForeignPackage],
    subdirs: Mapping[str, str],
    read: Reader,
) -> ForeignEnvironment:
    what = f"environments.{name}"
    channels = tuple(
        read.text(channel.get("url") if isinstance(channel, dict) else channel, f"{what}.channels")
        for channel in read.sequence(entry.get("channels"), f"{what}.channels")
    )
    packages = {}
    for platform, references in read.mapping(entry.get("packages"), f"{what}.packages").items():
        chosen = []
        for reference in read.sequence(references, f"{what}.packages.{platform}"):
            where = read.mapping(reference, f"{what}.packages.{platform}")
            url = where.get("conda") or where.get("pypi")
            if url not in known:
                raise read.bad(f"{what}.packages.{platform}: {url} is not among the packages")
            chosen.append(known[str(url)])
        packages[subdirs.get(platform, platform)] = tuple(chosen)
    return ForeignEnvironment(channels=channels, packages=packages)


def _package(entry: Mapping[str, Any], what: str, read: Reader) -> ForeignPackage:
    if "pypi" in entry:
        return _wheel(entry, what, read)
    url = read.text(entry.get("conda"), what)
    if "://" not in url:
        raise AfenvError(
            "E016", f"{url} is a package from source or a file, not supported yet", place=read.place
        )
    name = archive_name(url, f"{read.place}: {what}")
    record: dict[str, Any] = {key: read.optional(entry.get(key), f"{what}.{key}") for key in _TEXTS}
    record |= {
        key: list(read.texts(entry.get(key), f"{what}.{key}")) for key in _LISTS if key != "track_features"
    }
    record |= {key: read.integer(entry.get(key), f"{what}.{key}") for key in _NUMBERS}
    features = entry.get("track_features")
    record["track_features"] = (
        list(read.texts(features, what)) if isinstance(features, list) else (features or "").split()
    )
    build = read.optional(entry.get("build"), f"{what}.build") or name.build
    number = read.integer(entry.get("build_number"), f"{what}.build_number")
    record |= {
        "build": build,
        "build_number": number if number is not None else build_number_of(build) or 0,
        "subdir": read.optional(entry.get("subdir"), f"{what}.subdir") or name.subdir,
        "noarch": read.optional(entry.get("noarch"), f"{what}.noarch"),
        "legacy_bz2_md5": read.digest(entry.get("legacy_bz2_md5"), 32, f"{what}.legacy_bz2_md5"),
    }
    depends = read.texts(entry.get("depends"), f"{what}.depends")
    if record["noarch"] is None and record["subdir"] == "noarch":
        needs_python = any(re.match(r"python(?![\w.-])", spec) for spec in depends)
        record["noarch"] = "python" if needs_python else "generic"
    return ForeignPackage(
        manager="conda",
        url=url,
        name=read.optional(entry.get("name"), f"{what}.name") or name.name,
        version=read.optional(entry.get("version"), f"{what}.version") or name.version,
        sha256=read.digest(entry.get("sha256"), 64, f"{what}.sha256"),
        md5=read.digest(entry.get("md5"), 32, f"{what}.md5"),
        size=read.integer(entry.get("size"), f"{what}.size"),
        depends=depends,
        record={key: value for key, value in record.items() if value not in (None, [], "")},
    )


def _wheel(entry: Mapping[str, Any], what: str, read: Reader) -> ForeignPackage:
    url = read.text(entry.get("pypi"), what)
    if "://" not in url or url.startswith("git+"):
        raise AfenvError("E016", f"{url} is no wheel of an index, not supported yet", place=read.place)
    requires_python = read.optional(entry.get("requires_python"), f"{what}.requires_python")
    return ForeignPackage(
        manager="pypi",
        url=url,
        name=read.text(entry.get("name"), f"{what}.name"),
        version=read.text(entry.get("version"), f"{what}.version"),
        sha256=read.digest(entry.get("sha256"), 64, f"{what}.sha256"),
        depends=read.texts(entry.get("requires_dist"), f"{what}.requires_dist"),
        record={"requires_python": requires_python} if requires_python else {},
    )


def dump(lock: ForeignLock) -> bytes:
    """The text of a lock, in version 6."""
    packages = {
        package.url: package
        for environment in lock.environments.values()
        for entries in environment.packages.values()
        for package in entries
    }
    environments = {}
    for name, environment in sorted(lock.environments.items()):
        has_wheels = any(
            package.manager == "pypi" for entries in environment.packages.values() for package in entries
        )
        environments[name] = {
            "channels": [{"url": url.rstrip("/") + "/"} for url in environment.channels],
            **({"indexes": [_INDEX]} if has_wheels else {}),
            "packages": {
                platform: [{package.manager: package.url} for package in sorted(entries, key=_order)]
                for platform, entries in sorted(environment.packages.items())
            },
        }
    entries = [_entry(package) for package in sorted(packages.values(), key=_order)]
    return dump_yaml({"version": 6, "environments": environments, "packages": entries}).encode()


def _order(package: ForeignPackage) -> tuple[str, str]:
    return package.manager, package.url


def _entry(package: ForeignPackage) -> dict[str, Any]:
    if package.manager == "pypi":
        wheel = {"pypi": package.url, "name": package.name, "version": package.version}
        optional = {
            "sha256": package.sha256,
            "requires_dist": list(package.depends),
            "requires_python": package.record.get("requires_python"),
        }
        return wheel | {key: value for key, value in optional.items() if value}
    name = archive_name(package.url, package.url)
    record: dict[str, Any] = {**package.record, "name": package.name, "version": package.version}
    record |= {
        "sha256": package.sha256,
        "md5": package.md5,
        "size": package.size,
        "depends": list(package.depends),
    }
    for key in ("name", "version", "build", "subdir"):
        derived = key != "subdir" or package.url.startswith("http")  # rattler derives no subdir from a file
        if derived and record.get(key) == getattr(name, key):
            del record[key]
    if record.get("build_number") == build_number_of(package.record.get("build", name.build)):
        del record["build_number"]
    chosen = {key: record[key] for key in _ORDER if record.get(key) not in (None, [], "", ())}
    return {"conda": package.url, **chosen}
