"""The packages of an image, read from the records that scanners read too.

Debian packages come from ``/var/lib/dpkg/status`` and ``/var/lib/dpkg/status.d``, Python distributions
from ``*.dist-info/METADATA``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from afenv.oci.files import Entry

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d/"


class Package(NamedTuple):
    """One package: its kind, its name, its version and, for Debian, its architecture."""

    kind: Literal["deb", "python"]
    name: str
    version: str
    architecture: str = ""


def holds_packages(path: str) -> bool:
    """Whether the file at that path of an image records packages."""
    return (
        path.endswith(".dist-info/METADATA")
        or path == STATUS
        or (path.startswith(STATUS_FOLDER) and not path.endswith(".md5sums"))
    )


def _fields(stanza: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in stanza.splitlines() if line[:1] not in (" ", "\t"))
    return {name.lower(): value.strip() for name, _, value in pairs}


def _debian(text: str) -> Iterator[Package]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        installed = fields.get("status", "install ok installed").endswith(" installed")
        if installed and fields.get("package") and fields.get("version"):
            yield Package("deb", fields["package"], fields["version"], fields.get("architecture", ""))


def _python(text: str) -> Iterator[Package]:
    fields = _fields(re.split(r"\r?\n\r?\n", text, maxsplit=1)[0])
    if fields.get("name") and fields.get("version"):
        name = re.sub(r"[-_.]+", "-", fields["name"]).lower()
        yield Package("python", name, fields["version"])


def find_packages(files: Mapping[str, Entry] | Iterable[Entry]) -> list[Package]:
    """The packages that the files record, sorted; their contents must have been kept."""
    found: set[Package] = set()
    for entry in files.values() if isinstance(files, Mapping) else files:
        if entry.content is not None and holds_packages(entry.path):
            text = entry.content.decode("utf-8", "replace")
            found.update(_python(text) if entry.path.endswith("/METADATA") else _debian(text))
    return sorted(found)
