"""The base of an environment's lock: Debian packages, an image, or a C library alone; and what it brings.

What other resolvers need to know of a base is its C library and its Python; where these come from is decided
here.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from afenv.documents.lock import (
    LockedBase,
    LockedConda,
    LockedDeb,
    LockedEnvironment,
    LockedIndex,
    LockedPython,
)
from afenv.documents.manifest import CondaBase, DebianBase, Environment, OciBase
from afenv.errors import AfenvError
from afenv.workflow.project import Project

if TYPE_CHECKING:
    from afenv.oci.base import StoredBase

# Libraries that every manylinux wheel may expect of its host (PEP 600 and auditwheel's policy) and that a
# Debian base with Python alone lacks. Those of X11 and OpenGL, which the policy names too, are left to the
# manifest.
MANYLINUX_LIBRARIES = ("libstdc++6",)
# The C library of each Debian release, the oldest first.
GLIBC = {"bullseye": (2, 31), "bookworm": (2, 36), "trixie": (2, 41)}
OLDEST_PYTHON = 8  # minor version: neither uv nor our bytecode knows older ones
CONDA_SHELLS = ("bash", "dash", "busybox")


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePart:
    """What a base comes to in a lock, and what it means for the packages on top of it.

    ``glibc`` is None where there is no GNU C library; ``provided`` has the distributions of the base's own
    Python, where that is the environment's; ``name`` is for messages.
    """

    name: str
    base: LockedBase | None = None
    minimal: bool = False
    suite: str | None = None
    indexes: tuple[LockedIndex, ...] = ()
    debs: tuple[LockedDeb, ...] = ()
    python: LockedPython | None = None
    glibc: tuple[int, int] | None = None
    has_musl: bool = False
    provided: dict[str, str] = field(default_factory=dict)

    def need_glibc(self, what: str) -> tuple[int, int]:
        """The version of the C library; E113 if there is none, and ``what`` needs it."""
        if self.glibc is None:
            has = "the C library musl" if self.has_musl else "no C library"
            raise AfenvError("E113", f"{what} need the GNU C library, and {self.name} has {has}")
        return self.glibc


def lock_base(
    project: Project,
    environment: Environment,
    as_of: datetime,
    old: LockedEnvironment | None,
    *,
    update: frozenset[str] | None,
    known: LockedBase | None,
) -> BasePart:
    """The base of an environment.

    ``known`` is the base image as it is locked; without it, what the reference names now is taken. Errors
    are those of the resolvers, of the registry, E112 to E114, and E014.
    """
    wheels = _may_have_wheels(environment)
    if environment.oci is not None:
        return _image_part(project, environment, environment.oci, as_of, old, update, known, wheels)
    if environment.conda_base is not None:
        if environment.conda is None:
            raise AfenvError(
                "E014",
                "the base has nothing but a C library, and there is no section conda",
                path="base.conda",
            )
        return _minimal_part(environment.conda_base)
    if environment.debian is None:
        raise AfenvError("E016", "an environment without a base is not supported yet")
    return _debian_part(project, environment, environment.debian, as_of, old, update, wheels)


def _may_have_wheels(environment: Environment) -> bool:
    asked = environment.conda
    return environment.pypi is not None or (asked is not None and bool(asked.file or asked.lock))


def _debian_part(
    project: Project,
    environment: Environment,
    base: DebianBase,
    as_of: datetime,
    old: LockedEnvironment | None,
    update: frozenset[str] | None,
    wheels: bool,
) -> BasePart:
    from afenv.resolve.debian import resolve_debian
    from afenv.resolve.python import glibc_version, locked_python
    from afenv.store.fetch import Fetcher

    if wheels:
        base = replace(base, packages=(*base.packages, *MANYLINUX_LIBRARIES))
    found = resolve_debian(
        base,
        environment.platform,
        as_of,
        Fetcher(project.store, project.settings, quiet=project.quiet),
        project.store,
        locked=old.debs if old else (),
        update=update,
    )
    needed = wheels or environment.conda is not None
    return BasePart(
        name=f"the base {base.suite}",
        suite=base.suite,
        indexes=found.indexes,
        debs=found.debs,
        python=locked_python(found.debs),
        glibc=glibc_version(found.debs) if needed else None,
    )


def _image_part(
    project: Project,
    environment: Environment,
    wanted: OciBase,
    as_of: datetime,
    old: LockedEnvironment | None,
    update: frozenset[str] | None,
    known: LockedBase | None,
    wheels: bool,
) -> BasePart:
    from afenv.layers import base_facts
    from afenv.resolve.base_python import base_distributions, base_python, path_of
    from afenv.workflow.base import bring_base, pull_base

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
        glibc=_parsed(base.glibc),
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


def _parsed(version: str | None) -> tuple[int, int] | None:
    if version is None:
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _minimal_part(base: CondaBase) -> BasePart:
    """The C library that is asked for; which packages bring it is known once conda has chosen."""
    wanted = _parsed(base.glibc)
    assert wanted is not None
    suite = next((suite for suite, version in GLIBC.items() if version >= wanted), None)
    if suite is None:
        newest = max(GLIBC.values())
        raise AfenvError(
            "E013",
            f"there is no Debian release with glibc {base.glibc}; the newest has {newest[0]}.{newest[1]}",
            path="base.conda.glibc",
        )
    return BasePart(name=f"a base with glibc {base.glibc}", minimal=True, suite=suite, glibc=wanted)


def complete_minimal(
    project: Project,
    environment: Environment,
    part: BasePart,
    conda: Collection[LockedConda],
    as_of: datetime,
    old: LockedEnvironment | None,
    *,
    update: frozenset[str] | None,
) -> BasePart:
    """A minimal base with its Debian packages: the C library, and what conda's packages do not bring.

    That is a shell, and for wheels the library of C++.
    """
    from afenv.resolve.base_debian import resolve_on_base
    from afenv.store.fetch import Fetcher

    assert part.suite is not None
    names = {package.name for package in conda}
    packages = ["libc6"]
    if not names.intersection(CONDA_SHELLS):
        packages.append("busybox-static")
    if _may_have_wheels(environment) and not names & {"libstdcxx", "libstdcxx-ng"}:
        packages += MANYLINUX_LIBRARIES
    found = resolve_on_base(
        part.suite,
        packages,
        {},
        environment.platform,
        as_of,
        Fetcher(project.store, project.settings, quiet=project.quiet),
        project.store,
        locked=old.debs if old else (),
        update=update,
    )
    return replace(part, indexes=found.indexes, debs=found.debs)
