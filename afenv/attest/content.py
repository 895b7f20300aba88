"""Whether a bill of materials lists what an image holds: exactly, no package more and none less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from afenv.errors import AfenvError
from afenv.oci.files import Entry
from afenv.oci.packages import find_packages, holds_packages

DPKG_INFO = "var/lib/dpkg/info"
KINDS = {"deb": "deb", "pypi": "python", "conda": "conda"}


class Component(NamedTuple):
    """A package by its kind (``deb``, ``python``, ``conda``), name and version."""

    kind: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.version}"


def read_sbom(data: bytes) -> dict[str, Any]:
    """An SPDX 2 JSON document; E611 if it is none."""
    try:
        value = json.loads(data)
        if not str(value["spdxVersion"]).startswith("SPDX-2."):
            raise ValueError
        for package in value["packages"]:
            str(package["SPDXID"]), str(package["name"])
            lists = [package.get(name) or [] for name in ("externalRefs", "checksums")]
            if not all(isinstance(one, list) and all(isinstance(e, dict) for e in one) for one in lists):
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AfenvError("E611", "the bill of materials is not an SPDX 2 document") from None
    found: dict[str, Any] = value
    return found


def components(document: dict[str, Any]) -> set[Component]:
    """The packages that a document lists, as far as an image records packages of their kind."""
    found = set()
    for package in document["packages"]:
        for reference in package.get("externalRefs") or ():
            match = re.match(
                r"pkg:(\w+)/(?:[^@?]*/)?([^@?/]+)@([^?]+)", str(reference.get("referenceLocator"))
            )
            if match and match[1] in KINDS:
                found.add(Component(KINDS[match[1]], unquote(match[2]), unquote(match[3])))
    return found


def image_checksum(document: dict[str, Any]) -> str | None:
    """The image ID that a document is about."""
    for package in document["packages"]:
        if package["SPDXID"] == "SPDXRef-Image":
            for one in package.get("checksums") or ():
                if one.get("algorithm") == "SHA256":
                    return f"sha256:{one.get('checksumValue')}"
    return None


def holds_records(path: str) -> bool:
    """Whether the file at that path of an image records packages, or which files are a package's."""
    folder, _, name = path.rpartition("/")
    return (
        holds_packages(path)
        or (folder == DPKG_INFO and name.endswith(".list"))
        or (folder.endswith("/conda-meta") and name.endswith(".json"))
    )


def held_components(files: Mapping[str, Entry]) -> set[Component]:
    """The packages that an image's own records name; their contents must have been kept.

    A Python distribution whose files belong to a Debian or conda package is part of that package.
    """
    found: set[Component] = set()
    owned: set[str] = set()
    for path, entry in files.items():
        folder, _, name = path.rpartition("/")
        if entry.content is None:
            continue
        if folder == DPKG_INFO and name.endswith(".list"):
            lines = entry.content.decode("utf-8", "replace").splitlines()
            owned.update(line.lstrip("/") for line in lines if line.endswith(".dist-info/METADATA"))
        elif folder.endswith("/conda-meta") and name.endswith(".json"):
            component, paths = _conda_record(entry.content, path)
            prefix = folder.removesuffix("/conda-meta")
            found.add(component)
            owned.update(f"{prefix}/{one}" for one in paths if one.endswith(".dist-info/METADATA"))
    others = [entry for path, entry in files.items() if path not in owned]
    for package in find_packages(others):
        found.add(Component(package.kind, package.name, package.version))
    return found


def _conda_record(content: bytes, path: str) -> tuple[Component, list[str]]:
    try:
        record = json.loads(content)
        component = Component("conda", str(record["name"]), str(record["version"]))
        return component, [str(one) for one in record.get("files") or ()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AfenvError("E510", "this conda record is damaged", place=path) from None


def _comparable(one: Component) -> Component:
    if one.kind != "python":
        return one
    from packaging.utils import canonicalize_name, canonicalize_version

    return Component(one.kind, canonicalize_name(one.name), canonicalize_version(one.version))


def differences(
    listed: Iterable[Component], held: Iterable[Component], base: Iterable[Component] = ()
) -> list[str]:
    """What a bill of materials lists and the image lacks, and the other way round, in words.

    ``base`` are the packages of a base image, which are not listed one by one.
    """
    one, other = set(map(_comparable, listed)), set(map(_comparable, held))
    missing = [f"the image lacks {found}" for found in sorted(one - other)]
    unlisted = other - one - set(map(_comparable, base))
    return missing + [f"the bill of materials lacks {found}" for found in sorted(unlisted)]
