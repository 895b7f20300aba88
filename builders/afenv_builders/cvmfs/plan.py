"""What is to be written so that an image is published: what the publication lacks, in an order in which
whatever is there is complete, and the name comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from afenv.oci.merge import Index
from afenv.oci.model import Blobs, Image, ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.oci.tar_node import Node, file_node, folder_node, link_node
from afenv.record import record
from afenv_builders.apptainer.builder import image_time
from afenv_builders.cvmfs.names import (
    CATALOGUE,
    FLAT,
    LAYERS,
    flat_path,
    layer_path,
    link_target,
    manifest_path,
)
from afenv_builders.cvmfs.state import State, origin_text
from afenv_builders.cvmfs.trees import flat_tree, layer_tree

Indexes = Mapping[int, Index]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A path that is written as a whole, or a single folder, file or link.

    ``nodes`` gives the nodes, relative to ``path``; a single thing is one node with an empty path. ``mtime``
    is the time of a tree's own folder.
    """

    path: str
    nodes: Callable[[Indexes], Iterator[Node]]
    tree: bool = False
    mtime: int = 0


@record
class Plan:
    """Parts in the order in which they are put in place; which layers are new, and which were there."""

    parts: tuple[Part, ...]
    added: tuple[str, ...]
    shared: tuple[str, ...]


class LeftOut:
    """What is not published of an image, each thing once."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def note(self, text: str) -> None:
        """One thing."""
        self._found[text.removeprefix("layerfs/")] = None

    def lines(self) -> tuple[str, ...]:
        """All of them, sorted: parts are made at the same time."""
        return tuple(sorted(self._found))


def plan(
    state: State,
    image: Image,
    blobs: Blobs,
    name: str,
    left_out: LeftOut,
    advance: Callable[[int], None] = lambda _: None,
) -> Plan:
    """What is missing of the image under ``name``; no parts if nothing is. E533 for what is in the way."""
    opened = OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=blobs), path=state.root)
    flat = flat_path(image.image_id)
    digests = {layer.digest: at for at, layer in enumerate(image.layers)}
    new = [digest for digest in digests if not state.has_layer(digest)]
    parts = [_layer(opened, digests[digest], state, left_out, advance) for digest in new]
    if not state.has_flat(image.image_id):
        time = image_time(image)

        def tree(indexes: Indexes) -> Iterator[Node]:
            return flat_tree(opened, indexes, left_out.note, advance)

        parts.append(Part(path=flat, nodes=tree, tree=True, mtime=time))
    for digest in digests:
        origin = state.origin(digest)
        if digest not in new and image.image_id not in origin:
            text = origin_text((*origin, image.image_id))
            parts.append(_file(f"{layer_path(digest)}/.metadata/origin.json", text))
    if not state.same(manifest_path(name), image.manifest):
        parts.append(_file(manifest_path(name), image.manifest, image_time(image)))
    target = link_target(name, image.image_id)
    if state.link(name) != target:
        parts.append(Part(path=name, nodes=lambda _: iter((link_node(b"", target.encode(), 0),))))
    for part in parts:
        state.check_folders(part.path)
    shared = tuple(digest for digest in digests if digest not in new)
    return Plan(parts=(*_folders(state, parts), *parts), added=tuple(new), shared=shared)


def _layer(
    opened: OpenedImage, position: int, state: State, left_out: LeftOut, advance: Callable[[int], None]
) -> Part:
    layer = opened.image.layers[position]
    origin = origin_text((*state.origin(layer.digest), opened.image.image_id))

    def tree(indexes: Indexes) -> Iterator[Node]:
        yield from layer_tree(opened, position, indexes, left_out.note, origin)
        advance(layer.size)

    return Part(path=layer_path(layer.digest), nodes=tree, tree=True)


def _file(path: str, content: bytes, mtime: int = 0) -> Part:
    return Part(path=path, nodes=lambda _: iter((file_node(b"", content, mtime),)))


def _folders(state: State, parts: list[Part]) -> Iterator[Part]:
    """The folders that the parts are in and the marks of catalogues, as far as they are missing."""
    wanted: dict[str, None] = {}
    for part in parts:
        steps = part.path.split("/")[:-1]
        for count in range(1, len(steps) + 1):
            folder = "/".join(steps[:count])
            wanted[folder] = None
            if folder in (FLAT, LAYERS) or (steps[0] == LAYERS and count == 2):
                wanted[f"{folder}/{CATALOGUE}"] = None
    for path in wanted:
        if not state.has(path):
            if path.endswith(f"/{CATALOGUE}"):
                yield _file(path, b"")
            else:
                yield Part(path=path, nodes=lambda _: iter((folder_node(b"", 0),)))
