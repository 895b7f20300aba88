"""The Python of a base image: which one, where wheels go, and what is there already.

It is found by looking, in the order in which a shell would: the first ``python3`` on the ``PATH`` of the
image's configuration, which may be that of a virtual environment. Nothing is run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from afenv.documents.lock import LockedPython
from afenv.errors import AfenvError
from afenv.layers.base_tree import BaseTree
from afenv.layers.model import SYSTEM_PATH
from afenv.resolve.pypi_inputs import normalised

_NAME = re.compile(r"python3\.([0-9]+)\Z")
_LIBRARY = re.compile(r"python(3\.[0-9]+)t?\Z")
_DISTRIBUTION = re.compile(r"(?P<name>[^/]+?)-(?P<version>[0-9][^/-]*)(?:-py[0-9.]+)?\.(?:dist|egg)-info\Z")


def path_of(config: Mapping[str, object]) -> tuple[str, ...]:
    """The folders of ``PATH`` in the configuration of an image (OCI image specification, config.md)."""
    settings = config.get("config")
    variables = settings.get("Env") if isinstance(settings, dict) else None
    for text in variables if isinstance(variables, list) else ():
        name, _, value = str(text).partition("=")
        if name == "PATH":
            return tuple(part for part in value.split(":") if part.startswith("/"))
    return SYSTEM_PATH


def base_python(tree: BaseTree, path: Sequence[str]) -> LockedPython | None:
    """The Python that ``python3`` starts, else the newest on ``path``; None if there is none.

    E106 if there is one whose version cannot be read from its files.
    """
    for folder in path:
        program = f"{folder.strip('/')}/python3"
        if tree.is_file(program):
            found = _python(tree, folder, "python3")
            if found is not None:
                return found
    minors = {
        (int(match[1]), -number): folder
        for number, folder in enumerate(path)
        for name in tree.names(folder.strip("/"))
        if (match := _NAME.match(name))
    }
    for minor, number in sorted(minors, reverse=True):
        found = _python(tree, minors[minor, number], f"python3.{minor}")
        if found is not None:
            return found
    return None


def _python(tree: BaseTree, folder: str, name: str) -> LockedPython | None:
    """The Python that a program is; None if it has no standard library beside it."""
    real = tree.real(f"{folder.strip('/')}/{name}")
    if real is None or real not in tree.files:
        return None
    prefix = posixpath.dirname(posixpath.dirname(real))
    for library in ("lib64", "lib"):
        for entry in _libraries(tree, f"{prefix}/{library}".lstrip("/"), posixpath.basename(real)):
            minor = _LIBRARY.match(posixpath.basename(entry))
            assert minor is not None
            outside = posixpath.dirname(
                folder.strip("/")
            )  # of a virtual environment, whose program is a link
            venv = tree.is_file(f"{outside}/pyvenv.cfg")
            return LockedPython(
                version=_version(tree, real, prefix, minor[1]),
                executable=_executable(tree, folder, name, minor[1], real),
                **(_own_places(outside, minor[1]) if venv else _places(tree, prefix, entry, minor[1])),
            )
    return None


def _libraries(tree: BaseTree, folder: str, program: str) -> list[str]:
    """The folders of the standard library that the program may be meant to use."""
    named = re.search(r"(3\.[0-9]+)", program)
    found = []
    for name in tree.names(folder):
        match = _LIBRARY.match(name)
        has = match and tree.is_file(f"{folder}/{name}/os.py")
        if match and has and (named is None or match[1] == named[1]):
            found.append(f"{folder}/{name}")
    return found if named is not None or len(found) == 1 else []


def _executable(tree: BaseTree, folder: str, name: str, minor: str, real: str) -> str:
    """The path that scripts name: the one with the version in it where there is one."""
    versioned = f"{folder.rstrip('/')}/python{minor}"
    return versioned if tree.real(versioned.strip("/")) == real else f"{folder.rstrip('/')}/{name}"


def _version(tree: BaseTree, real: str, prefix: str, minor: str) -> str:
    candidates = [real]
    for library in ("lib64", "lib"):
        top = f"{prefix}/{library}".lstrip("/")
        folders = [top, *(f"{top}/{name}" for name in tree.names(top) if "-linux-" in name)]
        candidates += [
            f"{folder}/{name}"
            for folder in folders
            for name in tree.names(folder)
            if name.startswith(f"libpython{minor}")
        ]
    for candidate in candidates:
        version = tree.versions.get(tree.real(candidate) or "")
        if version is not None and version.startswith(f"{minor}."):
            return version
    raise AfenvError(
        "E106",
        f"the base image has a Python {minor} at /{real}, whose full version its files do not tell",
        remedy="Take Python from conda, or choose another base.",
    )


def _places(tree: BaseTree, prefix: str, library: str, minor: str) -> dict[str, str]:
    """Where wheels and their commands go.

    A distribution's own Python (that of ``/usr``) looks into ``/usr/local`` for what the administrator
    installs, if its ``site`` module says so: Debian's in ``dist-packages``, Fedora's and its kin in
    ``site-packages``. Any other Python has one place.
    """
    site = tree.read(f"{library}/site.py") or b""
    if prefix == "usr" and b"/usr/local" in site:
        name = "dist-packages" if b"dist-packages" in site else "site-packages"
        return {"site_packages": f"/usr/local/lib/python{minor}/{name}", "scripts": "/usr/local/bin"}
    return _own_places(prefix, minor)


def _own_places(prefix: str, minor: str) -> dict[str, str]:
    start = f"/{prefix}" if prefix else ""
    return {
        "site_packages": f"{start}/lib/python{minor}/site-packages",
        "scripts": f"{start}/bin",
    }


def base_distributions(tree: BaseTree, python: LockedPython) -> dict[str, str]:
    """The distributions in the folder that wheels go into: name (normalised) and version."""
    found = {}
    for name in tree.names(python.site_packages.strip("/")):
        match = _DISTRIBUTION.match(name)
        if match:
            found[normalised(match["name"])] = match["version"]
    return dict(sorted(found.items()))
