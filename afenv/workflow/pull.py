"""Bringing what a registry has to a file or folder: images, images for many platforms, SIFs, documents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.artifact import File, files_of
from afenv.oci.graph import is_index
from afenv.oci.registries import RemoteManifest, find_registry
from afenv.record import record
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.oci.attached import Attachment
    from afenv.oci.model import Image


@record
class Pulled:
    """What was brought: ``kind`` is ``image``, ``index``, ``sif`` or ``files``; ``paths`` where it is."""

    kind: str
    reference: str
    digest: str
    paths: tuple[Path, ...]
    image_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What ``afenv pull --json`` prints."""
        return {
            "kind": self.kind,
            "reference": self.reference,
            "manifest_digest": self.digest,
            "image_id": self.image_id,
            "paths": [str(path) for path in self.paths],
        }


def pull(
    reference: str,
    folder: Path,
    output: Path | None,
    store: ContentStore,
    *,
    platform: str | None = None,
    all_platforms: bool = False,
    quiet: bool = False,
) -> Pulled:
    """Bring what ``reference`` names to ``output`` (default: a name made of the reference, in ``folder``).

    An image becomes an OCI layout with what is attached to it, or an archive if the name ends in ``.tar``,
    or a SIF if it ends in ``.sif``; what is a SIF stays one; of other artifacts the files are written.
    E032 if there is something else at the place, E604 if the registry has nothing of that name, E301 and
    E302 if it sends what it should not.
    """
    graph = find_registry().pull_graph(reference, store, whole=all_platforms, platform=platform, quiet=quiet)
    name = _canonical(reference)
    exact = f"{name}@{graph.root.digest}"
    if is_index(graph.root):
        from afenv.oci.graph_layout import write_graph

        path = output or folder / f"{_last(name)}.oci"
        write_graph(graph, store, path, name)
        return Pulled(kind="index", reference=exact, digest=graph.root.digest, paths=(path,))
    files = files_of(graph.root)
    if files is not None:
        return _write_files(exact, graph.root.digest, files, folder, output, store)
    image = _image(graph.root, name, store)
    path = output or folder / f"{_last(name)}.oci"
    _write_image(image, store, path, reference, quiet)
    return Pulled(
        kind="image", reference=exact, digest=graph.root.digest, paths=(path,), image_id=image.image_id
    )


def _canonical(reference: str) -> str:
    """The reference with a tag, and without a digest and what other tools write before it."""
    name = reference.removeprefix("oras://").removeprefix("docker://").partition("@")[0]
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _last(name: str) -> str:
    """The last part of a repository's name."""
    return name.rpartition("/")[2].partition(":")[0]


def _image(manifest: RemoteManifest, name: str, store: ContentStore) -> Image:
    from afenv.oci.read import image_from

    try:
        config = store.read(manifest.document()["config"]["digest"])
        return image_from(config, manifest.content, name, name)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AfenvError("E510", f"this is not an image: {error}", place=name) from None


def _attached(image: Image, reference: str, quiet: bool) -> list[Attachment]:
    """What belongs to the image in the registry; none where the registry does not let it be read."""
    from afenv.oci.referrers import fetch_attachments

    try:
        with find_registry().repository(reference, actions="pull", quiet=quiet) as repository:
            return fetch_attachments(repository, image.manifest_digest)
    except AfenvError as error:
        if error.code not in ("E510", "E601", "E602", "E604"):
            raise
        if not quiet:
            text = error.problems[0].render()
            sys.stderr.write(f"warning: what is attached to the image is not pulled: {text}\n")
        return []


def _write_image(image: Image, store: ContentStore, path: Path, reference: str, quiet: bool) -> None:
    target = {".tar": "oci-archive", ".sif": "sif"}.get(path.suffix)
    if target is None:
        from afenv.oci.layout import write_layout

        write_layout(image, store, path, attachments=_attached(image, reference, quiet))
        return
    from afenv.oci.builders import find_builder

    find_builder(target).build(image, store, {"target": target, "path": path, "quiet": quiet})


def _write_files(
    place: str,
    digest: str,
    files: tuple[File, ...],
    folder: Path,
    output: Path | None,
    store: ContentStore,
) -> Pulled:
    name = _last(place.partition("@")[0])
    if not files:
        raise AfenvError("E510", "there is no file in it", place=place)
    sif = len(files) == 1 and files[0].media_type == media.SIF_LAYER
    if len(files) == 1:
        default = f"{name}.sif" if sif else files[0].title or name
        path = output or folder / default
        targets = [path / default if path.is_dir() else path]
    else:
        base = output or folder / name
        if any(not one.title for one in files) or len({one.title for one in files}) < len(files):
            raise AfenvError("E510", "its files have no names, or not each its own", place=place)
        targets = [base / one.title for one in files]
    for file, target in zip(files, targets, strict=True):
        _place(store, file, target)
    return Pulled(kind="sif" if sif else "files", reference=place, digest=digest, paths=tuple(targets))


def _place(store: ContentStore, file: File, target: Path) -> None:
    from afenv.digest import sha256_file

    if target.is_symlink() or target.exists():
        if target.is_file() and sha256_file(target) == file.digest:
            return
        raise AfenvError("E032", "this exists already, and is something else", place=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    store.link_or_copy(file.digest, target)
