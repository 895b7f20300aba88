"""Whether a lock fits the manifest, and what changes in it where nothing has to be resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afenv.documents.data import data_misfits
from afenv.documents.lock import Lock, LockedCode, LockedEnvironment
from afenv.documents.lockfile import request_digest
from afenv.documents.manifest import AnalysisManifest, Environment
from afenv.errors import AfenvError
from afenv.record import replace
from afenv.workflow.project import Project


def misfits(
    project: Project,
    manifest: AnalysisManifest,
    lock: Lock,
    code: Sequence[LockedCode],
    builders: Mapping[str, LockedCode],
) -> list[str]:
    """What of the manifest the lock does not fit: one phrase each; empty if it fits.

    ``builders`` has the files that builders read, by environment.
    """
    found = []
    for name in sorted(manifest.environments):
        if name not in lock.environments:
            found.append(f"environment {name} is not locked")
        elif lock.environments[name].request != request_digest(manifest, name, project.folder):
            found.append(f"environment {name} has changed in the manifest")
        elif not gpu_fits(lock.environments[name], manifest.environments[name]):
            found.append(f"the GPU need of environment {name} has changed in the manifest")
        elif not cvmfs_fits(lock.environments[name], manifest.environments[name]):
            found.append(f"what environment {name} takes of CVMFS has changed in the manifest")
        elif name in builders and not is_built_from(lock.environments[name], builders[name]):
            found.append(f"the files that environment {name} is built from have changed")
    found.extend(
        f"environment {name} is locked and not in the manifest"
        for name in sorted(lock.environments)
        if name not in manifest.environments
    )
    if tuple(code) != lock.code:
        found.append("the code has changed")
    found += data_misfits(manifest.data, lock.data, project.folder)
    if (lock.name, lock.version, dict(lock.metadata)) != described(manifest):
        found.append("the name, the version or the metadata has changed")
    return found


def is_built_from(locked: LockedEnvironment, files: LockedCode) -> bool:
    """Whether the locked image was made from these files."""
    return locked.builder is not None and locked.builder.tree == files.tree


def same_kind(old: LockedEnvironment | None, environment: Environment) -> bool:
    """Whether versions of the lock mean something for the environment: the same base and platform."""
    if old is None or old.platform != environment.platform:
        return False
    if environment.oci is not None:
        return old.base is not None and old.base.reference == environment.oci.reference
    if environment.conda_base is not None:
        return old.minimal
    suite = environment.debian.suite if environment.debian else None
    return old.base is None and not old.minimal and old.suite == suite


def described(manifest: AnalysisManifest) -> tuple[str, str, dict[str, Any]]:
    """What the image's labels say, in the form that the lock has."""
    metadata = manifest.metadata
    values: dict[str, Any] = {
        key: getattr(metadata, key)
        for key in ("title", "description", "license", "url")
        if getattr(metadata, key)
    }
    if metadata.authors:
        values["authors"] = [
            {key: getattr(author, key) for key in ("name", "orcid", "affiliation") if getattr(author, key)}
            for author in metadata.authors
        ]
    if metadata.funders:
        values["funders"] = [
            {key: getattr(funder, key) for key in ("name", "award", "url") if getattr(funder, key)}
            for funder in metadata.funders
        ]
    if metadata.keywords:
        values["keywords"] = list(metadata.keywords)
    return manifest.name, manifest.version, values


def cvmfs_fits(locked: LockedEnvironment, wanted: Environment) -> bool:
    """Whether the lock has what the manifest takes of CVMFS, whatever the revision."""
    if not locked.cvmfs and not wanted.cvmfs:
        return True
    from afenv.documents.cvmfs import is_locked

    return len(locked.cvmfs) == len(wanted.cvmfs) and all(map(is_locked, locked.cvmfs, wanted.cvmfs))


def gpu_fits(locked: LockedEnvironment, wanted: Environment) -> bool:
    """Whether what the lock says of the GPU is for what the manifest says.

    A lock with conda packages that says nothing was written before locks did: it stays as it is, and so does
    its image.
    """
    if wanted.gpu is None or locked.gpu is None:
        return locked.gpu is None and (wanted.gpu is None or bool(locked.conda))
    asked, had = wanted.gpu, locked.gpu
    return (asked.cuda, asked.architectures, asked.optional) == (had.cuda, had.architectures, had.optional)


def with_gpu(locked: LockedEnvironment, wanted: Environment) -> LockedEnvironment:
    """The locked environment with the toolkit and the driver window of its packages; E115."""
    if gpu_fits(locked, wanted):
        return locked
    return with_gpu_anew(locked, wanted)


def with_gpu_anew(locked: LockedEnvironment, wanted: Environment) -> LockedEnvironment:
    """The same, whatever the lock said of the GPU before."""
    if wanted.gpu is None:
        return replace(locked, gpu=None)
    from afenv.documents.cuda import cuda_tables
    from afenv.facility.window import locked_gpu

    return replace(locked, gpu=locked_gpu(wanted.gpu, locked, cuda_tables()))


def packages_fit(project: Project, manifest: AnalysisManifest, name: str, old: LockedEnvironment) -> bool:
    """Whether only what is run in the sandbox has changed in the manifest, so that nothing is resolved."""
    wanted = manifest.environments[name]
    conda = replace(wanted.conda, post_link=old.post_link) if wanted.conda is not None else None
    before = replace(wanted, build=old.build, conda=conda)
    as_before = replace(manifest, environments={**manifest.environments, name: before})
    return old.request == request_digest(as_before, name, project.folder)


def with_commands(locked: LockedEnvironment, wanted: Environment, request: str) -> LockedEnvironment:
    """The locked environment with the commands of the manifest; E101 if a package is not there."""
    asked = wanted.conda.post_link if wanted.conda is not None else ()
    missing = sorted(set(asked) - {package.name for package in locked.conda})
    if missing:
        message = f"post-link names {', '.join(missing)}, which is not among the conda packages"
        raise AfenvError("E101", message, path="conda.post-link")
    return replace(
        locked,
        request=request,
        post_link=tuple(sorted(asked)),
        linked=locked.linked if asked else None,
        build=wanted.build,
        built=locked.built if wanted.build else None,
    )
