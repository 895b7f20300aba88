"""What packages say of their licence, as SPDX expressions.

Only what a package's own metadata states is used: ``License-Expression``, or a ``License`` field or a
classifier that names one SPDX licence without doubt, and ``license`` of a conda record. Everything else is
``NOASSERTION``: a guess would be worth less than no statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from afenv.documents.lock import LockedEnvironment
from afenv.oci.model import Image
from afenv.store.content import ContentStore

NOASSERTION = "NOASSERTION"
KIND = "license"  # of the keys under which the store keeps what wheels say

# Classifiers of PyPI that stand for exactly one SPDX licence.
CLASSIFIERS = {
    "OSI Approved :: Apache Software License": "Apache-2.0",
    "OSI Approved :: Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "OSI Approved :: GNU Affero General Public License v3": "AGPL-3.0-only",
    "OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "OSI Approved :: GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "OSI Approved :: GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "OSI Approved :: GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "OSI Approved :: GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: MIT No Attribution License (MIT-0)": "MIT-0",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
    "OSI Approved :: zlib/libpng License": "Zlib",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}


def expression(text: str) -> str:
    """``text`` as a canonical SPDX expression; ``NOASSERTION`` if it is none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not text or len(text) > 1000 or "\n" in text:
        return NOASSERTION
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return NOASSERTION


def references(text: str) -> list[str]:
    """The ``LicenseRef-…`` names in an expression, sorted."""
    return sorted(set(re.findall(r"LicenseRef-[A-Za-z0-9.-]+", text)))


def from_metadata(text: str) -> str:
    """The licence that a wheel's ``METADATA`` states."""
    fields: dict[str, list[str]] = {}
    for line in re.split(r"\r?\n\r?\n", text, maxsplit=1)[0].splitlines():
        name, colon, value = line.partition(":")
        if colon and line[:1] not in (" ", "\t"):
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    for name in ("license-expression", "license"):
        for value in fields.get(name, ()):
            found = expression(value)
            if found != NOASSERTION:
                return found
    named = [one.removeprefix("License :: ") for one in fields.get("classifier", ()) if "License :: " in one]
    known = {CLASSIFIERS.get(one, "") for one in named if one != "OSI Approved"}
    return known.pop() if len(known) == 1 and "" not in known else NOASSERTION


def from_wheel(path: Path) -> str:
    """The licence that a wheel states; ``NOASSERTION`` also where the archive cannot be read."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
            return from_metadata(archive.read(names[0]).decode("utf-8", "replace")) if names else NOASSERTION
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError):
        return NOASSERTION


def wheel_licenses(
    environment: LockedEnvironment, store: ContentStore, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The licences of the wheels by sha256: from the store's archives, once; or as ``given``.

    A wheel that is neither there nor known is left out.
    """
    found: dict[str, str] = {}
    for wheel in environment.wheels:
        digest = wheel.file.digest
        known = store.load_key(KIND, digest)
        if not isinstance(known, str):
            if store.has(digest, wheel.file.size):
                known = from_wheel(store.path(digest))
            elif given and wheel.file.sha256 in given:
                known = given[wheel.file.sha256]
            else:
                continue
            store.save_key(KIND, digest, known)
        found[wheel.file.sha256] = known
    return found


def learn_from_layers(
    environment: LockedEnvironment, image: Image, store: ContentStore, known: Mapping[str, str]
) -> dict[str, str]:
    """The licences of the wheels that ``known`` lacks, from the layers that hold them; remembered."""
    from packaging.utils import canonicalize_name

    from afenv.oci.files import read_layer
    from afenv.oci.read import OpenedImage

    wanted = {wheel.name: wheel.file for wheel in environment.wheels if wheel.file.sha256 not in known}
    found: dict[str, str] = {}
    opened = OpenedImage(image=image, blobs=store, path=store.folder)
    for position, layer in enumerate(image.layers):
        if not wanted or not layer.source.startswith("pypi:") or not store.has(layer.digest):
            continue
        with opened.layer(position) as stream:
            files = read_layer(stream, contents=False, keep=lambda path: path.endswith(".dist-info/METADATA"))
        for entry in files.entries.values():
            if entry.content is not None:
                text = entry.content.decode("utf-8", "replace")
                name = re.search(r"^Name:\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
                file = wanted.pop(canonicalize_name(name[1]), None) if name else None
                if file is not None:
                    found[file.sha256] = from_metadata(text)
                    store.save_key(KIND, file.digest, found[file.sha256])
    return found


def from_record(record: Mapping[str, Any]) -> str:
    """The licence that a conda record states."""
    return expression(str(record.get("license") or ""))


def all_references(expressions: Iterable[str]) -> list[str]:
    """The ``LicenseRef-…`` names in some expressions, sorted."""
    return sorted({one for text in expressions for one in references(text)})
