"""A lock in the format of another tool."""

from __future__ import annotations

from collections.abc import Sequence

from afenv.documents.lock import LockedConda, LockedEnvironment, LockedWheel
from afenv.documents.lockfile import read_lock
from afenv.errors import AfenvError
from afenv.formats.model import DEFAULT, ForeignEnvironment, ForeignLock, ForeignPackage, archive_name
from afenv.formats.reading import FORMATS, dump_foreign_lock
from afenv.settings import Settings
from afenv.workflow.project import DEFAULT_ENVIRONMENT, Project

SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}


def export_project(project: Project, form: str, environment: str | None) -> bytes:
    """The lock of one environment, or for pixi of all, in one of :data:`FORMATS`.

    Without a name, environments for different platforms become the platforms of one conda-lock.yml. E020 if
    there is no lock, E030 if an environment has to be chosen, E031 if there is none of that name or none has
    conda packages.
    """
    lock = read_lock(project.lock_path)
    names = [name for name, entry in lock.environments.items() if entry.conda]
    if environment is not None:
        if environment not in lock.environments:
            have = ", ".join(sorted(lock.environments))
            raise AfenvError("E031", f"there is no environment {environment!r}; the lock has: {have}")
        names = [name for name in names if name == environment]
    if not names:
        raise AfenvError(
            "E031",
            "no environment of the lock has conda packages",
            place=str(project.lock_path),
            remedy="Only environments with conda packages can be written in this form.",
        )
    chosen = [(name, lock.environments[name]) for name in sorted(names)]
    return dump_foreign_lock(foreign_lock(chosen, form, project.settings), form)


def foreign_lock(
    environments: Sequence[tuple[str, LockedEnvironment]], form: str, settings: Settings
) -> ForeignLock:
    """Environments of a lock as a foreign lock in one of :data:`FORMATS`."""
    assert form in FORMATS
    if form != "pixi":
        platforms = [entry.platform for _, entry in environments]
        if len(environments) > 1 and (form == "explicit" or len(set(platforms)) < len(platforms)):
            have = ", ".join(name for name, _ in environments)
            raise AfenvError("E030", f"choose one environment with -e; there are: {have}")
        channels = tuple(sorted({url for _, entry in environments for url in _channels(entry, settings)}))
        packages = {_subdir(entry): _packages(entry, settings) for _, entry in environments}
        only = ForeignEnvironment(channels=channels, packages=packages)
        return ForeignLock(format=form, environments={DEFAULT: only})
    single = len(environments) == 1
    return ForeignLock(
        format=form,
        environments={
            DEFAULT_ENVIRONMENT if single else name: ForeignEnvironment(
                channels=_channels(entry, settings), packages={_subdir(entry): _packages(entry, settings)}
            )
            for name, entry in environments
        },
        whole=True,
    )


def _subdir(environment: LockedEnvironment) -> str:
    return SUBDIRS[environment.platform]


def _channels(environment: LockedEnvironment, settings: Settings) -> tuple[str, ...]:
    """The URLs of the channels that packages are from, sorted: the lock does not know their priority."""
    urls = {_url(package.file.urls[0], settings) for package in environment.conda}
    return tuple(sorted({archive_name(url, url).channel for url in urls}))


def _packages(environment: LockedEnvironment, settings: Settings) -> tuple[ForeignPackage, ...]:
    conda = [_conda(package, settings) for package in environment.conda]
    return (*conda, *(_wheel(wheel) for wheel in environment.wheels))


def _url(url: str, settings: Settings) -> str:
    """A URL that other tools understand: a file beside the manifest has an absolute one."""
    return settings.rewrite(url) if url.startswith(("./", "../")) else url


def _conda(package: LockedConda, settings: Settings) -> ForeignPackage:
    return ForeignPackage(
        manager="conda",
        url=_url(package.file.urls[0], settings),
        name=package.name,
        version=package.version,
        sha256=package.file.sha256,
        md5=package.md5,
        size=package.file.size,
        depends=package.depends,
        record={
            **package.record,
            "build": package.build,
            "build_number": package.build_number,
            "subdir": package.subdir,
            "noarch": package.noarch,
            "constrains": list(package.constrains),
        },
    )


def _wheel(wheel: LockedWheel) -> ForeignPackage:
    if wheel.built_from is not None:
        raise AfenvError(
            "E030",
            f"{wheel.name} is built from source, and other tools' locks name places to download wheels from",
            remedy="Choose a version that has a wheel, or hand over the image instead of a lock.",
        )
    return ForeignPackage(
        manager="pypi",
        url=wheel.file.urls[0],
        name=wheel.name,
        version=wheel.version,
        sha256=wheel.file.sha256,
        size=wheel.file.size,
        depends=wheel.dependencies,
    )
