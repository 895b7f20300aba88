"""Where ``noarch: python`` packages go, and the commands that are made for them.

Such a package is built without knowing the Python that it will run with: what lies below
``site-packages/`` and ``python-scripts/`` moves to that Python's folders, and commands are written for
its entry points. Sources: CEP 17 and conda's documentation of noarch packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from afenv.documents.lock import LockedConda
from afenv.errors import AfenvError
from afenv.layers.conda_order import dependency_name
from afenv.layers.conda_paths import EntryPoint
from afenv.layers.conda_prefix import MAX_SHEBANG

PREFIX = "/opt/conda"  # where the environment goes if the lock does not say

_VERSION = re.compile(r"(3\.[0-9]+)(?:\.|\Z)")
_SITE = re.compile(r"[A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaPython:
    """The Python of a conda environment; paths are relative to the prefix."""

    version: str  # full version
    executable: str
    site_packages: str
    package: LockedConda

    @property
    def library(self) -> str:
        """The folder of the standard library."""
        return self.site_packages.rpartition("/")[0]

    def place(self, path: str) -> str:
        """Where the ``path`` of a ``noarch: python`` package goes."""
        folder, slash, rest = path.partition("/")
        if slash and folder == "site-packages":
            return f"{self.site_packages}/{rest}"
        if slash and folder == "python-scripts":
            return f"bin/{rest}"
        return path


def conda_python(packages: Iterable[LockedConda]) -> CondaPython | None:
    """The Python among the packages; E303 if its version or its folder is not understood."""
    package = next((package for package in packages if package.name == "python"), None)
    if package is None:
        return None
    match = _VERSION.match(package.version)
    if match is None:
        raise AfenvError("E303", f"python {package.version} is not a version of Python 3")
    site = package.record.get("python_site_packages_path") or f"lib/python{match[1]}/site-packages"
    if not isinstance(site, str) or not _SITE.match(site) or ".." in site.split("/"):
        raise AfenvError("E304", f"the package python puts other packages into {site!r}")
    return CondaPython(
        version=package.version, executable=f"bin/python{match[1]}", site_packages=site, package=package
    )


def uses_python(package: LockedConda) -> bool:
    """Whether what the package becomes depends on the environment's Python; from the lock alone."""
    return (
        package.noarch == "python"
        or package.name == "python"
        or any(dependency_name(one) == "python" for one in package.depends)
    )


def command_text(entry: EntryPoint, python: CondaPython, prefix: str) -> bytes:
    """The text of a command, as rattler writes it; ``prefix`` is that in the image."""
    name = entry.function.partition(".")[0]
    return (
        f"{_shebang(f'{prefix}/{python.executable}')}\n"
        "# -*- coding: utf-8 -*-\n"
        "import re\n"
        "import sys\n\n"
        f"from {entry.module} import {name}\n\n"
        "if __name__ == '__main__':\n"
        "\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])\n"
        f"\tsys.exit({entry.function}())\n"
    ).encode()


def _shebang(executable: str) -> str:
    """A first line; where the system would not read it, one that ``sh`` and Python both understand."""
    if len(executable) > MAX_SHEBANG - 2 or " " in executable:
        return f"#!/bin/sh\n'''exec' \"{executable}\" \"$0\" \"$@\" #'''"
    return f"#!{executable}"
