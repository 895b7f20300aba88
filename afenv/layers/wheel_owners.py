"""Which package owns a path that several install; decided before a byte is written."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from afenv.errors import AfenvError


def plan_owners(
    installed: Mapping[str, Mapping[str, tuple[int, int]]], owners: Mapping[str, str], site: str
) -> dict[str, frozenset[str]]:
    """Which paths each package leaves to another; pure.

    ``installed`` gives, by the name of the package, size and CRC-32 of what it puts at each path.
    ``owners`` names the package that wins, by path relative to ``site`` (the folder of packages), or by
    absolute path in the image. Equal content goes to the first package by name. E401, with all paths at
    once, where contents differ and no owner is named, or one path lies inside another that is a file.
    """
    chosen = {posixpath.normpath(posixpath.join("/" + site, path))[1:]: name for path, name in owners.items()}
    first: dict[str, str] = {}
    shared: dict[str, list[str]] = {}
    for package in sorted(installed):
        for path in installed[package]:
            other = first.setdefault(path, package)
            if other is not package:
                shared.setdefault(path, [other]).append(package)
    problems: list[str] = []
    lost: dict[str, set[str]] = {}
    for path, packages in sorted(shared.items()):
        winner = chosen.get(path)
        if winner not in packages:
            if len({installed[package][path] for package in packages}) > 1:
                problems.append(f"{path} ({' and '.join(packages)})")
            winner = packages[0]
        for package in packages:
            if package != winner:
                lost.setdefault(package, set()).add(path)
    folders = {path.rpartition("/")[0] for path in first}
    while folders:
        problems += [
            f"{path} ({first[path]}: a file and a folder)" for path in sorted(folders & first.keys())
        ]
        folders = {path.rpartition("/")[0] for path in folders} - {""}
    if problems:
        more = f", and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise AfenvError("E401", "packages install different files: " + ", ".join(problems[:10]) + more)
    return {package: frozenset(paths) for package, paths in lost.items()}
