"""dpkg's database: the package list, and what each package left in ``/var/lib/dpkg``.

With it ``dpkg -l``, ``-L``, ``-S``, ``-V`` and scanners see the image as a Debian system whose packages
are all installed and configured. Sources of the formats: deb-control(5), deb-triggers(5), dpkg(1), and
the files that dpkg 1.21 and 1.22 write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from afenv.errors import AfenvError

ADMIN = "var/lib/dpkg"
INFO = f"{ADMIN}/info"
SCRIPTS = frozenset({"preinst", "postinst", "prerm", "postrm", "config"})

_FIELD = re.compile(r"([!-,.-9;-~][!-9;-~]*):[ \t]*(.*)\Z")
# The order in which dpkg writes the fields of a package that it knows by name; the rest follow.
_ORDER = (
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Maintainer",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Breaks",
    "Conflicts",
    "Conffiles",
    "Description",
)


@dataclass(frozen=True, slots=True)
class Stanza:
    """A control stanza: fields by their canonical name, values with their continuation lines."""

    fields: Mapping[str, str]

    def get(self, name: str) -> str:
        """A field's value, empty where it is absent."""
        return self.fields.get(name, "")

    @property
    def info_name(self) -> str:
        """How the package's files in ``/var/lib/dpkg/info`` are called, before the dot."""
        name = self.fields["Package"]
        return f"{name}:{self.get('Architecture')}" if self.get("Multi-Arch") == "same" else name


def parse_control(data: bytes, place: str) -> Stanza:
    """The stanza of a package's ``control`` file; E303 if it is malformed."""
    fields: dict[str, str] = {}
    name = ""
    for line in data.decode("utf-8", "replace").split("\n"):
        if not line.strip():
            if fields:
                break
        elif line[0] in " \t":
            if not name:
                raise AfenvError("E303", "the control file starts with a continuation line", place=place)
            fields[name] += "\n" + line
        else:
            match = _FIELD.match(line)
            if match is None:
                raise AfenvError("E303", f"the control file has a malformed line: {line!r}", place=place)
            name = _canonical(match[1])
            fields[name] = match[2].rstrip()
    for needed in ("Package", "Version", "Architecture"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+.:~_-]*", fields.get(needed, "")):
            raise AfenvError("E303", f"the control file has no valid {needed}", place=place)
    return Stanza(fields)


def _canonical(name: str) -> str:
    lower = name.lower()
    for known in _ORDER:
        if known.lower() == lower:
            return known
    return name


def status_entry(stanza: Stanza, conffiles: Iterable[tuple[str, str]]) -> str:
    """The package's stanza in ``/var/lib/dpkg/status``; ``conffiles`` are absolute paths and MD5 sums."""
    fields = dict(stanza.fields)
    fields["Status"] = "install ok installed"
    lines = "".join(f"\n {path} {md5}" for path, md5 in conffiles)
    if lines:
        fields["Conffiles"] = lines
    else:
        fields.pop("Conffiles", None)
    names = [name for name in _ORDER if name in fields]
    names += [name for name in fields if name not in _ORDER]
    return "".join(
        f"{name}: {fields[name]}\n" if not fields[name].startswith("\n") else f"{name}:{fields[name]}\n"
        for name in names
    )


def conffile_paths(data: bytes) -> list[str]:
    """The absolute paths that a package's ``conffiles`` names, but not those it says to remove."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("/")]


def file_list(paths: Iterable[str]) -> bytes:
    """A ``.list`` file: every path of the package as the archive has it, the root as ``/.``."""
    return "".join(f"/{path}\n" if path else "/.\n" for path in paths).encode("utf-8", "surrogateescape")


def trigger_files(interests: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """The files of ``/var/lib/dpkg/triggers``, by name, from the ``triggers`` of packages by info name."""
    files: dict[str, list[str]] = {"File": []}
    for package, data in interests:
        for raw in data.decode("utf-8", "replace").splitlines():
            words = raw.partition("#")[0].split()
            if len(words) != 2 or not words[0].startswith("interest"):
                continue
            name = package + ("/noawait" if words[0] == "interest-noawait" else "")
            if words[1].startswith("/"):
                files["File"].append(f"{words[1]} {name}")
            elif re.fullmatch(r"[A-Za-z0-9+._-]+", words[1]) and words[1] not in ("File", "Unincorp", ".."):
                files.setdefault(words[1], []).append(name)
    return {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in sorted(files.items())}
