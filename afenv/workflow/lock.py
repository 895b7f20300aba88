"""From the manifest to the lock.

What an existing lock has and what still fits is kept: an environment is resolved again only if the part
of the manifest that it resolves has changed, or if an update is asked for, and then the versions that the
lock has are preferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from afenv.documents.data import locked_data
from afenv.documents.load import load_manifest_cached
from afenv.documents.lock import (
    ASSEMBLY_VERSION,
    Lock,
    LockedBase,
    LockedCode,
    LockedEnvironment,
    LockedWheel,
)
from afenv.documents.lockfile import read_lock, request_digest, write_lock
from afenv.documents.manifest import AnalysisManifest, CodeSource, Environment
from afenv.errors import AfenvError, Problem
from afenv.record import record, replace
from afenv.workflow.lock_fits import (
    cvmfs_fits,
    described,
    is_built_from,
    misfits,
    packages_fit,
    same_kind,
    with_commands,
    with_gpu,
    with_gpu_anew,
)
from afenv.workflow.project import Project


@record
class Locking:
    """How to lock.

    ``update`` names packages to move to their newest version; ``upgrade`` moves all; ``as_of`` is the
    time (UTC) at which the package indexes are looked at; ``solver`` is that of conda packages; ``live``
    takes the code as it was last committed, whatever has changed since.
    """

    update: frozenset[str] = frozenset()
    upgrade: bool = False
    as_of: datetime | None = None
    allow_dirty: bool = False
    solver: str = "rattler"
    live: bool = False

    @property
    def prefers_locked(self) -> bool:
        """Whether versions that the lock has are kept where they still fit."""
        return not self.upgrade and (self.as_of is None or bool(self.update))

    @property
    def anew(self) -> bool:
        """Whether environments are resolved even if the lock fits the manifest."""
        return bool(self.update) or self.upgrade or self.as_of is not None


def parse_time(text: str) -> datetime:
    """A date or a time in the form of RFC 3339, in UTC if it names no zone; E030 otherwise."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise AfenvError(
            "E030", f"{text!r} is not a time; write it as 2026-01-31 or 2026-01-31T12:00:00Z", place="--as-of"
        ) from None
    return (time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)).replace(microsecond=0)


def format_time(time: datetime) -> str:
    """A time as locks write it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def load(project: Project) -> AnalysisManifest:
    """The project's manifest."""
    return load_manifest_cached(project.manifest_path, project.store)


def existing_lock(project: Project) -> Lock | None:
    """The project's lock, or None if there is none; E022 if it is damaged."""
    return read_lock(project.lock_path) if project.lock_path.exists() else None


def builder_folders(project: Project, manifest: AnalysisManifest, how: Locking) -> dict[str, LockedCode]:
    """The files that builders read, by environment; environments without a builder have none."""
    found = {}
    for name, environment in manifest.environments.items():
        if environment.builder is not None:
            source = CodeSource(folder=environment.builder.folder, into="/")
            (found[name],) = _resolve_sources(project, (source,), {}, how)
    return found


def check_lock(project: Project, *, allow_dirty: bool = False, live: bool = False) -> Lock:
    """The lock, if it fits the manifest and the code; E020 if there is none, E021 if it does not fit."""
    manifest = load(project)
    lock = read_lock(project.lock_path)
    how = Locking(allow_dirty=allow_dirty, live=live)
    code = _resolve_code(project, manifest, lock, how)
    builders = builder_folders(project, manifest, how)
    wrong = misfits(project, manifest, lock, code, builders)
    if wrong:
        place = str(project.lock_path)
        raise AfenvError.many([Problem("E021", message, place=place) for message in wrong])
    return lock


def lock_project(project: Project, how: Locking | None = None) -> tuple[Lock, bool]:
    """Bring the lock up to date and write it; return it, and whether it changed."""
    how = how or Locking()
    manifest = load(project)
    old = existing_lock(project)
    code = _resolve_code(project, manifest, old, how)
    builders = builder_folders(project, manifest, how)
    environments = {
        name: _with_cvmfs(project, manifest, name, _old(old, name), how, builders.get(name))
        for name in sorted(manifest.environments)
    }
    if how.update:
        _check_updates(how.update, environments)
    name, version, metadata = described(manifest)
    lock = Lock(
        name=name,
        version=version,
        metadata=metadata,
        assembly_version=ASSEMBLY_VERSION,
        code=code,
        environments=environments,
        data=locked_data(manifest.data, old.data if old else (), project.folder),
        extra=old.extra if old else {},
    )
    if lock == old:
        return lock, False
    return lock, write_lock(project.lock_path, lock)


def _resolve_code(
    project: Project, manifest: AnalysisManifest, old: Lock | None, how: Locking
) -> tuple[LockedCode, ...]:
    locked = {code.into: code for code in old.code} if old else {}
    return _resolve_sources(project, manifest.code, locked, how)


def _resolve_sources(
    project: Project, sources: Sequence[CodeSource], locked: Mapping[str, LockedCode], how: Locking
) -> tuple[LockedCode, ...]:
    if not sources:
        return ()
    from afenv.resolve.code import resolve_code_cached

    return tuple(
        resolve_code_cached(
            source,
            project.folder,
            project.store,
            project.settings,
            allow_dirty=how.allow_dirty,
            live=how.live,
            locked=locked.get(source.into),
            update=how.upgrade,
            quiet=project.quiet,
        )
        for source in sources
    )


def _environment(
    project: Project,
    manifest: AnalysisManifest,
    name: str,
    old: LockedEnvironment | None,
    how: Locking,
    files: LockedCode | None,
) -> LockedEnvironment:
    request = request_digest(manifest, name, project.folder)
    if files is not None:
        built = _built_environment(project, manifest, name, old, how, request, files)
        return with_gpu(built, manifest.environments[name])
    if old is not None and old.request == request and not how.anew:
        return with_gpu(old, manifest.environments[name])
    if old is not None and not how.anew and packages_fit(project, manifest, name, old):
        return with_gpu(with_commands(old, manifest.environments[name], request), manifest.environments[name])
    as_of = how.as_of or datetime.now(UTC).replace(microsecond=0)
    same = same_kind(old, manifest.environments[name])
    preferred = old if how.prefers_locked and same else None
    known = old.base if old is not None and same else None
    found = _resolve(project, manifest.environments[name], request, as_of, preferred, how, known)
    if old is None:
        return found
    found = replace(found, extra=old.extra, linked=old.linked, built=old.built, cvmfs=old.cvmfs)
    found = with_commands(found, manifest.environments[name], request)  # drops results of no commands
    if how.as_of is None and replace(found, as_of=old.as_of, indexes=old.indexes) == old:
        return old  # newer indexes, the same answer: the lock stays as it is
    return found


def _old(lock: Lock | None, name: str) -> LockedEnvironment | None:
    return lock.environments.get(name) if lock is not None else None


def _with_cvmfs(
    project: Project,
    manifest: AnalysisManifest,
    name: str,
    old: LockedEnvironment | None,
    how: Locking,
    files: LockedCode | None,
) -> LockedEnvironment:
    """The environment, with what it takes of CVMFS: as the old lock has it, where that still fits."""
    found = _environment(project, manifest, name, old, how, files)
    wanted = manifest.environments[name].cvmfs
    before = old.cvmfs if old is not None else ()
    names = {name for source in wanted for name in (source.repository, source.path)}
    moves = how.upgrade or bool(how.update & names)
    if cvmfs_fits(replace(found, cvmfs=before), manifest.environments[name]) and not moves:
        return replace(found, cvmfs=before) if found.cvmfs != before else found
    from afenv.workflow.lock_cvmfs import lock_cvmfs

    moving = names if how.upgrade else how.update
    return replace(found, cvmfs=lock_cvmfs(project, wanted, before, moving))


def _built_environment(
    project: Project,
    manifest: AnalysisManifest,
    name: str,
    old: LockedEnvironment | None,
    how: Locking,
    request: str,
    files: LockedCode,
) -> LockedEnvironment:
    """An environment that another tool makes, again only if what it reads has changed or all is upgraded."""
    from afenv.workflow.lock_builder import build_part

    environment = manifest.environments[name]
    if old is not None and old.request == request and is_built_from(old, files) and not how.upgrade:
        return old
    part, builder = build_part(project, name, environment, files)
    return LockedEnvironment(
        request=request,
        platform=environment.platform,
        as_of=format_time(datetime.now(UTC).replace(microsecond=0)),
        base=part.base,
        builder=builder,
        bytecode=environment.bytecode,
        variables=environment.variables,
        entrypoint=environment.entrypoint,
        workdir=environment.workdir,
        extra=old.extra if old else {},
    )


def _resolve(
    project: Project,
    environment: Environment,
    request: str,
    as_of: datetime,
    old: LockedEnvironment | None,
    how: Locking,
    known: LockedBase | None,
) -> LockedEnvironment:
    from afenv.resolve.pypi import resolve_pypi
    from afenv.workflow.lock_base import complete_minimal, lock_base

    if how.solver != "rattler" and how.as_of is not None:
        raise AfenvError("E030", f"{how.solver} cannot lock as of another time", place="--solver")
    reference = environment.oci.reference if environment.oci else ""
    update = how.update - {reference} or None
    known = None if how.upgrade or reference in how.update else known
    part = lock_base(project, environment, as_of, old, update=update, known=known)
    python, provided, pypi = part.python, part.provided, environment.pypi
    conda = None
    if environment.conda is not None:
        from afenv.workflow.lock_conda import lock_conda

        glibc = part.need_glibc("conda packages")
        conda = lock_conda(
            project, environment, glibc, as_of, old, solver=how.solver, update=update, base=part.name
        )
        pypi = conda.pypi
        if conda.python is not None:
            python, provided = conda.python, conda.provided
    if part.minimal:
        found = conda.packages if conda else ()
        part = complete_minimal(project, environment, part, found, as_of, old, update=update)
    if python is None and (pypi is not None or (conda is not None and conda.wheels)):
        text, remedy = "PyPI packages are asked for, and the environment has no Python", None
        if part.base is not None:
            if part.has_musl:  # a Python that was added would not do
                part.need_glibc("wheels")
            remedy = "Choose a base that has python3, or take Python from conda."
        raise AfenvError("E106", text, remedy=remedy)
    resolved = LockedEnvironment(
        request=request,
        platform=environment.platform,
        as_of=format_time(as_of),
        base=part.base,
        minimal=part.minimal,
        suite=part.suite,
        indexes=part.indexes,
        debs=part.debs,
        conda=conda.packages if conda else (),
        conda_prefix=conda.prefix if conda else None,
        virtual_packages=conda.virtual_packages if conda else {},
        python=python,
        bytecode=environment.bytecode,
        variables={**(conda.variables if conda else {}), **environment.variables},
        entrypoint=environment.entrypoint,
        workdir=environment.workdir,
    )
    resolved = with_commands(resolved, environment, request)
    wheels: tuple[LockedWheel, ...] = ()
    if pypi is not None and python is not None:
        locked = old.wheels if old else ()
        built: dict[str, LockedWheel] = {}
        if pypi.sdists:
            from afenv.workflow.sdists import lock_sdists

            glibc = part.need_glibc("wheels")
            built = lock_sdists(project, pypi, resolved, glibc, as_of, locked, update or frozenset())
        wheels = resolve_pypi(
            pypi,
            project.folder,
            python,
            part.need_glibc("wheels"),
            environment.platform,
            as_of,
            settings=project.settings,
            store=project.store,
            locked=locked,
            update=update,
            provided=provided,
            provider="conda" if conda and conda.python else part.name,
            built=built,
        )
        if pypi.sdists:
            from afenv.workflow.sdists import check_names

            check_names(pypi, wheels)
    wheels = tuple(sorted((*wheels, *(conda.wheels if conda else ())), key=lambda wheel: wheel.name))
    resolved = replace(resolved, wheels=wheels, owners=dict(pypi.owners) if pypi else {})
    return with_gpu_anew(resolved, environment)


def _check_updates(update: frozenset[str], environments: dict[str, LockedEnvironment]) -> None:
    known = {deb.name for environment in environments.values() for deb in environment.debs}
    known |= {package.name for environment in environments.values() for package in environment.conda}
    known |= {environment.base.reference for environment in environments.values() if environment.base}
    known |= {wheel.name for environment in environments.values() for wheel in environment.wheels}
    known |= {
        name
        for environment in environments.values()
        for one in environment.cvmfs
        for name in (one.repository, one.path)
    }
    missing = sorted(update - known)
    if missing:
        raise AfenvError.many(
            [
                Problem("E101", f"{name} is not in the lock, so it cannot be updated", place="--update")
                for name in missing
            ]
        )
