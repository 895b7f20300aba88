"""``afenv check``: what an image, a lock or a project needs, and whether a facility has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.archive.source import is_bag_name
from afenv.documents.data import LockedData
from afenv.documents.facility import FacilityProfile
from afenv.documents.lock import FILE_NAME as LOCK_NAME
from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.lockfile import parse_lock, read_lock
from afenv.documents.manifest import FILE_NAME as MANIFEST_NAME
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.facility.binaries import (
    Declared,
    declared_from_json,
    is_libc,
    read_file,
    read_tar,
    together,
    with_binaries,
)
from afenv.facility.needs import CvmfsNeed, GpuNeed, Needs, needs_of_environment
from afenv.facility.verdict import Verdict, verdict
from afenv.oci import media
from afenv.record import replace
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.oci.forms import Tree
    from afenv.oci.model import Image

KIND = "declared-3"  # what is kept of a layer, by its diff_id


def check(
    target: Path,
    facility: FacilityProfile,
    store: ContentStore,
    *,
    environment: str | None = None,
    network: bool = False,
    content: bool = True,
    quiet: bool = False,
) -> list[Verdict]:
    """The verdicts on an image (in any form), a lock, or a project's folder: one for each environment.

    With ``content`` the image's files are read. E001, E020, E022, E031 and E510 for what cannot be read.
    """
    found = needs_of(target, store, environment=environment, content=content, quiet=quiet)
    return [verdict(replace(needs, network=needs.network or network), facility) for needs in found]


def needs_of(
    target: Path, store: ContentStore, *, environment: str | None, content: bool = True, quiet: bool = False
) -> list[Needs]:
    """What the target needs; see :func:`check`."""
    if target.is_dir() and ((target / MANIFEST_NAME).is_file() or (target / LOCK_NAME).is_file()):
        return _of_project(target, store, environment, content, quiet)
    if is_bag_name(target):
        return _of_bag(target, store, environment, content, quiet)
    if target.is_file() and target.suffix in (".lock", ".json"):
        return _of_lock(read_lock(target), None, environment)
    return [_of_image(target, store, content, quiet)]


def _of_project(
    folder: Path, store: ContentStore, environment: str | None, content: bool, quiet: bool
) -> list[Needs]:
    from afenv.documents.load import load_manifest_cached
    from afenv.workflow.project import WORK_FOLDER

    path = folder / MANIFEST_NAME
    manifest = load_manifest_cached(path, store) if path.is_file() else None
    found = _of_lock(read_lock(folder / LOCK_NAME), manifest, environment)
    done = []
    for needs in found:
        name = needs.name.partition(":")[2] or "default"
        layout = folder / WORK_FOLDER / f"{name}.oci"
        if content and layout.is_dir():
            built = _of_image(layout, store, content, quiet)
            gpu = needs.gpu
            if gpu and built.gpu:
                gpu = replace(gpu, code=built.gpu.code, files=built.gpu.files)
            needs = replace(
                built, name=needs.name, gpu=gpu, data=needs.data, cvmfs=needs.cvmfs or built.cvmfs
            )
        done.append(needs)
    return done


def _of_lock(lock: Lock, manifest: AnalysisManifest | None, environment: str | None) -> list[Needs]:
    names = sorted(lock.environments)
    if environment is not None and environment not in names:
        raise AfenvError("E031", f"no environment {environment!r}; there are: {', '.join(names)}")
    return [
        _of_locked(lock.name, name, lock.environments[name], manifest, lock.data)
        for name in ([environment] if environment is not None else names)
    ]


def _of_locked(
    analysis: str,
    name: str,
    locked: LockedEnvironment,
    manifest: AnalysisManifest | None,
    data: Sequence[LockedData],
) -> Needs:
    wanted = manifest.environments.get(name) if manifest is not None else None
    gpu = None
    if locked.gpu is None and wanted is not None and wanted.gpu is not None:
        from afenv.documents.cuda import cuda_tables
        from afenv.facility.window import locked_gpu

        gpu = locked_gpu(wanted.gpu, locked, cuda_tables())
    return needs_of_environment(
        analysis if name == "default" else f"{analysis}:{name}",
        locked,
        data=data,
        gpu=gpu,
    )


def _of_image(path: Path, store: ContentStore, content: bool, quiet: bool) -> Needs:
    from afenv.oci.forms import open_tree

    with open_tree(path) as tree:
        return of_tree(tree, path, store, content, quiet)


def _of_bag(
    path: Path, store: ContentStore, environment: str | None, content: bool, quiet: bool
) -> list[Needs]:
    from afenv.workflow.archive_bag import open_archive
    from afenv.workflow.archive_restore import needs_of_bag

    with open_archive(path) as bag:
        names = [environment] if environment is not None else sorted(bag.index.environments)
        return [needs_of_bag(bag, name, store, content=content, quiet=quiet) for name in names]


def of_tree(tree: Tree, path: Path, store: ContentStore, content: bool, quiet: bool) -> Needs:
    """What an image that is open needs; see :func:`check`."""
    lock = _attached_lock(tree.opened, path) if tree.opened is not None else None
    needs = needs_of_config(dict(tree.config or {}), lock, path.name)
    image = tree.image
    if image is not None and tree.form == "oci":
        needs = with_layers(needs, image)
    elif path.is_file():
        needs = replace(needs, forms=("sif",), size=path.stat().st_size)
    if content and tree.opened is not None:
        needs = with_binaries(needs, declared_of(tree.opened, store, quiet))
    elif content:
        needs = _with_libc(needs, tree)
    return needs


def needs_of_config(config: Mapping[str, Any], lock: Lock | None, name: str) -> Needs:
    """What an image needs by its config, and by its lock where there is one; ``name`` if none is told."""
    from afenv.run.cvmfs import needed_revisions

    settings = config.get("config") or {}
    labels = settings.get("Labels") or {}
    environment = labels.get(media.ENVIRONMENT, "")
    locked = lock.environments.get(environment) if lock is not None else None
    mounted = tuple(
        CvmfsNeed(name=one.name, revision=one.revision, root_hash=one.root_hash)
        for one in needed_revisions(labels)
    )
    if lock is not None and locked is not None:
        return replace(_of_locked(lock.name, environment, locked, None, lock.data), cvmfs=mounted)
    return Needs(
        name=labels.get(media.ANALYSIS) or name,
        architecture=config.get("architecture"),
        gpu=gpu_of_variables(settings.get("Env") or (), ours=media.ANALYSIS in labels),
        cvmfs=mounted,
        packages=False,
    )


def with_layers(needs: Needs, image: Image) -> Needs:
    """The needs with what the manifest says of the layers."""
    kinds = {"zstd" if layer.media_type.endswith("zstd") else "gzip" for layer in image.layers}
    return replace(
        needs,
        compression=tuple(sorted(kinds)),
        layers=len(image.layers),
        size=sum(layer.size for layer in image.layers),
    )


def _with_libc(needs: Needs, tree: Tree) -> Needs:
    """The needs with the C library of a form without layers, of which not all programs are read."""
    for path, entry in tree.files(contents=False, keep=is_libc).items():
        found = read_file(path, entry.content) if entry.content else None
        if found is not None and found.glibc is not None:
            return replace(needs, glibc=found.glibc, kernel=found.kernel)
    return needs


_REQUIRED = re.compile(r"(?:^|[ ,])cuda>=(\d+\.\d+)")


def gpu_of_variables(variables: Sequence[str], *, ours: bool = False) -> GpuNeed | None:
    """The GPU need of an image without its lock, by its variables; None if it asks for none.

    An image of ``ours`` that requires no CUDA can do without a GPU.
    """
    from afenv.documents.cuda import cuda_tables, version

    values = dict(variable.partition("=")[::2] for variable in variables)
    text = values.get("CUDA_VERSION", "")
    toolkit = version(text)[:2] if text else None
    if values.get("NVIDIA_VISIBLE_DEVICES", "void") in ("void", "none", "") and not toolkit:
        return None
    tables = cuda_tables()
    least = tables.least_driver(toolkit) if toolkit else None
    required = [version(text) for text in _REQUIRED.findall(values.get("NVIDIA_REQUIRE_CUDA", ""))]
    if required and not toolkit:
        least = tables.full_driver(min(required))
    return GpuNeed(
        optional=ours and "NVIDIA_REQUIRE_CUDA" not in values,
        toolkit=toolkit or None,
        least_driver=least,
        full_driver=tables.full_driver(toolkit) if toolkit else None,
    )


def _attached_lock(opened: Any, path: Path) -> Lock | None:
    from afenv.oci.attached import read_attachments

    if not opened.index:
        return None
    for attachment in read_attachments(opened.index, opened.blobs, opened.image.manifest_digest, str(path)):
        if attachment.artifact_type == media.LOCK:
            return parse_lock(attachment.content, f"{path}, attached lock")
    return None


def declared_of(opened: Any, store: ContentStore, quiet: bool) -> Declared:
    """What the files of all layers declare; each layer is read once, and what was found is kept."""
    from afenv.progress import Progress

    layers = opened.image.layers
    known = [store.load_key(KIND, layer.diff_id) for layer in layers]
    left = sum(layer.size for layer, found in zip(layers, known, strict=True) if found is None)
    if not left:
        return together(declared_from_json(found) for found in known)
    parts = []
    with Progress("reading programs and libraries", left, quiet=quiet) as progress:
        for position, (layer, found) in enumerate(zip(layers, known, strict=True)):
            if found is None:
                declared = _declared_in(opened, position)
                store.save_key(KIND, layer.diff_id, declared.as_json())
                progress.advance(layer.size)
            else:
                declared = declared_from_json(found)
            parts.append(declared)
    return together(parts)


def _declared_in(opened: Any, position: int) -> Declared:
    from afenv.oci.blobs import read_to_end, stream_errors

    try:
        with opened.layer(position) as stream:
            declared = read_tar(stream)
            read_to_end(stream)
            return declared
    except stream_errors() as error:
        place = f"{opened.path}, layer {position + 1}"
        raise AfenvError("E510", f"a layer cannot be read: {error}", place=place) from None


def declared_before(image: Image, store: ContentStore) -> Declared | None:
    """What the files of an image's layers declare, if all of them were read on this machine before."""
    known = [store.load_key(KIND, layer.diff_id) for layer in image.layers]
    return None if None in known else together(declared_from_json(found) for found in known)


def as_text(found: Verdict) -> str:
    """A verdict for people."""
    words = {"runs": "runs at", "degraded": "runs degraded at", "cannot": "cannot run at"}
    sure = ", as far as is known" if found.unknown and found.outcome != "cannot" else ""
    how = f" with {found.runtime}" if found.runtime and found.outcome != "cannot" else ""
    lines = [f"{found.image} {words[found.outcome]} {found.facility}{how}{sure}"]
    marks = {"cannot": "✗", "degraded": "!", "unknown": "?", "runs": "✓"}
    for reason in found.reasons:
        lines.append(f"  {marks[reason.outcome]} {reason.message} [{reason.rule}]")
        if reason.remedy:
            lines.append(f"      {reason.remedy}")
    return "\n".join(lines)
