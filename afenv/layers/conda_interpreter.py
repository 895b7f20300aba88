"""The Python of a conda environment, made to run on this host.

Conda's programs find their libraries relative to themselves, so the package ``python`` runs from any
folder; bytecode depends on it alone. Its dependencies are unpacked only where it does not start without
them, and of them only the libraries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedConda
from afenv.errors import AfenvError
from afenv.layers.conda_archive import open_conda
from afenv.layers.conda_order import dependency_name
from afenv.layers.conda_python import CondaPython
from afenv.layers.interpreter import Interpreter, minor_version, probe, unpacked_folder
from afenv.store.content import ContentStore

Bring = Callable[[Sequence[LockedConda]], Mapping[str, Path]]

_LIBRARY = re.compile(r"lib/[^/]+\.so(?:\.[^/]*)?\Z")
_PYTHON = re.compile(
    r"bin/python[0-9.]*t?\Z|lib/python[^/]+/(?:[^/]+\.py|(?:encodings|importlib|collections|re)/.+\.py)\Z"
)


def conda_interpreter_id(python: CondaPython) -> str:
    """The identity of the interpreter, from the lock alone."""
    return sha256_bytes(canonical.compact(["conda-interpreter", 1, python.package.file.sha256]))


def prepare_conda_interpreter(
    python: CondaPython, packages: Sequence[LockedConda], bring: Bring, store: ContentStore
) -> Interpreter:
    """Unpack the Python into the store, unless it is there, and try it.

    ``bring`` gives the files of packages by their sha256. E404 if it cannot run on this host.
    """
    try:
        return _prepare(python, [python.package], bring, store)
    except AfenvError as error:
        if error.code != "E404":
            raise
    return _prepare(python, needed_packages(python, packages), bring, store)


def needed_packages(python: CondaPython, packages: Sequence[LockedConda]) -> list[LockedConda]:
    """Python and all that it depends on, by name; pure."""
    by_name = {package.name: package for package in packages}
    found = {"python": python.package}
    todo = [python.package]
    while todo:
        for specification in todo.pop().depends:
            name = dependency_name(specification)
            if name in by_name and name not in found:
                found[name] = by_name[name]
                todo.append(by_name[name])
    return [found[name] for name in sorted(found)]


def _prepare(
    python: CondaPython, packages: Sequence[LockedConda], bring: Bring, store: ContentStore
) -> Interpreter:
    identity = conda_interpreter_id(python)
    form = sha256_bytes(canonical.compact([identity, [package.file.sha256 for package in packages]]))

    def unpack(work: Path) -> None:
        paths = bring(packages)
        for package in packages:
            _unpack_package(package, paths[package.file.sha256], work)

    folder = unpacked_folder(form, unpack, store)
    interpreter = Interpreter(
        id=identity,
        version=minor_version(python.version),
        command=(str(folder / python.executable),),
        variables={
            "PYTHONHOME": str(folder),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",
            "LD_LIBRARY_PATH": str(folder / "lib"),
        },
    )
    probe(interpreter)
    return interpreter


def _unpack_package(package: LockedConda, path: Path, root: Path) -> None:
    """The libraries of a package and, of Python, what it needs to start; links within one folder."""
    is_python = package.name == "python"
    links: list[tuple[Path, str]] = []
    for member in open_conda(path, package.file.file_name, sha256=package.file.sha256).members():
        if not (_LIBRARY.match(member.path) or (is_python and _PYTHON.match(member.path))):
            continue
        target = root / member.path
        if target.exists():
            continue
        if member.kind == "file":
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for chunk in member.chunks:
                    file.write(chunk)
            target.chmod(0o755 if member.mode & 0o111 else 0o644)
        elif member.kind == "symlink" and "/" not in member.linkname and member.linkname not in (".", ".."):
            links.append((target, member.linkname))
    for target, name in links:
        if not target.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(name)
