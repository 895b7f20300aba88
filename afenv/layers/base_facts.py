"""What a base image is: its operating system, its C library, its shell, its accounts.

Pure functions of a :class:`~afenv.layers.base_tree.BaseTree`; nothing of the base is run. Sources:
os-release(5), passwd(5), and the banner that the GNU C library has in itself (``csu/version.c``).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from afenv.layers.base_tree import BaseTree

_KEPT = re.compile(
    r"(?:usr/)?(?:lib|etc)/os-release\Z"
    r"|etc/(?:passwd|group|shadow|gshadow|subuid|subgid|shells|debian_version|ld\.so\.conf)\Z"
    r"|etc/ld\.so\.conf\.d/[^/]+\.conf\Z"
    r"|etc/skel/[^/]+\Z"
    r"|var/lib/dpkg/(?:status|triggers/File|alternatives/[^/]+)\Z"
    r"|var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)\Z"
    r"|(?:.*/)?lib(?:64)?/python3\.[0-9]+/site\.py\Z"
)
_GLIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.[0-9]+\.so)\Z")
_PYTHON = re.compile(
    r"(?:.*/)?(?:bin/python3?(?:\.[0-9]+)?[a-z]*|libexec/platform-python[0-9.]*[a-z]*"
    r"|lib(?:64)?/(?:[^/]+-linux-[^/]+/)?libpython3\.[0-9]+[a-z]*\.so(?:\.[0-9.]+)?)\Z"
)
_BANNER = re.compile(rb"GNU C Library [^\n\0]{0,200}? release version ([0-9]+\.[0-9]+)")
_SYMBOL = re.compile(rb"\0GLIBC_2\.([0-9]+)(?=\0)")
_PYTHON_VERSION = re.compile(rb"(?<![0-9.])(3\.[0-9]{1,2}\.[0-9]{1,2}(?:(?:a|b|rc)[0-9]+)?)\+?(?=\0)")
_MUSL = re.compile(r"ld-musl-[a-z0-9_]+\.so\.1\Z")

LOADERS = {
    "linux/amd64": ("lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "linux/arm64": ("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
}
SUITES = ("bullseye", "bookworm", "trixie")
_SHELLS = ("bin/bash", "bin/sh", "usr/bin/bash", "usr/bin/sh")


def is_kept(path: str) -> bool:
    """Whether the content of a file belongs to the tree."""
    return _KEPT.match(path) is not None


def is_program(path: str) -> bool:
    """Whether a version is to be looked for in the file; see :func:`version_in`."""
    return bool(_GLIBC.match(path) or _PYTHON.match(path))


def version_in(path: str, data: bytes) -> str | None:
    """The version of the C library or of Python that a library or program says it has."""
    if not data.startswith(b"\x7fELF"):
        return None
    if _GLIBC.match(path):
        banner = _BANNER.search(data)
        if banner:
            return banner[1].decode()
        minors = [int(match[1]) for match in _SYMBOL.finditer(data)]
        return f"2.{max(minors)}" if minors else None
    minor = re.search(r"python(3\.[0-9]+)", path)
    whole, ends = set[str](), set[str]()  # a linker may make the version the end of another text
    for match in _PYTHON_VERSION.finditer(data):
        version = match[1].decode()
        if minor is None or version.startswith(f"{minor[1]}."):
            ends.add(version)
            if data[match.start() - 1] == 0:
                whole.add(version)
    return next((min(found) for found in (whole, ends) if len(found) == 1), None)


@dataclass(frozen=True, slots=True)
class OperatingSystem:
    """What ``os-release`` says: identifier, version, codename, and what it is derived from."""

    id: str
    version: str = ""
    codename: str = ""
    like: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} {self.version}".strip()


def operating_system(tree: BaseTree) -> OperatingSystem | None:
    """The operating system, or None if the image does not say (one with nothing but a program)."""
    data = tree.read("etc/os-release") or tree.read("usr/lib/os-release")
    if data is None:
        return None
    fields = dict(_assignments(data.decode("utf-8", "replace")))
    return OperatingSystem(
        id=fields.get("ID", "linux"),
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        like=tuple(fields.get("ID_LIKE", "").split()),
    )


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                yield name, " ".join(shlex.split(value))
            except ValueError:
                yield name, value


def glibc(tree: BaseTree, platform: str) -> str | None:
    """The version of the GNU C library, such as ``2.34``; None if the base has none."""
    triplet = LOADERS.get(platform, ("", ""))[1]
    folders = ["lib64", "usr/lib64", f"lib/{triplet}", f"usr/lib/{triplet}", "lib", "usr/lib"]
    for folder in folders:
        real = tree.real(f"{folder}/libc.so.6")
        if real is not None and real in tree.versions:
            return tree.versions[real]
    return None


def has_musl(tree: BaseTree) -> bool:
    """Whether the base has the C library musl, as Alpine has."""
    return any(_MUSL.match(name) for folder in ("lib", "usr/lib") for name in tree.names(folder))


def debian_suite(tree: BaseTree) -> str | None:
    """The codename of the Debian release that the base is, None if it is something else.

    A derivative is something else: its packages are not Debian's.
    """
    system = operating_system(tree)
    has_dpkg = tree.is_file("var/lib/dpkg/status") or tree.is_folder("var/lib/dpkg/status.d")
    if system is None or system.id != "debian" or not has_dpkg:
        return None
    if system.codename:
        return system.codename if system.codename in SUITES else None
    numbers = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
    return numbers.get(system.version.split(".")[0])


def shell(tree: BaseTree) -> str | None:
    """The shell that people get: bash if there is one, else sh; None without any."""
    for path in _SHELLS:
        if tree.exists(path):
            return f"/{path}"
    return None


def is_merged(tree: BaseTree) -> bool:
    """Whether the folders at the top, such as ``/lib``, are links into ``/usr``, or are not there."""
    return not any(name in tree.folders for name in ("bin", "sbin", "lib"))


def accounts(tree: BaseTree, name: str = "etc/passwd") -> list[list[str]]:
    """The records of ``/etc/passwd`` or ``/etc/group``."""
    width = 7 if name == "etc/passwd" else 4
    lines = (tree.read(name) or b"").decode("utf-8", "replace").splitlines()
    records = (line.split(":") for line in lines)
    return [record for record in records if len(record) == width and record[0]]


def home_of(tree: BaseTree, uid: int) -> str | None:
    """The home folder of a user, by number; None if ``/etc/passwd`` has no such user."""
    for record in accounts(tree):
        if record[2] == str(uid):
            return record[5] if record[5].startswith("/") else "/"
    return None
