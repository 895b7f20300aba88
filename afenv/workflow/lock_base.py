"""The base of an environment's lock: Debian packages, an image, or a C library alone; and what it brings.

What other resolvers need to know of a base is its C library and its Python; where these come from is decided
here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from afenv.documents.lock import LockedBase, LockedConda, LockedEnvironment
from afenv.documents.manifest import CondaBase, DebianBase, Environment
from afenv.errors import AfenvError
from afenv.workflow.base_part import GLIBC, MANYLINUX_LIBRARIES, BasePart, may_have_wheels, parsed_glibc
from afenv.workflow.project import Project

CONDA_SHELLS = ("bash", "dash", "busybox")  # conda packages that bring one


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
    if environment.oci is not None:
        from afenv.workflow.lock_base_image import image_part

        return image_part(project, environment, environment.oci, as_of, old, update, known)
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
    return _debian_part(project, environment, environment.debian, as_of, old, update)


def _debian_part(
    project: Project,
    environment: Environment,
    base: DebianBase,
    as_of: datetime,
    old: LockedEnvironment | None,
    update: frozenset[str] | None,
) -> BasePart:
    from afenv.resolve.debian import resolve_debian
    from afenv.resolve.python import glibc_version, locked_python
    from afenv.store.fetch import Fetcher

    wheels = may_have_wheels(environment)
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


def _minimal_part(base: CondaBase) -> BasePart:
    """The C library that is asked for; which packages bring it is known once conda has chosen."""
    wanted = parsed_glibc(base.glibc)
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
    if may_have_wheels(environment) and not names & {"libstdcxx", "libstdcxx-ng"}:
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
