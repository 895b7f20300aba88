"""The Python of a base image, made to run on this host without root.

Of the base, the interpreter, the libraries that every Python needs and the core of its standard library are
unpacked; Debian packages of the environment that are added to the base come on top. It is started
through the base's own dynamic loader, like those of :mod:`afenv.layers.interpreter`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedBase, LockedDeb, LockedEnvironment, LockedPython
from afenv.errors import AfenvError
from afenv.layers.base_facts import LOADERS
from afenv.layers.base_tree import BaseTree, OpenBase, base_identity
from afenv.layers.interpreter import (
    Interpreter,
    minor_version,
    needed_debs,
    probe,
    unpack_deb,
    unpacked_folder,
)
from afenv.store.content import ContentStore

_LIBRARY = re.compile(r"lib[^/]*\.so(?:\.[0-9.]+)?\Z|ld-[^/]*\.so(?:\.[0-9]+)?\Z")
_FIRST = re.compile(
    r"lib(?:c|m|pthread|dl|util|rt|crypt|gcc_s|z|expat|python3\.[0-9]+[a-z]*)(?:-[0-9.]+)?\.so(?:\.[0-9.]+)?\Z"
    r"|ld-[^/]*\.so(?:\.[0-9]+)?\Z"
)
_CORE = re.compile(r"[^/]+\.py\Z|(?:encodings|importlib|collections|re)/.+\.py\Z")


def base_interpreter_id(base: LockedBase, python: LockedPython, debs: Sequence[LockedDeb]) -> str:
    """The identity of the interpreter, from the lock alone."""
    added = [deb.file.sha256 for deb in needed_debs(debs, python.version)]
    return sha256_bytes(
        canonical.compact(["base-interpreter", 1, base_identity(base), python.executable, added])
    )


def prepare_base_interpreter(
    environment: LockedEnvironment, base: OpenBase, paths: Mapping[str, Path], store: ContentStore
) -> Interpreter:
    """Unpack the Python of the environment into the store, unless it is there, and try it.

    ``paths`` leads from the sha256 of the packages of :func:`needed_debs` to their files. E404 if it cannot
    run on this host.
    """
    try:
        return _prepare(environment, base, paths, store, every_library=False)
    except AfenvError as error:
        if error.code != "E404":
            raise
    return _prepare(environment, base, paths, store, every_library=True)


def _prepare(
    environment: LockedEnvironment,
    base: OpenBase,
    paths: Mapping[str, Path],
    store: ContentStore,
    *,
    every_library: bool,
) -> Interpreter:
    python = environment.python
    assert environment.base is not None and python is not None
    identity = base_interpreter_id(environment.base, python, environment.debs)
    debs = needed_debs(environment.debs, python.version)

    def unpack(work: Path) -> None:
        for path, data in base.contents(_wanted(base.tree, python, every_library)).items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o755)
        _link_libraries(base.tree, work)
        for deb in debs:
            unpack_deb(paths[deb.file.sha256], deb.file.sha256, work, replace=True)

    form = identity if not every_library else sha256_bytes(canonical.compact([identity, "every library"]))
    folder = unpacked_folder(form, unpack, store)
    real = base.tree.real(python.executable.strip("/")) or ""
    program = folder / (real if (folder / real).is_file() else python.executable.strip("/"))
    interpreter = Interpreter(
        id=identity,
        version=minor_version(python.version),
        command=(*_loader(folder, environment.platform), str(program)),
        variables={
            "PYTHONHOME": str(program.parent.parent),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",
        },
    )
    probe(interpreter)
    return interpreter


def _library_folders(tree: BaseTree) -> list[str]:
    """The real folders in which libraries lie."""
    found = []
    for top in ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib"):
        for folder in (top, *(f"{top}/{name}" for name in tree.names(top) if "-linux-" in name)):
            real = tree.real(folder)
            if real and real in tree.folders and real not in found:
                found.append(real)
    return found


def _wanted(tree: BaseTree, python: LockedPython, every_library: bool) -> list[str]:
    """The regular files of the base that are needed."""
    pattern = _LIBRARY if every_library else _FIRST
    real = tree.real(python.executable.strip("/"))
    prefix = posixpath.dirname(posixpath.dirname(real)) if real else ""
    found = {real} if real in tree.files else set()
    for folder in dict.fromkeys([*_library_folders(tree), f"{prefix}/lib"]):
        for name in tree.names(folder):
            path = tree.real(f"{folder}/{name}")
            if pattern.match(name) and path in tree.files:
                found.add(path)
    for top in ("lib", "lib64"):
        library = f"{prefix}/{top}/python{minor_version(python.version)}".lstrip("/")
        found |= {path for path in tree.walk(library) if _CORE.match(path[len(library) + 1 :])}
    return sorted(path for path in found if path is not None)


def _link_libraries(tree: BaseTree, work: Path) -> None:
    """The links to libraries that were unpacked, by the name that programs ask for."""
    for path, target in sorted(tree.links.items()):
        real = tree.real(path)
        name = posixpath.basename(path)
        place = work / path
        if real is None or not _LIBRARY.match(name) or not (work / real).is_file() or not target:
            continue
        if place.parent.is_dir() and not place.exists():
            place.symlink_to(posixpath.relpath(real, posixpath.dirname(path)))


def _loader(folder: Path, platform: str) -> tuple[str, ...]:
    """The command words that start a program with the libraries of the folder."""
    if platform not in LOADERS:
        raise AfenvError("E404", f"Python for {platform} cannot run here")
    name = posixpath.basename(LOADERS[platform][0])
    places = sorted({path.parent for path in folder.rglob("lib*.so*")}, key=str)
    loaders = sorted(folder.rglob(name), key=lambda path: (len(path.parts), str(path)))
    if not loaders:
        raise AfenvError("E404", f"the base image has no dynamic loader {name}")
    return str(loaders[0]), "--library-path", ":".join(map(str, places))
