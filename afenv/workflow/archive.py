"""``afenv archive``: everything that an analysis is, in one bag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import afenv
from afenv.archive import index as formats
from afenv.archive.code import code_items
from afenv.archive.crate import crate_metadata
from afenv.archive.index import (
    ArchivedCode,
    ArchivedEnvironment,
    ArchivedFile,
    ArchiveIndex,
    LeftOut,
    Restricted,
)
from afenv.archive.items import Item, of_bytes, of_file
from afenv.archive.limits import restriction
from afenv.archive.names import CRATE, INDEX, LOCK, MANIFEST, README, VM, safe_part
from afenv.archive.readme import readme_text
from afenv.archive.write import check_target, write_bag
from afenv.documents.lock import Lock
from afenv.documents.lockfile import read_lock
from afenv.documents.vm import FILE_NAME
from afenv.errors import AfenvError
from afenv.layers.model import PACKAGE_MTIME
from afenv.progress import Progress
from afenv.record import record
from afenv.specs import specs_folder
from afenv.workflow.archive_image import Packed, document_items, image_items, layers_with, sif_items
from afenv.workflow.archive_inputs import (
    Input,
    Taken,
    base_items,
    bring_inputs,
    index_items,
    input_items,
    project_files,
    repodata_items,
)
from afenv.workflow.archive_steps import crate_additions, workflow_items
from afenv.workflow.lock import load
from afenv.workflow.project import Project

if TYPE_CHECKING:
    from afenv.attest.sign import Signer


@record
class ArchiveOptions:
    """What goes into the bag besides the image and its inputs, and how it is written.

    ``vm`` takes a virtual machine of each image along; ``keys`` are public keys of signatures, ``results``
    folders with reference results; ``software`` takes afenv's own wheels along; ``ocfl`` is the root of an
    OCFL store to add the bag to, ``object_id`` the object there. ``part_size`` is in bytes.
    """

    output: Path | None
    environment: str | None = None
    sif: bool = True
    vm: bool = False
    data: bool = False
    results: tuple[Path, ...] = ()
    keys: tuple[Path, ...] = ()
    signer: Signer | None = None
    part_size: int | None = None
    without_restricted: bool = False
    software: bool = True
    ocfl: Path | None = None
    object_id: str | None = None
    allow_dirty: bool = False


@record
class Archived:
    """A bag that was written."""

    paths: tuple[str, ...]
    size: int
    index: ArchiveIndex

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        index = self.index
        return {
            "paths": list(self.paths),
            "name": index.name,
            "version": index.version,
            "payload_size": self.size,
            "files": len(index.files),
            "environments": {name: one.image_id for name, one in index.environments.items()},
            "restricted": [
                {"name": one.name, "license": one.license, "reason": one.reason} for one in index.restricted
            ],
            "left_out": [{"name": one.name, "sha256": one.sha256} for one in index.left_out],
            "notes": list(index.notes),
        }


def archive(project: Project, options: ArchiveOptions) -> Archived:
    """Build what is locked and write the bag.

    Raises as building does, E731 if the bag cannot be written where it is asked for, E732 for an input that
    is not to be had.
    """
    from afenv.workflow.build import build_project, image_time

    if (options.output is None) == (options.ocfl is None):
        raise AfenvError("E030", "an archive is written with --output or into --ocfl")
    if options.output is not None:
        check_target(options.output, options.part_size)  # before minutes of work
    built = build_project(
        project, environment=options.environment, locked=True, allow_dirty=options.allow_dirty
    )
    lock = read_lock(project.lock_path)
    names = [one.environment for one in built]
    with contextlib.ExitStack() as stack:
        stack.enter_context(project.store.in_use())
        packed = [_packed(project, lock, one.environment, one.image, one.path, options) for one in built]
        collected = _collect(project, lock, names, packed, options, stack)
        epoch = image_time(project, lock)
        index = _index(lock, packed, collected, epoch)
        index_item = of_bytes(INDEX, formats.dump_index(index), "documents", "what this bag holds")
        metadata = _metadata(project, lock)
        readme = readme_text(index, metadata)
        items = [*collected.items, index_item, of_bytes(README, readme, "documents", "how to use this bag")]
        additions = crate_additions(load(project), lock, index, items)
        crate = crate_metadata(index, metadata, lock, items, additions)
        items.append(of_bytes(CRATE, crate, "documents", "RO-Crate metadata"))
        info = bag_info(index, metadata)
        size = sum(item.size for item in items)
        with Progress("writing the archive", size, quiet=project.quiet) as progress:
            if options.ocfl is not None:
                from afenv.archive.ocfl import add_to_store

                name = safe_part(f"{lock.name}-{lock.version}")
                bag = options.object_id or "urn:afenv:archives"
                paths = add_to_store(options.ocfl, bag, name, items, info, readme, epoch, progress.advance)
            else:
                assert options.output is not None
                paths = write_bag(
                    options.output,
                    items,
                    info,
                    readme,
                    part_size=options.part_size,
                    advance=progress.advance,
                )
    return Archived(paths=tuple(map(str, paths)), size=size, index=index)


@record
class _Collected:
    items: tuple[Item, ...]
    code: tuple[ArchivedCode, ...]
    left_out: tuple[LeftOut, ...]
    restricted: tuple[Restricted, ...]
    notes: tuple[str, ...]


def _packed(
    project: Project, lock: Lock, name: str, image: Any, path: str | None, options: ArchiveOptions
) -> Packed:
    from afenv.workflow.attest import attachments_of, with_signatures

    attachments = attachments_of(project, lock, name, image)
    if path is not None:
        attachments = with_signatures(Path(path), image, attachments)
    if options.signer is not None:
        from afenv.attest.sign import sign_image

        known = {(one.artifact_type, one.digest) for one in attachments}
        signed = sign_image(image, attachments, options.signer)
        attachments = [*attachments, *(one for one in signed if (one.artifact_type, one.digest) not in known)]
    return Packed(environment=name, image=image, attachments=tuple(attachments))


def _collect(
    project: Project,
    lock: Lock,
    names: Sequence[str],
    packed: Sequence[Packed],
    options: ArchiveOptions,
    stack: contextlib.ExitStack,
) -> _Collected:
    taken = Taken()
    inputs = bring_inputs(project, lock, names)
    restricted = _restrictions(project, lock, names, inputs)
    left_out: list[LeftOut] = []
    notes: list[str] = []
    omit: dict[str, str] = {}
    if options.without_restricted and restricted:
        inputs, left_out, omit = _without(lock, packed, inputs, restricted)
        if omit:
            notes.append(
                "Layers with packages that were left out are left out as well, and so is every SIF and every "
                "virtual machine."
            )
    layers = [layer.digest for one in packed for layer in one.image.layers if layer.digest not in omit]
    items = [*image_items(project, packed, omit), *document_items(packed)]
    for item in items:
        taken.path(item.path, item.sha256)
    items += input_items(project, inputs, taken)
    for name in names:
        items += base_items(project, lock.environments[name], taken, layers)
        items += index_items(project, lock.environments[name], taken)
    items += repodata_items(lock, names, taken)
    code = []
    for number, one in enumerate(lock.code):
        kept, more = code_items(
            number, one, project.folder, project.store, project.settings, quiet=project.quiet
        )
        code.append(kept)
        present = {item.path for item in items}
        items += [item for item in more if item.path not in present]
    items += _documents(project, names, options)
    if options.sif and not omit:
        items += stack.enter_context(sif_items(project, packed))
    elif not options.sif:
        notes.append("The bag was written without a SIF; `afenv restore --to apptainer` makes one.")
    if options.vm and not omit:
        from afenv.workflow.archive_vm import vm_items

        items += stack.enter_context(vm_items(project, packed))
    if options.software:
        from afenv.workflow.archive_self import installed_extras, software_items

        wanted = [*(["rerun"] if load(project).steps else []), *(["compare"] if options.results else [])]
        extras = installed_extras(wanted)
        items += software_items(project, extras)
        notes += [
            f"What `afenv {extra}` needs besides is not here: it was not installed where this was written."
            for extra in wanted
            if extra not in extras
        ]
    else:
        notes.append("The bag was written without afenv's own wheels.")
    if lock.data:
        if options.data:
            from afenv.workflow.archive_data import data_items

            items += stack.enter_context(data_items(project, lock))
        else:
            notes.append("The data is referenced, and not in the bag.")
    items += _results(options.results)
    manifest = load(project)
    if manifest.steps:
        steps, why_not = workflow_items(project, manifest, lock, packed)
        items += steps
        notes += why_not
    return _Collected(
        items=tuple(items),
        code=tuple(code),
        left_out=tuple(left_out),
        restricted=tuple(restricted),
        notes=tuple(notes),
    )


def _without(
    lock: Lock, packed: Sequence[Packed], inputs: Sequence[Input], restricted: Sequence[Restricted]
) -> tuple[list[Input], list[LeftOut], dict[str, str]]:
    """What is left of the inputs, what is left out, and the layers to leave out by digest."""
    names = {one.name: one for one in restricted}
    left_out: dict[str, LeftOut] = {}
    for one in inputs:
        if one.package in names:
            left_out[one.file.sha256] = LeftOut(
                name=one.about,
                sha256=one.file.sha256,
                size=one.file.size,
                reason=names[one.package].license,
                urls=one.file.urls,
            )
    omit: dict[str, str] = {}
    for each in packed:
        found = layers_with(lock, each.environment, each.image, names)
        omit |= found
        for layer in each.image.layers:
            if layer.digest in found:
                sha256 = layer.digest.removeprefix("sha256:")
                left_out[sha256] = LeftOut(
                    name=f"layer with {found[layer.digest]}",
                    sha256=sha256,
                    size=layer.size,
                    reason="It holds packages that are left out.",
                )
    kept = [one for one in inputs if one.package not in names]
    return kept, [left_out[sha256] for sha256 in sorted(left_out)], omit


def _restrictions(
    project: Project, lock: Lock, names: Sequence[str], inputs: Sequence[Input]
) -> list[Restricted]:
    from afenv.attest.licenses import wheel_licenses

    stated: dict[str, str] = {}
    for name in names:
        environment = lock.environments[name]
        licenses = wheel_licenses(environment, project.store)
        stated |= {f"pypi:{one.name}": licenses.get(one.file.sha256, "") for one in environment.wheels}
        stated |= {f"conda:{one.name}": str(one.record.get("license", "")) for one in environment.conda}
    found: dict[str, Restricted] = {}
    for one in inputs:
        non_free = any("/pool/non-free" in url for url in one.file.urls)
        limited = restriction(one.package, stated.get(one.package, ""), non_free=non_free)
        if limited is not None:
            found[one.package] = limited
    return [found[name] for name in sorted(found)]


def _documents(project: Project, names: Sequence[str], options: ArchiveOptions) -> Iterator[Item]:
    yield of_bytes(LOCK, project.lock_path.read_bytes(), "documents", "the lock: every input by its digest")
    yield of_bytes(MANIFEST, project.manifest_path.read_bytes(), "documents", "the analysis manifest")
    for name, path in project_files(project, names):
        yield of_file(f"project/{_safe_path(name)}", path, "documents", "the manifest refers to it")
    for path in options.keys:
        from afenv.attest.keys import read_public

        key = read_public(path)
        name = safe_part(key.identity.replace(":", "-"))[:80]
        yield of_bytes(f"keys/{name}.pub", path.read_bytes(), "documents", "public key of a signer")
    root = specs_folder()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and "vectors" not in relative.parts:
            yield of_file(f"specs/{relative.as_posix()}", path, "documents", "specification of a format")


def _safe_path(name: str) -> str:
    return "/".join(safe_part(part) for part in name.split("/"))


def _results(folders: Sequence[Path]) -> Iterator[Item]:
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            raise AfenvError("E001", "there is no such folder with results", place=str(folder))
        top = "results" if len(folders) == 1 else f"results/{number + 1}"
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            name = _safe_path(path.relative_to(folder).as_posix())
            yield of_file(f"{top}/{name}", path, "results", "reference result")


def _index(lock: Lock, packed: Sequence[Packed], collected: _Collected, epoch: int) -> ArchiveIndex:
    forms = {item.path for item in collected.items if item.part in ("sif", "vm")}
    return ArchiveIndex(
        name=lock.name,
        version=lock.version,
        written_by=f"afenv {afenv.__version__}",
        epoch=epoch,
        environments={
            one.environment: ArchivedEnvironment(
                platform=lock.environments[one.environment].platform,
                image_id=one.image.image_id,
                manifest=one.image.manifest_digest,
                sif=_there(f"sif/{one.environment}.sif", forms),
                vm=_there(f"{VM}/{one.environment}/{FILE_NAME}", forms),
            )
            for one in packed
        },
        files=tuple(
            ArchivedFile(path=item.path, size=item.size, sha256=item.sha256, part=item.part, about=item.about)
            for item in sorted(collected.items, key=lambda item: item.path)
        ),
        code=collected.code,
        left_out=collected.left_out,
        restricted=collected.restricted,
        notes=collected.notes,
    )


def _there(path: str, paths: set[str]) -> str | None:
    return path if path in paths else None


def _metadata(project: Project, lock: Lock) -> Mapping[str, Any]:
    return lock.metadata


def bag_info(index: ArchiveIndex, metadata: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """``bag-info.txt``, save the size of the payload."""
    date = datetime.fromtimestamp(max(index.epoch, PACKAGE_MTIME), UTC)
    info: dict[str, str | list[str]] = {
        "Bag-Software-Agent": f"{index.written_by} (archive format {formats.FORMAT_VERSION})",
        "Bagging-Date": f"{date:%Y-%m-%d}",
        "External-Description": str(metadata.get("title") or index.name),
        "External-Identifier": sorted({one.image_id for one in index.environments.values()}),
        "Internal-Sender-Identifier": f"{index.name} {index.version}",
    }
    authors = [str(one.get("name")) for one in metadata.get("authors", ()) if isinstance(one, dict)]
    if authors:
        info["Contact-Name"] = authors
    return info
