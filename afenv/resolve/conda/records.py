"""Between the records of ``repodata.json`` and those of the lock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afenv.documents.lock import LockedConda, LockedFile
from afenv.errors import AfenvError

_OWN = frozenset(
    (
        *("name", "version", "build", "build_number", "subdir", "noarch", "depends", "constrains"),
        *("size", "sha256", "md5", "url", "channel", "fn"),
    )
)

_FORMS = {
    "name": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z"),
    "version": re.compile(r"[A-Za-z0-9_.!+~-]+\Z"),
    "build": re.compile(r"[A-Za-z0-9_.+-]*\Z"),
    "subdir": re.compile(r"[a-z0-9]+(?:-[a-z0-9_]+)?\Z"),
}


def locked_conda(record: Mapping[str, Any], *, channel: str, url: str, requested: bool) -> LockedConda:
    """A package of the lock out of its record, which has ``size`` and ``sha256``.

    ``channel`` and ``url`` are those of the lock. The form of a record is that of CEP 36. E013 for names and
    versions that no package can have: they become names of files.
    """
    for key, pattern in _FORMS.items():
        if not pattern.match(str(record[key])):
            raise AfenvError("E013", f"a conda package has the {key} {record[key]!r}", place=url)
    return LockedConda(
        name=record["name"],
        version=str(record["version"]),
        build=str(record["build"]),
        build_number=int(record["build_number"]),
        channel=channel,
        subdir=record["subdir"],
        file=LockedFile(urls=(url,), size=int(record["size"]), sha256=record["sha256"]),
        md5=record.get("md5"),
        noarch=noarch_of(record.get("noarch")),
        depends=tuple(record.get("depends") or ()),
        constrains=tuple(record.get("constrains") or ()),
        requested=requested,
        record={key: value for key, value in sorted(record.items()) if key not in _OWN and value},
    )


def noarch_of(value: Any) -> str | None:
    """The kind of a package for all architectures; ``true`` is the old way of saying generic."""
    if value in ("python", "generic"):
        return str(value)
    return "generic" if value is True else None


def is_python_package(package: LockedConda) -> bool:
    """Whether a package goes into a Python's site-packages, by what its record says."""
    return package.name != "python" and (
        package.noarch == "python" or any(name_of(spec) == "python" for spec in package.depends)
    )


def name_of(spec: str) -> str:
    """The name of the package that a match specification is about."""
    rest = spec.rpartition("::")[2].strip()
    for index, letter in enumerate(rest):
        if not (letter.isalnum() or letter in "._-"):
            return rest[:index].lower()
    return rest.lower()
