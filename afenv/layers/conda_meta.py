"""``conda-meta``: what an environment says of itself to conda, mamba and pixi.

The records have the fields of conda's ``PrefixRecord``, without those that name a place on the machine
that installed: ``link.source``, ``extracted_package_dir`` and ``package_tarball_full_path``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from afenv.documents.lock import LockedConda
from afenv.layers.model import PACKAGE_MTIME

FOLDER = "conda-meta"
HISTORY = f"{FOLDER}/history"

_COPIED = 3  # how conda calls a file that is neither a hard nor a symbolic link to its cache


def record_path(package: LockedConda) -> str:
    """Where the record of a package lies, relative to the prefix."""
    return f"{FOLDER}/{package.name}-{package.version}-{package.build}.json"


def record_text(package: LockedConda, paths: Sequence[Mapping[str, Any]]) -> bytes:
    """The record of an installed package; ``paths`` are its entries of ``paths_data``, in order."""
    channel, url = _origin(package)
    value: dict[str, Any] = {
        **package.record,
        "build": package.build,
        "build_number": package.build_number,
        "channel": channel,
        "constrains": list(package.constrains),
        "depends": list(package.depends),
        "files": [entry["_path"] for entry in paths],
        "fn": package.file.file_name,
        "link": {"source": "", "type": _COPIED},
        "name": package.name,
        "paths_data": {"paths": list(paths), "paths_version": 1},
        "requested_spec": package.name if package.requested else "None",
        "requested_specs": [package.name] if package.requested else [],
        "sha256": package.file.sha256,
        "size": package.file.size,
        "subdir": package.subdir,
        "url": url,
        "version": package.version,
    }
    if package.md5:
        value["md5"] = package.md5
    if package.noarch:
        value["noarch"] = package.noarch
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def history_text(packages: Sequence[LockedConda]) -> bytes:
    """The history of an environment that was made at once; its time is that of all files of packages."""
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(PACKAGE_MTIME))
    ordered = sorted(packages, key=lambda package: package.name)
    lines = [f"==> {day} <==", "# cmd: afenv build"]
    lines += [f"+{_title(package)}" for package in ordered]
    lines.append(f"# update specs: {[package.name for package in ordered if package.requested]!r}")
    return "\n".join([*lines, ""]).encode()


def _origin(package: LockedConda) -> tuple[str, str]:
    """Channel and URL of a package; of a channel that is a folder only its name, which is no host's."""
    channel, url = package.channel.rstrip("/"), package.file.urls[0]
    if "://" in url and not url.startswith("file:"):
        return channel, url
    channel = "file:///" + quote(channel.rpartition("/")[2].strip(".") or "channel")
    return channel, f"{channel}/{package.subdir}/{quote(package.file.file_name)}"


def _title(package: LockedConda) -> str:
    channel, _ = _origin(package)
    return f"{channel}/{package.subdir}::{package.name}-{package.version}-{package.build}"
