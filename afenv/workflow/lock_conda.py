"""The conda part of an environment's lock, and what it means for the PyPI part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from afenv.documents.lock import LockedConda, LockedEnvironment, LockedPython, LockedWheel
from afenv.documents.manifest import Environment, PypiSection
from afenv.errors import AfenvError
from afenv.resolve.conda.channels import subdir_of
from afenv.resolve.conda.python import check_for_pypi, distributions, locked_conda_python
from afenv.resolve.conda.resolver import PREFIX, CondaResult, resolve_conda
from afenv.resolve.conda.virtual import cuda_of, virtual_packages
from afenv.workflow.project import Project

# Virtual packages that choose among variants of a package: if one changes, nothing locked is preferred.
VARIANTS = ("__archspec", "__cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaPart:
    """The conda packages of an environment, and what is left to ask of PyPI.

    ``provided`` has the distributions that conda brings; ``wheels`` are those of a foreign lock.
    """

    packages: tuple[LockedConda, ...]
    prefix: str
    virtual_packages: Mapping[str, str]
    python: LockedPython | None
    pypi: PypiSection | None
    provided: dict[str, str] = field(default_factory=dict)
    wheels: tuple[LockedWheel, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def lock_conda(
    project: Project,
    environment: Environment,
    glibc: tuple[int, int],
    as_of: datetime,
    old: LockedEnvironment | None,
    *,
    solver: str,
    update: frozenset[str] | None,
    base: str = "the base",
) -> CondaPart:
    """The conda part of an environment that has a ``conda`` section; errors are those of its resolvers.

    ``base`` is what messages call the base.
    """
    assert environment.conda is not None
    cuda = cuda_of(asdict(environment.gpu)) if environment.gpu else None
    stated = environment.conda.virtual_packages
    architectures = environment.gpu.architectures if environment.gpu else ()
    wanted = virtual_packages(subdir_of(environment.platform), glibc, cuda, stated, architectures)
    same = old is not None and all(wanted.get(name) == old.virtual_packages.get(name) for name in VARIANTS)
    if (
        old is not None and "__cuda_arch" in old.virtual_packages
    ):  # locks of before __cuda_arch say nothing of it
        same = same and old.virtual_packages["__cuda_arch"] == wanted.get("__cuda_arch")
    found = resolve_conda(
        environment.conda,
        project.folder,
        environment.platform,
        glibc,
        cuda,
        as_of,
        settings=project.settings,
        store=project.store,
        locked=old.conda if old is not None and same else (),
        update=update,
        solver=solver,
        base=base,
        cuda_architectures=architectures,
        quiet=project.quiet,
    )
    pypi = with_pip(environment.pypi, found)
    provided = dict[str, str]()
    python = locked_conda_python(found.records, PREFIX)
    if pypi is not None and python is not None:
        check_for_pypi(found.records)
        provided = distributions(found.records, project.settings, project.store, quiet=project.quiet)
        provided |= {wheel.name: wheel.version for wheel in found.wheels}
    return CondaPart(
        packages=found.records,
        prefix=PREFIX,
        virtual_packages=found.virtual_packages,
        python=python,
        pypi=pypi,
        provided=provided,
        wheels=found.wheels,
        variables=found.variables,
    )


def with_pip(pypi: PypiSection | None, found: CondaResult) -> PypiSection | None:
    """The PyPI section with what an environment.yml asks of pip; E014, E016 if they do not go together."""
    if not found.pip and not found.pip_files:
        return pypi
    section = pypi or PypiSection()
    if section.lock is not None:
        raise AfenvError(
            "E014",
            "environment.yml asks for packages of pip, and pypi.lock is taken as it is",
            path="pypi.lock",
        )
    files = [name for name in (section.file, *found.pip_files) if name is not None]
    if len(files) > 1:
        raise AfenvError("E016", f"several requirements files ({', '.join(files)}) are not supported yet")
    return replace(
        section, dependencies=(*section.dependencies, *found.pip), file=files[0] if files else None
    )
