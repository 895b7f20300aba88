"""From the lock to images.

What was built from a lock before is found under one key, so a build in which nothing changed reads the
lock, looks at the state of each blob, and is done.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import afenv
from afenv import canonical
from afenv.digest import sha256_bytes, sha256_file
from afenv.documents.lock import Lock
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.layers.model import PACKAGE_MTIME, Layer, is_layer
from afenv.oci.image import assemble
from afenv.progress import counted
from afenv.record import record, values_of
from afenv.workflow.base import base_opener
from afenv.workflow.lock import Locking, check_lock, load, lock_project
from afenv.workflow.project import Project, choose_environments

if TYPE_CHECKING:
    from afenv.attest.sign import Signer
    from afenv.documents.lock import LockedEnvironment
    from afenv.layers.write_job import Files
    from afenv.oci.attached import Attachment
    from afenv.oci.model import Descriptor, Image
    from afenv.store.content import ContentStore
    from afenv.workflow.remote_cache import CacheOptions, RemoteCache


@record
class Built:
    """An image that was built: where it was written, and what it is.

    ``file`` describes what a builder other than ``oci`` wrote: its digest, and in annotations how.
    """

    environment: str
    image: Image
    lock_digest: str
    assembly_version: int
    path: str | None  # None where the image went from a cache to a registry and was not written here
    pushed: str | None = None
    file: Descriptor | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv build --json`` prints."""
        return {
            "environment": self.environment,
            "image_id": self.image.image_id,
            "manifest_digest": self.image.manifest_digest,
            "lock_digest": self.lock_digest,
            "assembly_version": self.assembly_version,
            "layers": [
                {"diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size, "source": layer.source}
                for layer in self.image.layers
            ],
            "path": self.path,
            **({"pushed": self.pushed} if self.pushed else {}),
            **({"file": self.file.as_json()} if self.file else {}),
        }


def build_project(
    project: Project,
    *,
    environment: str | None = None,
    output: Path | None = None,
    target: str = "oci",
    locked: bool = False,
    allow_dirty: bool = False,
    check: bool = False,
    push: str | None = None,
    attach: bool = True,
    signer: Signer | None = None,
    cache: CacheOptions | None = None,
    live: bool = False,
    builder_options: Mapping[str, Any] | None = None,
    check_reproducible: bool = False,
) -> list[Built]:
    """Build one environment, or all, and write each for ``target``, with ``builder_options``.

    With ``locked`` a lock that does not fit is an error (E020, E021); else it is refreshed first. With
    ``check`` every digest of what was written is checked; with ``push`` the image goes to that
    reference as well, with what belongs to it unless ``attach`` is False, and signed by ``signer``; ``cache``
    names a remote build cache. ``live``
    builds what was last committed, whatever has changed since. With ``check_reproducible`` what is run in
    the sandbox is run once more; E406 names what differs.
    """
    manifest = load(project)
    names = choose_environments(manifest, environment)
    if len(names) > 1 and (output or push):
        raise AfenvError(
            "E030", f"--output and --push take one environment; choose one of {', '.join(names)} with -e"
        )
    if locked:
        lock = check_lock(project, allow_dirty=allow_dirty, live=live)
    else:
        lock, _ = lock_project(project, Locking(allow_dirty=allow_dirty, live=live))
    built = []
    for name in names:
        one, lock = _build(
            project,
            lock,
            name,
            output=output,
            target=target,
            check=check,
            push=push,
            attach=attach,
            signer=signer,
            cache=cache,
            builder_options=builder_options or {},
            locked=locked,
            check_reproducible=check_reproducible,
        )
        built.append(one)
    if target == "oci" and output is None and not live and all(one.path for one in built):
        _leave_receipt(project, manifest, environment, allow_dirty, built)
    return built


def _leave_receipt(
    project: Project,
    manifest: AnalysisManifest,
    environment: str | None,
    allow_dirty: bool,
    built: Sequence[Built],
) -> None:
    from afenv.documents.request import request_files
    from afenv.workflow.receipt import save_receipt

    code = {}
    folders = [source.folder or "." for source in manifest.code if source.git is None]
    folders += [one.builder.folder for one in manifest.environments.values() if one.builder is not None]
    for folder in folders:
        from afenv.resolve.code import ignored_folders

        place = project.folder / folder
        ignored = ignored_folders(place, project.store)
        if ignored is None:
            return
        code[place] = ignored
    documents = [project.manifest_path, project.lock_path]
    for name in manifest.environments:
        documents += request_files(manifest, name, project.folder)
    save_receipt(
        project.folder,
        environment,
        allow_dirty,
        documents=documents,
        code=code,
        layouts=[Path(one.path) for one in built if one.path],
        built=[one.as_json() for one in built],
    )


def image_time(project: Project, lock: Lock) -> int:
    """The time of the code layer and of the image, in seconds since 1970.

    ``SOURCE_DATE_EPOCH`` if it is set, else that of the bag that the project was restored from, else the
    date of the newest locked commit, else the time that files of packages have.
    """
    if project.settings.source_date_epoch is not None:
        return project.settings.source_date_epoch
    from afenv.workflow.restored import restored_epoch

    restored = restored_epoch(project)
    if restored is not None:
        return restored
    dates = [int(datetime.fromisoformat(code.date).timestamp()) for code in lock.code if code.date]
    return max(dates, default=PACKAGE_MTIME)


def _build(
    project: Project,
    lock: Lock,
    name: str,
    *,
    output: Path | None,
    target: str,
    check: bool,
    push: str | None,
    attach: bool,
    signer: Signer | None,
    cache: CacheOptions | None,
    builder_options: Mapping[str, Any],
    locked: bool,
    check_reproducible: bool,
) -> tuple[Built, Lock]:
    lock_digest = sha256_file(project.lock_path)
    created = image_time(project, lock)
    environment = lock.environments[name]
    with contextlib.ExitStack() as stack:
        stack.enter_context(project.store.in_use())
        remote = None
        if cache is not None:
            from afenv.workflow.remote_cache import open_cache

            remote = stack.enter_context(
                open_cache(cache, project.folder, project.store, quiet=project.quiet)
            )
        anew = check_reproducible or (cache is not None and cache.destination is not None)
        attachments: Sequence[Attachment] = ()
        restored = None if anew else _restored(project, lock, name, created)
        has_base = restored is not None or (
            remote is not None and environment.base is not None and remote.has_base(environment.base)
        )
        if environment.base is not None and not has_base:
            from afenv.workflow.base import ensure_base

            ensure_base(project, environment.base, environment.platform, made_by=environment.builder)
        if restored is not None:
            image, attachments = restored
        else:
            layers = None if anew else _known_layers(project, name, lock_digest, created)
            if layers is None:
                layers, lock = _layers(project, lock, name, created, locked, check_reproducible, remote)
                lock_digest = sha256_file(project.lock_path)
                _remember_layers(project, name, lock_digest, created, layers)
            if check_reproducible and not project.quiet:
                sys.stderr.write(f"{name}: {_checked(lock.environments[name])}\n")
            image = assemble(lock, name, layers, created, project.store)
        if not attachments and (target in ("oci", "oci-archive") or (push and attach)):
            from afenv.workflow.attest import attachments_of

            stated = remote.licenses if remote else None
            attachments = attachments_of(project, lock, name, image, licenses=stated)
        path: str | None = None
        file: Descriptor | None = None
        only_pushed = bool(push) and target == "oci" and output is None and not check
        if remote is None or remote.complete(image, bring=not only_pushed):
            path, file = _write(project, image, name, output, target, attachments, builder_options)
        if push:
            from afenv.workflow.push import publish
            from afenv.workflow.pushed import note_pushed

            digest = publish(
                image,
                remote or project.store,
                push,
                attachments if attach else (),
                quiet=project.quiet,
                signer=signer,
                mount_from=remote.mountable(push) if remote else None,
            )
            note_pushed(project.folder, push, digest)
        if remote is not None:
            remote.publish(environment, push)
            _tell(project, remote)
    if check and path is not None:
        _check(image, path, target, project.store)
    built = Built(
        environment=name,
        image=image,
        lock_digest=lock_digest,
        assembly_version=lock.assembly_version,
        path=path,
        pushed=push,
        file=file,
    )
    return built, lock


def image_of_lock(project: Project, lock: Lock, name: str, created: int) -> Image:
    """The image of an environment, built from a lock as it is: nothing is locked, and nothing written.

    ``created`` is in seconds since 1970. E412 if a command in the sandbox gives another result than the lock
    has, and the other errors of building.
    """
    with project.store.in_use():
        environment = lock.environments[name]
        if environment.base is not None:
            from afenv.workflow.base import ensure_base

            ensure_base(project, environment.base, environment.platform, made_by=environment.builder)
        layers, lock = _layers(project, lock, name, created, True, False, None)
        project.store.sync()
        return assemble(lock, name, layers, created, project.store)


def _restored(project: Project, lock: Lock, name: str, created: int) -> tuple[Image, list[Attachment]] | None:
    from afenv.workflow.restored import restored_image

    return restored_image(project, lock, name, created)


def _checked(environment: LockedEnvironment) -> str:
    """What ``--check-reproducible`` says when it has found no difference."""
    if environment.builder is not None:
        return "another tool made the image, so there is nothing to run twice; it is not reproducible"
    if environment.build or environment.post_link or any(wheel.built_from for wheel in environment.wheels):
        return "what was run in the sandbox came out the same again"
    return "nothing is run in the sandbox, so there was nothing to check"


def _image_key(name: str, lock_digest: str, created: int) -> str:
    return sha256_bytes(canonical.compact([afenv.__version__, lock_digest, name, created]))


def _known_layers(project: Project, name: str, lock_digest: str, created: int) -> list[Layer] | None:
    store = project.store
    known = store.load_key("image", _image_key(name, lock_digest, created))
    if not (isinstance(known, list) and known and all(is_layer(one) and "source" in one for one in known)):
        return None
    layers = [Layer(**layer) for layer in known]
    return layers if all(store.trusted(layer.digest, layer.size) for layer in layers) else None


def _remember_layers(
    project: Project, name: str, lock_digest: str, created: int, layers: Sequence[Layer]
) -> None:
    project.store.sync()
    value = [values_of(layer) for layer in layers]
    project.store.save_key("image", _image_key(name, lock_digest, created), value)


def _tell(project: Project, remote: RemoteCache) -> None:
    if remote.found and not project.quiet:
        sys.stderr.write(f"{counted(remote.found, 'layer')} found in the remote cache\n")
    for message in remote.conclusions():
        if not project.quiet:
            sys.stderr.write(f"warning: {message}\n")


def _layers(
    project: Project,
    lock: Lock,
    name: str,
    created: int,
    locked: bool,
    check_reproducible: bool,
    remote: RemoteCache | None,
) -> tuple[list[Layer], Lock]:
    """The layers, and the lock with the results of what was run in the sandbox."""
    store = project.store
    from afenv.layers.write import write_layers
    from afenv.store.fetch import Fetcher

    fetcher: Files = Fetcher(store, project.settings, quiet=project.quiet)
    if any(wheel.built_from is not None for wheel in lock.environments[name].wheels):
        from afenv.workflow.sdists import ensure_built

        if remote is None:
            ensure_built(project, lock.environments[name])
        else:
            from afenv.workflow.remote_cache import BuildingFiles

            fetcher = BuildingFiles(fetcher, project, lock.environments[name])

    def write(environment: LockedEnvironment) -> list[Layer]:
        return list(
            write_layers(
                environment,
                lock.code,
                store,
                project.settings,
                fetcher=fetcher,
                folder=project.folder,
                mtime=created,
                quiet=project.quiet,
                base=base_opener(project, environment),
                elsewhere=remote,
            )
        )

    if lock.environments[name].cvmfs:
        from afenv.workflow.cvmfs_build import runs_for_cvmfs, with_results

        if runs_for_cvmfs(lock.environments[name]):

            def write_here(environment: LockedEnvironment) -> list[Layer]:
                found = write(environment)
                if remote is not None:
                    store.sync()
                    remote.fetch([layer.digest for layer in found])  # something of the image is run
                return found

            before = lock
            lock = with_results(project, lock, name, created, write_here, keep=locked)
            if lock != before and not locked:
                from afenv.documents.lockfile import write_lock as write_results

                write_results(project.lock_path, lock)
    layers = write(lock.environments[name])
    if check_reproducible and any(wheel.built_from is not None for wheel in lock.environments[name].wheels):
        from afenv.workflow.sdists import check_built

        check_built(project, lock.environments[name])
    if not (lock.environments[name].build or lock.environments[name].post_link):
        return layers, lock
    from afenv.workflow.build_commands import check_reproducible as check_runs
    from afenv.workflow.build_commands import sandbox_layers

    store.sync()
    if remote is not None:
        remote.fetch([layer.digest for layer in layers])  # commands run on the files of all of them
    layers, lock, ran = sandbox_layers(project, lock, name, layers, created, keep=locked)
    if check_reproducible:
        check_runs(project, name, ran)
    if not locked:
        from afenv.documents.lockfile import write_lock

        write_lock(project.lock_path, lock)
    return layers, lock


def _write(
    project: Project,
    image: Image,
    name: str,
    output: Path | None,
    target: str,
    attachments: Sequence[Attachment],
    builder_options: Mapping[str, Any],
) -> tuple[str, Descriptor | None]:
    """Write the image for its target and return the path, or for an engine the image's name there; and
    what a builder says of it."""
    if target == "oci":  # the built-in that every build uses: not looked up among entry points
        from afenv.oci.layout import write_layout
        from afenv.workflow.attest import with_signatures

        for option, value in builder_options.items():
            if isinstance(value, str):
                raise AfenvError("E030", f"the builder of 'oci' has no option {option!r}")
        path = output or project.work_folder() / f"{name}.oci"
        write_layout(image, project.store, path, attachments=with_signatures(path, image, attachments))
        return str(path), None
    from afenv.oci.builders import find_builder

    path = output or project.work_folder() / f"{name}.{target}"
    builder = find_builder(target)
    options = {**builder_options, "target": target, "path": path, "quiet": project.quiet}
    options["attachments"] = attachments
    built = builder.build(image, project.store, options)
    return (image.reference, None) if target == "docker" else (str(path), built)


def _check(image: Image, path: str, target: str, store: ContentStore) -> None:
    from afenv.oci.check import check_image

    if target == "docker":
        raise AfenvError("E030", "--check reads a layout or an archive; it does not go with --target docker")
    if target not in ("oci", "oci-archive"):
        from afenv.oci.builders import find_builder

        check = getattr(find_builder(target), "check", None)
        if check is None:
            raise AfenvError("E030", f"the builder of {target!r} has no check")
        check(image, Path(path), store)
        return
    found = check_image(Path(path))
    if found.image_id != image.image_id:
        raise AfenvError("E406", f"built {image.image_id}, and {path} holds {found.image_id}")
