"""What conda packages bring for PyPI: the Python, and the distributions that are installed with it.

The name of a conda package need not be that of the distribution in it (``pytorch`` brings ``torch``), and one
package may bring several. So the archive is asked: each folder ``NAME-VERSION.dist-info`` (or ``.egg-info``)
of site-packages is a distribution. A Python package without any counts under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from afenv.documents.lock import LockedConda, LockedPython
from afenv.errors import AfenvError
from afenv.layers.conda_archive import open_conda
from afenv.layers.conda_paths import read_info
from afenv.layers.conda_python import conda_python
from afenv.resolve.conda.records import is_python_package
from afenv.resolve.pypi_inputs import normalised
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher

_KEY = "conda-distributions"
_DISTRIBUTION = re.compile(
    r"(?P<name>[^/]+?)-(?P<version>[0-9][^/-]*)(?:-py[0-9.]+)?\.(?:dist|egg)-info(?:/|\Z)"
)
_SITE = re.compile(r"(?:lib/python[0-9.]+t?/)?site-packages/")
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def locked_conda_python(packages: Iterable[LockedConda], prefix: str) -> LockedPython | None:
    """The Python that conda packages install below ``prefix``, or None if there is none."""
    python = conda_python(packages)
    if python is None:
        return None
    return LockedPython(
        version=python.version,
        executable=f"{prefix}/{python.executable}",
        site_packages=f"{prefix}/{python.site_packages}",
        scripts=f"{prefix}/bin",
    )


def check_for_pypi(packages: Iterable[LockedConda]) -> None:
    """E016 if the Python among the packages is one that wheels are not chosen for yet."""
    for package in packages:
        if package.name == "python" and ("pypy" in package.build or package.build.endswith("t")):
            other = "PyPy" if "pypy" in package.build else "free-threaded Python"
            raise AfenvError(
                "E016",
                f"PyPI packages with {other} ({package.version} {package.build}) are not supported yet",
            )


def distributions(
    packages: Sequence[LockedConda], settings: Settings, store: ContentStore, *, quiet: bool = False
) -> dict[str, str]:
    """Name (normalised) and version of the Python distributions in conda packages.

    The archives are downloaded into the store unless they were read before. Errors are those of downloads,
    and E303.
    """
    found: dict[str, str] = {}
    unread = []
    for package in packages:
        if not is_python_package(package):
            continue
        known = store.load_key(_KEY, package.file.digest)
        if isinstance(known, dict):
            found |= known
        else:
            unread.append(package)
    if unread:
        fetcher = Fetcher(store, settings, quiet=quiet)
        paths = fetcher.files([package.file for package in unread], title="Downloading Python packages")
        for package, path in zip(unread, paths, strict=True):
            inside = _inside(package, path)
            store.save_key(_KEY, package.file.digest, inside)
            found |= inside
    return dict(sorted(found.items()))


def _inside(package: LockedConda, archive: Path) -> dict[str, str]:
    name = package.file.file_name
    paths = read_info(package, open_conda(archive, name).info(), name).paths
    return distributions_of(package, paths)


def distributions_of(package: LockedConda, paths: Iterable[str]) -> dict[str, str]:
    """The distributions that the paths of a package show."""
    found, has_modules = {}, False
    for path in paths:
        site = _SITE.match(path)
        if site is None:
            continue
        has_modules = True
        match = _DISTRIBUTION.match(path, site.end())
        if match:
            found[normalised(match["name"])] = _version(match["version"])
    if not found and has_modules:
        found[normalised(package.name)] = _version(package.version)
    return found


def _version(text: str) -> str:
    """A version in the form of PEP 440, or what of it is one."""
    from packaging.version import InvalidVersion, Version

    for candidate in (text, text.replace("_", "-")):
        try:
            return str(Version(candidate))
        except InvalidVersion:
            continue
    release = _RELEASE.match(text)
    return release[0] if release else "0"
