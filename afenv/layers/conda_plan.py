"""What has to be known of all conda packages of an environment before one is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.conda_open import OpenConda, open_package
from afenv.layers.conda_order import installation_order, plan_owners

_LINK_SCRIPTS = ("pre-link", "post-link")


def open_packages(
    environment: LockedEnvironment, paths: Mapping[str, Path], jobs: int
) -> dict[str, OpenConda]:
    """The packages of an environment with their metadata, by name; raises as ``open_package`` does.

    E408, naming all of them, if packages have scripts that run when they are installed, and may not.
    """

    def read(package_number: int) -> OpenConda:
        package = environment.conda[package_number]
        # whoever brings the files has checked their digests
        return open_package(package, paths[package.file.sha256], environment, check=False)

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        opened = {one.package.name: one for one in pool.map(read, range(len(environment.conda)))}
    check_link_scripts(opened, environment.post_link)
    return opened


def check_link_scripts(opened: Mapping[str, OpenConda], allowed: Sequence[str] = ()) -> None:
    """Refuse packages that run a script when they are installed; E408 names them.

    The post-link scripts of the packages in ``allowed`` are run later.
    """
    found = [
        f"{name} ({script})"
        for name, one in sorted(opened.items())
        for script in _LINK_SCRIPTS
        if f"bin/.{name}-{script}.sh" in one.places.values()
        and not (script == "post-link" and name in allowed)
    ]
    if found:
        raise AfenvError("E408", f"packages have scripts that run on installation: {', '.join(found)}")


def conda_owners(
    environment: LockedEnvironment, opened: Mapping[str, OpenConda]
) -> dict[str, frozenset[str]]:
    """Which paths, relative to the prefix, each package leaves to another; E401."""
    order = [package.name for package in installation_order(environment.conda)]
    installed = {name: one.installed() for name, one in opened.items()}
    lost = plan_owners(installed, order)
    return {name: paths | _bytecode_of(paths, installed[name]) for name, paths in lost.items()}


def _bytecode_of(lost: frozenset[str], installed: Iterable[str]) -> frozenset[str]:
    """The bytecode that a package has for modules that it leaves to another."""
    return frozenset(path for path in installed if path.endswith(".pyc") and _source_of(path) in lost)


def _source_of(pyc: str) -> str:
    folder, _, name = pyc.rpartition("/")
    return f"{folder.removesuffix('__pycache__')}{name.partition('.')[0]}.py"


def check_wheels(opened: Mapping[str, OpenConda], wheels: Mapping[str, Iterable[str]]) -> None:
    """No wheel may replace a file of a conda package; ``wheels`` are paths in the image. E401."""
    owner: dict[str, str] = {}
    for name, one in opened.items():
        root = one.prefix.strip("/")
        owner |= {f"{root}/{place}": name for place, folder in one.installed().items() if not folder}
    problems = [
        f"{path} (conda's {owner[path]} and the wheel {name})"
        for name, paths in sorted(wheels.items())
        for path in paths
        if path in owner
    ]
    if problems:
        more = f", and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise AfenvError(
            "E401",
            "wheels would replace files of conda packages: " + ", ".join(sorted(problems)[:10]) + more,
            remedy="Take the package from conda or from PyPI, and remove it from the other section.",
        )


def tree_of(opened: Mapping[str, OpenConda]) -> Callable[[str], Literal["file", "folder", ""]]:
    """What lies at a path relative to the prefix, by the metadata of all packages."""
    files: set[str] = set()
    folders: set[str] = {"", "conda-meta"}
    for one in opened.values():
        for place, is_folder in one.installed().items():
            (folders if is_folder else files).add(place)
            parent = place.rpartition("/")[0]
            while parent not in folders:
                folders.add(parent)
                parent = parent.rpartition("/")[0]

    def exists(path: str) -> Literal["file", "folder", ""]:
        return "file" if path in files else "folder" if path in folders else ""

    return exists
