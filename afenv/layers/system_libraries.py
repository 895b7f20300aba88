"""``/etc/ld.so.cache``: where the dynamic loader, and ``ctypes.util.find_library``, find libraries.

The loader would find libraries in its default folders without it; programs that ask ``ldconfig -p``
would not. The cache is made from names alone: of each library in the folders that ``ld.so.conf`` names,
its links, and its file where no link leads to it. Source of the format: ``struct cache_file_new`` of the
GNU C library (elf/cache.c, sysdeps/generic/dl-cache.h), version 1.1, little-endian.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import struct
from collections.abc import Iterable, Mapping

PATH = "etc/ld.so.cache"
# Flags of an entry for the C library 6, by Debian architecture.
FLAGS = {"amd64": 0x0303, "arm64": 0x0A03, "i386": 0x0003, "ppc64el": 0x0503, "s390x": 0x0403}
_DEFAULT = ("/lib", "/usr/lib")
_HEADER = struct.Struct("<17s3sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")


def search_folders(files: Mapping[str, bytes]) -> list[str]:
    """The folders, absolute, that ``/etc/ld.so.conf`` and what it includes name, then the default ones."""
    folders: list[str] = []

    def read(path: str, depth: int) -> None:
        for line in files.get(path, b"").decode("utf-8", "replace").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"] and depth < 5:
                for pattern in words[1:]:
                    target = posixpath.join("/etc", pattern).lstrip("/")
                    for name in sorted(fnmatch.filter(files, target)):
                        read(name, depth + 1)
            elif words and words[0].startswith("/"):
                folders.append(words[0].rstrip("/"))

    read("etc/ld.so.conf", 0)
    return list(dict.fromkeys([*folders, *_DEFAULT]))


def library_names(folder: str, files: Iterable[str], links: Mapping[str, str]) -> list[str]:
    """The names under which the libraries of a folder are found.

    ``files`` and the keys of ``links`` are names in that folder; ``links`` has the targets.
    """
    versioned = (target for name, target in links.items() if ".so." in name)
    reached = {posixpath.basename(target) for target in versioned if _inside(folder, target)}
    names = [name for name in files if name not in reached and re.match(r"(lib.*|ld-.*)\.so\.", name)]
    names += [name for name in links if re.match(r"(lib.*|ld-.*)\.so(\.|\Z)", name)]
    return sorted(names)


def _inside(folder: str, target: str) -> bool:
    parent = posixpath.dirname(target)
    return parent in ("", ".", folder, folder.removeprefix("/usr"))


def cache_file(entries: Iterable[tuple[str, str]], flags: int) -> bytes:
    """The cache that maps names to absolute paths; the first entry of a name counts."""
    known: dict[str, str] = {}
    for name, path in entries:
        known.setdefault(name, path)
    order = sorted(known, key=_compare_key, reverse=True)
    table_end = _HEADER.size + _ENTRY.size * len(order)
    strings = bytearray()
    table = bytearray()
    for name in order:
        text = known[name].encode("utf-8", "surrogateescape")
        value = table_end + len(strings)
        # The name is the end of the path, so that one string serves for both.
        key = value + len(text) - len(name.encode("utf-8", "surrogateescape"))
        table += _ENTRY.pack(flags, key, value, 0, 0)
        strings += text + b"\0"
    little_endian = 2
    header = _HEADER.pack(b"glibc-ld.so.cache", b"1.1", len(order), len(strings), little_endian, 0)
    return header + bytes(table) + bytes(strings)


def _compare_key(name: str) -> tuple[tuple[int, int], ...]:
    """The order of the loader's binary search: digits as numbers, and after everything else."""
    return tuple(
        (1, int(part)) if part.isdigit() else (0, ord(part)) for part in re.findall(r"[0-9]+|[^0-9]", name)
    )
