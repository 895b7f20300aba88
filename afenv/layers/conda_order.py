"""In which order conda packages go into an environment, and so which one owns a path that several have.

As in conda and mamba: dependencies first, and a later package replaces what an earlier one had at the
same path. Ties are broken as conda breaks them, so that the result is the one that users know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from afenv.documents.lock import LockedConda
from afenv.errors import AfenvError

_NAME = re.compile(r"\s*(?:[^\s\[]*::)?([^\s=<>!~\[,;]+)")


def dependency_name(specification: str) -> str:
    """The package that a match specification asks for: ``numpy >=1.2`` gives ``numpy``."""
    match = _NAME.match(specification)
    return match[1].lower() if match else ""


def installation_order(packages: Sequence[LockedConda]) -> list[LockedConda]:
    """The packages, dependencies first.

    First those that neither need nor are needed, by name; then, again and again, the one with the fewest
    dependencies left, by channel, folder, name, version and build. Cycles are broken by that rule too,
    but for Python and pip, where Python goes first.
    """
    by_name = {package.name: package for package in packages}
    needs = {
        name: {dependency_name(one) for one in package.depends} & by_name.keys() - {name}
        for name, package in by_name.items()
    }
    if "python" in needs:
        needs["python"].discard("pip")
    needed = set().union(*needs.values())
    alone = sorted(name for name, others in needs.items() if not others and name not in needed)
    order = [by_name[name] for name in alone]
    titles = {name: _title(package) for name, package in by_name.items()}
    left = {name: set(others) for name, others in needs.items() if name not in alone}
    while left:
        first = min(left, key=lambda name: (len(left[name]), titles[name]))
        del left[first]
        for others in left.values():
            others.discard(first)
        order.append(by_name[first])
    return order


def _title(package: LockedConda) -> str:
    return f"{package.channel}/{package.subdir}::{package.name}-{package.version}-{package.build}"


def plan_owners(
    installed: Mapping[str, Mapping[str, bool]], order: Sequence[str]
) -> dict[str, frozenset[str]]:
    """Which paths each package leaves to a later one; pure.

    ``installed`` gives, by the name of the package, its paths, and for each whether it is a folder;
    ``order`` is that of :func:`installation_order`. Folders may be shared. E401 where a path of one
    package lies inside a path of another that is no folder: conda would write through the link, or fail.
    """
    owner: dict[str, str] = {}
    lost: dict[str, set[str]] = {}
    folders: dict[str, str] = {}
    for name in order:
        for path, is_folder in installed[name].items():
            if is_folder:
                folders[path] = name
                continue
            other = owner.get(path)
            if other is not None:
                lost.setdefault(other, set()).add(path)
            owner[path] = name
    problems = {f"{path} ({owner[path]} and {folders[path]})" for path in owner.keys() & folders.keys()}
    parents = {path.rpartition("/")[0]: name for path, name in [*owner.items(), *folders.items()]}
    while parents:
        problems |= {f"{path} ({owner[path]} and {name})" for path, name in parents.items() if path in owner}
        parents = {path.rpartition("/")[0]: name for path, name in parents.items() if path}
    if problems:
        first = ", ".join(sorted(problems)[:10])
        raise AfenvError("E401", f"packages have a file or link where others have a folder: {first}")
    return {name: frozenset(paths) for name, paths in lost.items()}
