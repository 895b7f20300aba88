"""A base image in a lock: pulled, looked at, and given Debian packages where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from afenv.documents.lock import LockedBase, LockedDeb, LockedEnvironment, LockedPython
from afenv.documents.manifest import Environment, OciBase
from afenv.errors import AfenvError
from afenv.workflow.base_part import GLIBC, MANYLINUX_LIBRARIES, BasePart, may_have_wheels, parsed_glibc
from afenv.workflow.project import Project

if TYPE_CHECKING:
    from afenv.oci.base import StoredBase

OLDEST_PYTHON = 8  # minor version: neither uv nor our bytecode knows older ones


def image_part(
    project: Project,
    environment: Environment,
    wanted: OciBase,
    as_of: datetime,
    old: LockedEnvironment | None,
    update: frozenset[str] | None,
    known: LockedBase | None,
) -> BasePart:
    """What an image brings as a base; arguments and errors are those of ``lock_base``."""
    from afenv.layers import base_facts
    from afenv.resolve.base_python import base_distributions, base_python, path_of
    from afenv.workflow.base import bring_base, pull_base

    wheels = may_have_wheels(environment)
    if known is not None:
        base, opened = known, bring_base(project, known, environment.platform)
    else:
        base, opened = pull_base(project, wanted.reference, environment.platform)
    tree = opened.tree
    if environment.conda is not None and tree.is_folder("opt/conda/conda-meta"):
        raise AfenvError(
            "E112",
            "the base image has a conda environment in /opt/conda, where the manifest's packages would go",
            place=wanted.reference,
            remedy="Choose a base without conda, or take the packages from PyPI.",
        )
    packages = wanted.packages
    suite = base_facts.debian_suite(tree)
    if packages and suite is None:
        raise AfenvError(
            "E114",
            f"Debian packages go on Debian ({', '.join(GLIBC)}); the base image is {base.system or 'not'}",
            place=wanted.reference,
            path="base.packages",
        )
    if wheels and suite is not None and not _has_library(opened, "libstdc++.so.6"):
        packages = (*packages, *MANYLINUX_LIBRARIES)
    part = BasePart(
        name=f"the base {wanted.reference}",
        base=base,
        suite=suite if packages else None,
        glibc=parsed_glibc(base.glibc),
        has_musl=base_facts.has_musl(tree),
    )
    if packages and suite is not None:
        part = _with_debs(project, environment, part, opened, packages, as_of, old, update)
    if part.python is None:
        config: Any = json.loads(project.store.read(base.config))
        python = base_python(tree, path_of(config))
        if python is not None and _is_too_old(python):
            if wheels:
                raise AfenvError(
                    "E106",
                    f"wheels need Python 3.{OLDEST_PYTHON} or newer, and the base image has {python.version}",
                    place=wanted.reference,
                    remedy="Take Python from conda, or choose a newer base.",
                )
        elif python is not None:
            part = replace(part, python=python, provided=base_distributions(tree, python))
    return part


def _with_debs(
    project: Project,
    environment: Environment,
    part: BasePart,
    opened: StoredBase,
    packages: tuple[str, ...],
    as_of: datetime,
    old: LockedEnvironment | None,
    update: frozenset[str] | None,
) -> BasePart:
    from afenv.resolve.base_debian import installed_debs, resolve_on_base
    from afenv.resolve.debian.resolver import ARCHITECTURES
    from afenv.resolve.python import glibc_version, locked_python
    from afenv.store.fetch import Fetcher

    assert part.suite is not None
    installed = installed_debs(opened.tree, ARCHITECTURES.get(environment.platform, ""))
    found = resolve_on_base(
        part.suite,
        packages,
        installed,
        environment.platform,
        as_of,
        Fetcher(project.store, project.settings, quiet=project.quiet),
        project.store,
        locked=old.debs if old else (),
        update=update,
    )
    part = replace(part, indexes=found.indexes, debs=found.debs)
    names = {deb.name for deb in found.debs}
    if "libc6" in names:
        part = replace(part, glibc=glibc_version(found.debs))
    if any(name.startswith(("python3.", "libpython3.")) for name in names):
        part = replace(part, python=locked_python([*_without(installed.values(), names), *found.debs]))
    return part


def _without(debs: Collection[LockedDeb], names: Collection[str]) -> list[LockedDeb]:
    return [deb for deb in debs if deb.name not in names]


def _is_too_old(python: LockedPython) -> bool:
    return int(python.version.split(".")[1]) < OLDEST_PYTHON


def _has_library(opened: StoredBase, name: str) -> bool:
    folders = ("usr/lib", "usr/lib64", "lib", "lib64")
    tree = opened.tree
    places = [*folders, *(f"{top}/{one}" for top in folders for one in tree.names(top) if "-linux-" in one)]
    return any(tree.is_file(f"{place}/{name}") for place in places)
