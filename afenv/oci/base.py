"""An image whose blobs are in the content store, as the base of another one.

:func:`base_of_image` makes what the lock holds of a base out of any image: one that was pulled, one that
another tool built and that was imported, one that afenv built itself. :func:`open_base` reads it. Layers are
read in place; each is held to its diff_id while it is read, and what they hold is kept, so that a layer is
read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import PATTERN, sha256_bytes
from afenv.documents.lock import LockedBase, LockedBaseLayer
from afenv.errors import AfenvError
from afenv.layers import base_facts
from afenv.layers.base_tree import VERSION, BaseTree, Folder, Kept, parse_tree
from afenv.oci import media
from afenv.oci.blobs import decompressed, stream_errors
from afenv.oci.files import Entry, Keep, LayerFiles, lay, read_layer
from afenv.oci.model import Image
from afenv.store.content import ContentStore

MEDIA_TYPES = {
    media.LAYER_TAR: media.LAYER_TAR,
    media.LAYER_GZIP: media.LAYER_GZIP,
    media.LAYER_ZSTD: media.LAYER_ZSTD,
    media.DOCKER_LAYER_TAR: media.LAYER_TAR,
    media.DOCKER_LAYER_GZIP: media.LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": media.LAYER_ZSTD,
}
# A user who is not to be taken over as the one that the image runs as.
_ROOT = ("", "root", "0")
_KIND = "base-tree"
_DAMAGED = "This image is damaged: choose another one, or tell those who made it."


@dataclass(frozen=True)
class StoredBase:
    """A base image whose layers are in ``store``; see :class:`afenv.layers.base_tree.OpenBase`."""

    layers: tuple[LockedBaseLayer, ...]
    store: ContentStore
    place: str

    @cached_property
    def tree(self) -> BaseTree:
        """What it holds: kept from an earlier time, or read from the layers.

        E301 if a layer is not what its diff_id says, E305 if one is not in the store, E510 if one is no
        tar.
        """
        pairs = [[layer.digest, layer.diff_id] for layer in self.layers]
        key = sha256_bytes(canonical.compact(["base-tree", VERSION, pairs]))
        known = self.store.load_key(_KIND, key)
        if isinstance(known, str) and self.store.has(known):
            try:
                return parse_tree(self.store.read(known))
            except (ValueError, AfenvError):
                pass  # damaged, or of another version: it is read again
        tree = _tree(*self._merged(_is_wanted))
        self.store.save_key(_KIND, key, self.store.put(tree.dump()))
        return tree

    def contents(self, paths: Collection[str]) -> dict[str, bytes]:
        """The content of regular files; E510 if one of them is not there, or larger than 64 MiB."""
        wanted = set(paths)
        for path in paths:  # a hard link has its content at another path
            target = self.tree.same.get(path)
            while target is not None and target not in wanted:
                wanted.add(target)
                target = self.tree.same.get(target)
        entries, _ = self._merged(wanted.__contains__)
        found = {}
        for path in paths:
            entry = entries.get(path)
            if entry is None or entry.content is None:
                raise AfenvError("E510", f"/{path} cannot be read from the base image", place=self.place)
            found[path] = entry.content
        return found

    def _merged(self, keep: Keep) -> tuple[dict[str, Entry], dict[str, str]]:
        """The files of all layers laid on one another, and the targets of hard links."""
        entries: dict[str, Entry] = {}
        same: dict[str, str] = {}
        for number, layer in enumerate(self.layers, 1):
            files = self._read(layer, number, keep)
            lay(entries, files)
            same |= files.same
        return entries, {path: target for path, target in same.items() if path in entries}

    def _read(self, layer: LockedBaseLayer, number: int, keep: Keep) -> LayerFiles:
        place = f"{self.place}, layer {number}"
        try:
            with self.store.open(layer.digest) as file, decompressed(file) as stream:
                hashing = _Hashing(stream)
                files = read_layer(hashing, contents=False, keep=keep)  # type: ignore[arg-type]
        except AfenvError as error:
            problem = error.problems[0]
            remedy = _DAMAGED if problem.code == "E510" else problem.remedy
            raise AfenvError(problem.code, problem.message, place=place, remedy=remedy) from None
        except stream_errors() as error:
            message = f"it cannot be inflated: {error}"
            raise AfenvError("E510", message, place=place, remedy=_DAMAGED) from None
        if hashing.digest() != layer.diff_id:
            raise AfenvError(
                "E301", f"the config says {layer.diff_id}, the content is {hashing.digest()}", place=place
            )
        return files


class _Hashing:
    """A stream that is hashed while it is read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def _is_wanted(path: str) -> bool:
    return base_facts.is_kept(path) or base_facts.is_program(path)


def _tree(entries: Mapping[str, Entry], same: Mapping[str, str]) -> BaseTree:
    kept, versions = {}, {}
    for path, entry in entries.items():
        if entry.content is None:
            continue
        if base_facts.is_kept(path):
            kept[path] = Kept(entry.mode, entry.content)
        else:
            version = base_facts.version_in(path, entry.content)
            if version is not None:
                versions[path] = version
    return BaseTree(
        folders={
            path: Folder(one.mode, one.uid, one.gid) for path, one in entries.items() if one.kind == "d"
        },
        files={path: one.size for path, one in entries.items() if one.kind == "f"},
        links={path: one.target for path, one in entries.items() if one.kind == "l"},
        others=frozenset(path for path, one in entries.items() if one.kind in "cbp"),
        same=same,
        kept=kept,
        versions=versions,
    )


def open_base(base: LockedBase, store: ContentStore) -> StoredBase:
    """The base that a lock has, whose layers are in ``store``."""
    return StoredBase(layers=base.layers, store=store, place=base.reference)


def base_of_image(
    image: Image, store: ContentStore, *, reference: str, platform: str, index: str | None = None
) -> tuple[LockedBase, StoredBase]:
    """What the lock holds of an image as a base; its blobs are in ``store``.

    ``reference`` is what the manifest calls it, ``platform`` that of the environment, ``index`` the
    digest of the index that it was chosen from. E112 if it cannot be a base: it is for another platform,
    or has layers that may not be distributed. E301 and E510 for layers that are not what they should be.
    """
    document = _document(image.manifest, reference)
    config = _document(image.config, reference)
    check_layers(document, reference)
    layers = _layers(image, reference)
    _check_platform(config, platform, reference)
    store.put(image.manifest)
    store.put(image.config)
    opened = StoredBase(layers=layers, store=store, place=reference)
    tree = opened.tree
    system = base_facts.operating_system(tree)
    user = str((config.get("config") or {}).get("User") or "")
    return (
        LockedBase(
            reference=reference,
            digest=image.manifest_digest,
            size=len(image.manifest),
            media_type=image.manifest_media_type,
            index=index if index != image.manifest_digest else None,
            config=image.image_id,
            config_size=len(image.config),
            layers=layers,
            system=str(system) if system else None,
            glibc=base_facts.glibc(tree, platform),
            shell=base_facts.shell(tree),
            user=None if user.partition(":")[0] in _ROOT else user,
            home=base_facts.home_of(tree, 1000),
            merged_usr=base_facts.is_merged(tree),
        ),
        opened,
    )


def _document(data: bytes, reference: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise AfenvError("E510", "its manifest or config is not a JSON object", place=reference)
    return value


def check_layers(manifest: Mapping[str, Any], reference: str) -> None:
    """E112 if an image manifest has layers that cannot be part of another image."""
    layers = manifest.get("layers") or ()
    if not layers:
        raise AfenvError("E112", "the image has no layers", place=reference)
    for number, layer in enumerate(layers, 1):
        place = f"{reference}, layer {number}"
        media_type = str(layer.get("mediaType"))
        if layer.get("urls") or "foreign" in media_type or "nondistributable" in media_type:
            message = "it is a foreign layer, which may not be passed on as part of another image"
            raise AfenvError("E112", message, place=place)
        if media_type not in MEDIA_TYPES:
            raise AfenvError("E112", f"it is a layer of the unknown type {media_type}", place=place)


def _layers(image: Image, reference: str) -> tuple[LockedBaseLayer, ...]:
    for number, layer in enumerate(image.layers, 1):
        if not (PATTERN.match(layer.digest) and PATTERN.match(layer.diff_id)):
            raise AfenvError("E112", "its digests are not sha256", place=f"{reference}, layer {number}")
    return tuple(
        LockedBaseLayer(
            diff_id=layer.diff_id,
            digest=layer.digest,
            size=layer.size,
            media_type=MEDIA_TYPES[layer.media_type],
        )
        for layer in image.layers
    )


def _check_platform(config: Mapping[str, Any], platform: str, reference: str) -> None:
    have = f"{config.get('os')}/{config.get('architecture')}"
    if have != "/".join(platform.split("/")[:2]):
        raise AfenvError(
            "E112",
            f"the image is for {have}, and the environment for {platform}",
            place=reference,
            remedy="Choose another tag, or another platform.",
        )
