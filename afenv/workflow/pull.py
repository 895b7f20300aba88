"""Bringing what a registry has to a file or folder: images, images for many platforms, SIFs, documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.artifact import File, files_of
from afenv.oci.registries import Registry, RemoteImage, RemoteManifest, find_registry
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.oci.model import Image


@dataclass(frozen=True, kw_only=True, slots=True)
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

    An image becomes an OCI layout, or an archive if the name ends in ``.tar``, or a SIF if it ends in
    ``.sif``; what is a SIF stays one; of other artifacts the files are written. E032 if there is something
    else at the place, E604 if the registry has nothing of that name, E301 and E302 if it sends what it
    should not.
    """
    registry = find_registry()
    if all_platforms:
        return _pull_all(registry, reference, folder, output, store, quiet)
    remote = registry.resolve(reference, platform=platform, quiet=quiet)
    manifest = RemoteManifest(content=remote.manifest, media_type=remote.media_type)
    files = files_of(manifest)
    if files is not None:
        return _pull_files(registry, remote, files, folder, output, store, quiet)
    image = registry.pull(remote.reference, store, quiet=quiet)  # by digest: a tag may move meanwhile
    path = output or folder / f"{_name(remote.reference)}.oci"
    _write_image(image, store, path, quiet)
    return Pulled(
        kind="image",
        reference=remote.reference,
        digest=image.manifest_digest,
        paths=(path,),
        image_id=image.image_id,
    )


def _name(reference: str) -> str:
    """The last part of a repository's name."""
    return reference.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]


def _write_image(image: Image, store: ContentStore, path: Path, quiet: bool) -> None:
    from afenv.oci.builders import find_builder

    target = {".tar": "oci-archive", ".sif": "sif"}.get(path.suffix, "oci")
    find_builder(target).build(image, store, {"target": target, "path": path, "quiet": quiet})


def _pull_all(
    registry: Registry, reference: str, folder: Path, output: Path | None, store: ContentStore, quiet: bool
) -> Pulled:
    from afenv.oci.graph_layout import write_graph

    graph = registry.pull_graph(reference, store, quiet=quiet)
    path = output or folder / f"{_name(reference)}.oci"
    write_graph(graph, store, path, reference)
    return Pulled(kind="index", reference=reference, digest=graph.root.digest, paths=(path,))


def _pull_files(
    registry: Registry,
    remote: RemoteImage,
    files: tuple[File, ...],
    folder: Path,
    output: Path | None,
    store: ContentStore,
    quiet: bool,
) -> Pulled:
    place = remote.reference
    if not files:
        raise AfenvError("E510", "there is no file in it", place=place)
    exact = f"{place.partition('@')[0]}@{remote.digest}"
    registry.pull_graph(exact, store, quiet=quiet)
    sif = len(files) == 1 and files[0].media_type == media.SIF_LAYER
    if len(files) == 1:
        default = f"{_name(place)}.sif" if sif else files[0].title or _name(place)
        path = output or folder / default
        targets = [path / default if path.is_dir() else path]
    else:
        base = output or folder / _name(place)
        if any(not one.title for one in files) or len({one.title for one in files}) < len(files):
            raise AfenvError("E510", "its files have no names, or not each its own", place=place)
        targets = [base / one.title for one in files]
    for file, target in zip(files, targets, strict=True):
        _place(store, file, target)
    return Pulled(kind="sif" if sif else "files", reference=place, digest=remote.digest, paths=tuple(targets))


def _place(store: ContentStore, file: File, target: Path) -> None:
    from afenv.digest import sha256_file

    if target.is_symlink() or target.exists():
        if target.is_file() and sha256_file(target) == file.digest:
            return
        raise AfenvError("E032", "this exists already, and is something else", place=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    store.link_or_copy(file.digest, target)
