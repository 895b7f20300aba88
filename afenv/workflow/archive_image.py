"""The image of an environment in a bag: one OCI layout for all environments, and a SIF of each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from afenv import canonical
from afenv.archive.items import Item, of_blob, of_bytes, of_file
from afenv.archive.names import IMAGE
from afenv.digest import hex_of
from afenv.documents.lock import Lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.layout import OCI_LAYOUT, small_blobs
from afenv.oci.model import Image
from afenv.record import record
from afenv.workflow.project import Project

TITLES = {
    media.SPDX: "sbom.spdx.json",
    media.IN_TOTO: "provenance.json",
    media.SIGSTORE_BUNDLE: "signature",
}


@record
class Packed:
    """An image that goes into the bag, and what is attached to it."""

    environment: str
    image: Image
    attachments: tuple[Attachment, ...]


def image_items(project: Project, packed: Sequence[Packed], omit: Iterable[str]) -> Iterator[Item]:
    """The files of one OCI layout with these images, without the layers of the digests ``omit``."""
    descriptors = []
    blobs: dict[str, bytes] = {}
    top: str | None = None
    for one in packed:
        index, small = small_blobs(one.image, None, one.attachments)
        value = json.loads(index)
        top = value["annotations"].get(media.ATTACHMENTS)
        (descriptor,) = value["manifests"]
        notes = descriptor.get("annotations", {}) | {media.ENVIRONMENT: one.environment}
        descriptors.append(descriptor | {"annotations": notes | ({media.ATTACHMENTS: top} if top else {})})
        blobs |= small
    annotations = {media.LAYOUT: "1"} | ({media.ATTACHMENTS: top} if top and len(packed) == 1 else {})
    whole = canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_INDEX,
            "manifests": descriptors,
            "annotations": annotations,
        }
    )
    yield of_bytes(f"{IMAGE}/oci-layout", OCI_LAYOUT, "image", "mark of an OCI image layout")
    yield of_bytes(f"{IMAGE}/index.json", whole, "image", "the images of the layout")
    left_out = set(omit)
    for digest in sorted(blobs):
        yield of_bytes(f"{IMAGE}/blobs/sha256/{hex_of(digest)}", blobs[digest], "image", "")
    seen = set(blobs)
    for one in packed:
        for layer in one.image.layers:
            if layer.digest in seen or layer.digest in left_out:
                continue
            seen.add(layer.digest)
            path = f"{IMAGE}/blobs/sha256/{hex_of(layer.digest)}"
            yield of_blob(path, project.store, layer.digest, "image", f"layer {layer.source}".strip())


def document_items(packed: Sequence[Packed]) -> Iterator[Item]:
    """What is attached to the images as files, for people: bills of materials, provenance, signatures."""
    for one in packed:
        number = 0
        for attachment in one.attachments:
            title = TITLES.get(attachment.artifact_type)
            if title is None:
                continue
            if attachment.artifact_type == media.SIGSTORE_BUNDLE:
                number += 1
                title = f"signatures/{number}.sigstore.json"
            about = f"{attachment.title or title} of the image of {one.environment}"
            yield of_bytes(f"attached/{one.environment}/{title}", attachment.content, "documents", about)


@contextmanager
def sif_items(project: Project, packed: Sequence[Packed]) -> Iterator[list[Item]]:
    """A SIF of each image, in files that last as long as the block; E520's kin where tools are missing."""
    from afenv.oci.builders import find_builder

    with tempfile.TemporaryDirectory(dir=project.store.temporary_folder(), prefix="sif-") as folder:
        items = []
        for one in packed:
            path = Path(folder) / f"{one.environment}.sif"
            options = {
                "target": "sif",
                "path": path,
                "quiet": project.quiet,
                "digest": False,
                "attachments": one.attachments,
            }
            try:
                find_builder("sif").build(one.image, project.store, options)
            except AfenvError as error:
                if error.exit_status != 3:
                    raise
                problem = error.problems[0]
                remedy = problem.remedy or "Install what is missing."
                raise AfenvError(
                    problem.code,
                    f"the archive is to have a SIF: {problem.message}",
                    place=problem.place,
                    remedy=f"{remedy} Or leave the SIF out with --no-sif.",
                ) from None
            items.append(
                of_file(f"sif/{path.name}", path, "sif", f"image of {one.environment} for Apptainer")
            )
        yield items


def layers_with(lock: Lock, environment: str, image: Image, packages: Iterable[str]) -> dict[str, str]:
    """The layers of an image that hold some packages (``KIND:NAME``): what they hold, by digest."""
    from afenv.layers.plan import layer_source, plan_layers

    wanted = set(packages)
    sources = {}
    for planned in plan_layers(lock.environments[environment], lock.code):
        kind = {"debian": "debian", "conda": "conda", "pypi": "pypi"}.get(planned.kind)
        names = {
            f"{kind}:{name}"
            for name in (
                *(one.name for one in planned.debs),
                *(one.name for one in planned.conda),
                *(one.name for one in planned.wheels),
            )
        }
        if names & wanted:
            sources[layer_source(planned)] = ", ".join(sorted(names & wanted))
    return {layer.digest: sources[layer.source] for layer in image.layers if layer.source in sources}
