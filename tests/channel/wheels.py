"""Wheels as conda packages: pure ones for any Python (``noarch: python``), compiled ones for one."""

from __future__ import annotations

import configparser
import email
import email.message
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packages import PLACEHOLDER, File, Package
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toys import PYTHON_ABI

# conda-forge's names, where they are others than PyPI's
NAMES = {"tzdata": "python-tzdata", "xxhash": "python-xxhash", "typing-extensions": "typing_extensions"}
MARKERS = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
    "extra": "",
}
SITE = "lib/python3.11/site-packages/"

SCRIPT = """\
#!{prefix}/bin/python3.11
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {first}

if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""


def conda_name(name: str) -> str:
    """conda's name of a PyPI package."""
    normalised = canonicalize_name(name)
    return NAMES.get(normalised, normalised)


def _depends(metadata: email.message.Message) -> Iterator[str]:
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(MARKERS):
            continue
        bounds = ",".join(sorted(str(part) for part in requirement.specifier))
        yield f"{conda_name(requirement.name)} {bounds}".strip()


def _entry_points(text: str) -> tuple[str, ...]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(text)
    if not parser.has_section("console_scripts"):
        return ()
    return tuple(f"{name} = {target}" for name, target in sorted(parser.items("console_scripts")))


def _script(entry_point: str) -> File:
    name, _, target = entry_point.partition(" = ")
    module, _, function = target.partition(":")
    text = SCRIPT.format(
        prefix=PLACEHOLDER, module=module, function=function.strip(), first=function.split(".")[0].strip()
    )
    return File(path=f"bin/{name}", content=text.encode(), mode=0o755, prefix="text")


def _place(name: str, content: bytes, *, pure: bool) -> File:
    site = "site-packages/" if pure else SITE
    folder, _, rest = name.partition("/")
    if folder.endswith(".data"):
        kind, _, rest = rest.partition("/")
        if kind == "scripts":
            first, _, body = content.partition(b"\n")
            prefix = None
            if first.startswith(b"#!python"):
                content, prefix = f"#!{PLACEHOLDER}/bin/python3.11\n".encode() + body, "text"
            place = "python-scripts/" if pure else "bin/"
            return File(path=place + rest, content=content, mode=0o755, prefix=prefix)
        place = {"purelib": site, "platlib": site, "data": "", "headers": "include/python3.11/"}[kind]
        return File(path=place + rest, content=content)
    return File(path=site + name, content=content)


def wheel_package(path: Path, file_name: str) -> Package:
    """The conda package of a wheel."""
    pure = file_name.endswith("-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points: tuple[str, ...] = ()
        if f"{info}/entry_points.txt" in names:
            entry_points = _entry_points(archive.read(f"{info}/entry_points.txt").decode())
        files = [
            _place(name, archive.read(name), pure=pure)
            for name in sorted(names)
            if name not in (f"{info}/RECORD", f"{info}/INSTALLER")
        ]
    files.append(_place(f"{info}/INSTALLER", b"conda\n", pure=pure))
    if not pure:
        files += [_script(entry_point) for entry_point in entry_points]
    depends = ("python >=3.11",) if pure else (*PYTHON_ABI, "libstdcxx", "libgcc", "__glibc >=2.28,<3.0.a0")
    return Package(
        name=conda_name(str(metadata["Name"])),
        version=str(metadata["Version"]),
        build="pyhwhl_0" if pure else "py311hwhl_0",
        subdir="noarch" if pure else "linux-64",
        noarch="python" if pure else None,
        depends=(*depends, *sorted(set(_depends(metadata)))),
        entry_points=entry_points if pure else (),
        summary=str(metadata["Summary"] or ""),
        files=tuple(files),
    )
