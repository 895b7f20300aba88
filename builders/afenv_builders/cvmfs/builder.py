"""The builder of the target ``cvmfs``, and the publisher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER
from afenv.oci import media
from afenv.oci.model import Blobs, Descriptor, Image, ImageBlobs
from afenv.oci.publishing import Publication, PublishedImage, Removal, Target, folder_target
from afenv.progress import counted
from afenv.store.content import ContentStore
from afenv_builders.cvmfs.names import flat_path, name_of

MEDIA_TYPE = "inode/directory"
OPTIONS = frozenset(("target", "path", "quiet", "digest", "reference"))


class CvmfsBuilder:
    """Builds ``cvmfs``: a folder with the layout of unpacked.cern.ch, to which more images may be added.

    Options: ``path``; ``reference``, the name under which the image is published
    (``REGISTRY/REPOSITORY[:TAG]``; default: the image's own, in the registry ``localhost``); ``quiet``.
    """

    def supports(self, target: str) -> bool:
        """Whether ``target`` is ``cvmfs``."""
        return target == "cvmfs"

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Publish to the folder; E030 for unfit options, and what :meth:`publish` raises."""
        path = options.get("path")
        unknown = [name for name in sorted(options.keys() - OPTIONS) if isinstance(options[name], str)]
        if unknown:
            raise AfenvError("E030", f"the builder of 'cvmfs' has no option {unknown[0]!r}")
        if path is None:
            raise AfenvError("E030", "an output of kind 'cvmfs' needs a path to write to")
        reference = options.get("reference") or name_of(image)
        found = self.publish(
            image, store, reference, folder_target(Path(path)), quiet=bool(options.get("quiet"))
        )
        notes = {
            media.IMAGE_ID: image.image_id,
            media.PUBLISHED_NAME: found.name,
            media.PUBLISHED_PATH: found.path,
        }
        return Descriptor(
            media_type=MEDIA_TYPE, digest=image.manifest_digest, size=image.size, annotations=notes
        )

    def publish(
        self, image: Image, blobs: Blobs, reference: str, target: Target, *, quiet: bool = False
    ) -> Publication:
        """Publish an image; see :func:`afenv_builders.cvmfs.publishing.publish`."""
        from afenv_builders.cvmfs.publishing import publish

        return publish(image, blobs, reference, target, quiet=quiet)

    def images(self, target: Target) -> tuple[PublishedImage, ...]:
        """What is published, by name."""
        from afenv_builders.cvmfs.publishing import images

        return images(target)

    def remove(self, reference: str, target: Target) -> Removal:
        """Remove a name; the files stay until :meth:`collect`."""
        from afenv_builders.cvmfs.publishing import remove

        return remove(reference, target)

    def collect(self, target: Target) -> Removal:
        """Remove what no name leads to any more."""
        from afenv_builders.cvmfs.publishing import collect

        return collect(target)

    def check(self, image: Image, path: Path, store: ContentStore) -> None:
        """Compare the flat tree with the layers, file by file, as far as it is published; E406, E510."""
        import os

        from afenv.oci.diff import file_changes
        from afenv.oci.files import Entry, merged
        from afenv.oci.forms import open_tree
        from afenv.oci.read import OpenedImage
        from afenv.oci.tree import portable
        from afenv_builders.cvmfs.trees import published_mode

        def expected(entry: Entry) -> Entry:
            owners = {} if os.geteuid() == 0 else {"uid": 0, "gid": 0}
            if entry.kind in "fdp":
                mode = published_mode(FOLDER if entry.kind == "d" else FILE, entry.mode)
                return replace(entry, mode=mode, xattrs=(), **owners)  # type: ignore[arg-type]
            return replace(entry, xattrs=(), **owners)  # type: ignore[arg-type]

        opened = OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=store), path=store.folder)
        files = {name: entry for name, entry in merged(opened).items() if entry.kind not in "cb"}
        wanted = {name: expected(entry) for name, entry in portable(files).items()}
        place = path / flat_path(image.image_id)
        with open_tree(place) as tree:
            found = {name: expected(entry) for name, entry in portable(tree.files()).items()}
        changed = [change.as_text() for change in file_changes(wanted, found)[0]]
        if changed:
            count = counted(len(changed), "file")
            raise AfenvError(
                "E406",
                f"the flat tree is not as it was published in {count}, such as {changed[0]}",
                place=str(place),
                remedy="Remove the name, collect what it left, and publish again.",
            )
